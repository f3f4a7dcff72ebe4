-- What a worker asks before and says after its calls, each in one statement for the whole batch.

-- First things first: a batch has as many places as it has messages, whatever these say. Jobs that nobody has tried yet and
-- that are more urgent take the places of its least urgent jobs, and jobs whose messages are still in the queue those of
-- messages that want nothing any more. So the order is the ledger's at the last moment, whatever lies in the queue before what.
-- There are never fewer messages than jobs that wait for one: a job that gives its place to one from the queue is left that
-- one's message, and goes to the outbox where there is none. Whatever queues a job gives it a new version.
-- Takes one item for each message and returns one for each job, [{"event_id", "user_id", "version"}, …]; locks the jobs that
-- it returns.
create or replace function indexing.put_urgent_first(messages jsonb, token uuid) returns jsonb
language plpgsql set search_path = '' set enable_bitmapscan = off as $$ -- in the queue's order, whatever the statistics say
declare
  now constant timestamptz := clock_timestamp();
  no_collection constant uuid[] := indexing.without_collection();
  answer jsonb;
begin
  -- Asked again with the same token: what it was given the first time.
  perform from indexing.face_jobs j
  where j.state = 'running' and j.lease_token = token order by j.event_id, j.user_id for update;
  if found then
    return (
      select jsonb_agg(jsonb_build_object('event_id', j.event_id, 'user_id', j.user_id, 'version', j.version))
      from indexing.face_jobs j where j.state = 'running' and j.lease_token = token
    );
  end if;

  perform from indexing.face_jobs j
  join jsonb_to_recordset(messages) as m(event_id uuid, user_id uuid) using (event_id, user_id)
  order by j.event_id, j.user_id for update of j;

  with asked as (
    select m.event_id, m.user_id, max(m.version) as version
    from jsonb_to_recordset(messages) as m(event_id uuid, user_id uuid, version integer)
    group by m.event_id, m.user_id
  ), found as materialized ( -- by their keys, whatever the statistics say of their states
    select j.event_id, j.user_id, j.due, j.state, j.error
    from asked join indexing.face_jobs j using (event_id, user_id)
    where j.version <= asked.version
      and (j.state in ('queued', 'sent') or (j.state = 'running' and j.lease_until <= now))
  ), spare as (
    -- A job whose worker was lost waits for no message: the one that names it may be another's place, who then has it, too.
    select jsonb_array_length(messages) - (select count(*) from found where state <> 'running') as places
  ), from_queue as materialized (
    select j.event_id, j.user_id, j.version
    from indexing.face_jobs j
    where j.state = 'sent' and j.error is null and j.event_id <> all (no_collection)
      and not exists (select from found f where f.event_id = j.event_id and f.user_id = j.user_id)
    order by j.due, j.event_id, j.user_id
    limit (select places from spare)
    for update skip locked
  ), from_outbox as materialized (
    select j.event_id, j.user_id, j.version
    from indexing.face_jobs j
    where j.state = 'queued' and j.error is null and j.event_id <> all (no_collection)
    order by j.due, j.event_id, j.user_id
    limit (select places from spare) - (select count(*) from from_queue)
    for update skip locked
  ), given as (
    select * from from_queue union all select * from from_outbox
  ), waiting as (
    select f.*, row_number() over (order by f.due desc, f.event_id, f.user_id) as place
    from found f where f.state <> 'running'
  ), urgent as materialized (
    select u.*, row_number() over (order by u.due, u.event_id, u.user_id) as place from (
      (select j.event_id, j.user_id, j.due, j.state from indexing.face_jobs j
       where j.state = 'sent' and j.error is null and j.event_id <> all (no_collection)
         and j.due < (select max(due) from waiting)
       order by j.due, j.event_id, j.user_id limit (select 2 * count(*) from asked))
      union all
      (select j.event_id, j.user_id, j.due, j.state from indexing.face_jobs j
       where j.state = 'queued' and j.error is null and j.event_id <> all (no_collection)
         and j.due < (select max(due) from waiting)
       order by j.due, j.event_id, j.user_id limit (select 2 * count(*) from asked))
    ) u
    where not exists (select from waiting w where w.event_id = u.event_id and w.user_id = u.user_id)
      and not exists (select from given g where g.event_id = u.event_id and g.user_id = u.user_id)
  ), plan as (
    select
      count(*) filter (where u.state = 'sent') as of_queue, count(*) filter (where u.state = 'queued') as of_outbox,
      min(w.due) as before
    from waiting w join urgent u on u.place = w.place and u.due < w.due
  ), taken_from_queue as materialized ( -- no job is locked that is not taken: whoever passes over a lock may rely on it
    select j.event_id, j.user_id, j.version, j.due, j.state
    from indexing.face_jobs j
    where j.state = 'sent' and j.error is null and j.event_id <> all (no_collection) and j.due < (select before from plan)
      and not exists (select from waiting w where w.event_id = j.event_id and w.user_id = j.user_id)
    order by j.due, j.event_id, j.user_id limit (select of_queue from plan)
    for update skip locked
  ), taken_from_outbox as materialized (
    select j.event_id, j.user_id, j.version, j.due, j.state
    from indexing.face_jobs j
    where j.state = 'queued' and j.error is null and j.event_id <> all (no_collection) and j.due < (select before from plan)
    order by j.due, j.event_id, j.user_id limit (select of_outbox from plan)
    for update skip locked
  ), taken as (
    select t.*, row_number() over (order by t.due, t.event_id, t.user_id) as place
    from (select * from taken_from_queue union all select * from taken_from_outbox) t
    where not exists (select from given g where g.event_id = t.event_id and g.user_id = t.user_id)
  ), displaced as (
    select w.event_id, w.user_id, t.state = 'queued' or w.error is not null as without_message
    from waiting w join taken t using (place)
  ), put_back as (
    update indexing.face_jobs j set state = 'queued', version = j.version + 1
    from displaced d where j.event_id = d.event_id and j.user_id = d.user_id and d.without_message
  ), chosen as (
    select a.* from asked a
    where not exists (select from displaced d where d.event_id = a.event_id and d.user_id = a.user_id)
    union all select event_id, user_id, version from taken
    union all select * from given
  )
  select jsonb_agg(to_jsonb(chosen)) into answer from chosen;
  return answer;
end
$$;

-- Says what each message needs now, by what the app wants at this moment, and leases those jobs that need a call.
--   messages       [{"event_id", "user_id", "version"}, …], one for each message: they are as many places for jobs
--   token          of the lease, made by the worker: asked again with the same one (the answer was lost), it answers again
--   lease_seconds  longer than the worker may live and any of its calls may take to land
--   tps            IndexFaces calls a second of the whole account
-- Returns {"pace": {"first_ms", "every_ms"}, "jobs": [{
--   "event_id", "user_id", "version",
--   "action":  "index" | "erase" | "none" (it has ended, a newer message comes, or another worker has it),
--   "photo":   what to index,
--   "keep":    the face in the collection, as far as we know, that is of this photo or may stay; or null,
--   "faces":   others known to be in the collection: to be erased,
--   "list":    whether the collection may hold faces that we do not know,
--   "refused": the reason for which Rekognition has found no use for this photo before; or null
-- }, …]}. Jobs may be among them that were not asked for, in the place of others: see put_urgent_first.
create or replace function public.indexing_begin(
  messages jsonb, token uuid, lease_seconds double precision, tps double precision
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  jobs jsonb;
  ended uuid[];
begin
  messages := indexing.put_urgent_first(messages, token);

  with asked as (
    select m.event_id, m.user_id, max(m.version) as version
    from jsonb_to_recordset(messages) as m(event_id uuid, user_id uuid, version integer)
    group by m.event_id, m.user_id
  ), found as materialized ( -- by their keys, whatever the statistics say of their states
    select j.*, asked.version as asked_version from asked join indexing.face_jobs j using (event_id, user_id)
  ), open as (
    -- A message older than its job is passed over: a newer one is on its way. So is one whose job is leased: whoever
    -- ends the lease sees whether there is more to do.
    select
      j.event_id, j.user_id, w.photo, coalesce(w.reason, j.refused_for) as reason, coalesce(w.tenure, false) as tenure,
      case when w.photo is not null then j.face_photo is distinct from w.photo
          and (j.face_id is not null or j.refused_photo is distinct from w.photo)
        else j.face_id is not null and w.tenure is not true end
      or cardinality(j.stray_face_ids) > 0 or j.unconfirmed as call_needed
    from found j
    join indexing.wishes w using (event_id, user_id)
    where (j.asked_version >= j.version or j.lease_token = token)
      and (j.state in ('queued', 'sent') or (j.state = 'running' and (j.lease_until <= now or j.lease_token = token)))
  ), closed as (
    update indexing.face_jobs j set
      state = case when j.face_id is not null then 'indexed' else indexing.end_without_face(open.reason) end,
      reason = case when j.face_id is null or open.tenure then open.reason end, error = null, ended_at = now,
      lease_token = null, lease_until = null, leased_version = null
    from open
    where j.event_id = open.event_id and j.user_id = open.user_id and not open.call_needed
    returning j.event_id
  ), leased as (
    update indexing.face_jobs j set
      state = 'running', attempts = j.attempts + case when j.lease_token = token then 0 else 1 end,
      lease_token = token, lease_until = now + make_interval(secs => lease_seconds), leased_version = j.version,
      unconfirmed = j.unconfirmed or open.photo is not null
    from open
    where j.event_id = open.event_id and j.user_id = open.user_id and open.call_needed
    returning
      j.event_id, j.user_id, j.version, open.photo, j.stray_face_ids,
      j.face_id, open.tenure or j.face_photo is not distinct from open.photo as stays,
      case when j.refused_photo = open.photo then j.refused_for end as refused
  )
  select
    jsonb_agg(jsonb_build_object(
      'event_id', asked.event_id, 'user_id', asked.user_id, 'version', coalesce(l.version, asked.version),
      'action', case when l.event_id is null then 'none' when l.photo is not null then 'index' else 'erase' end,
      'photo', l.photo,
      'keep', case when l.stays then l.face_id end,
      'faces', case when l.face_id is null or l.stays then l.stray_face_ids else l.stray_face_ids || l.face_id end,
      'list', coalesce(before.unconfirmed, false),
      'refused', l.refused
    )),
    (select array_agg(distinct event_id) from closed)
  into jobs, ended
  from asked
  left join leased l using (event_id, user_id)
  left join indexing.face_jobs before using (event_id, user_id); -- as it was when this statement began

  if ended is not null then
    perform indexing.settle(ended);
  end if;
  return jsonb_build_object(
    'jobs', coalesce(jobs, '[]'),
    -- Last, since all workers wait for one another here.
    'pace', indexing.take_slots((
      select count(*)::integer from jsonb_array_elements(jobs) as job
      where job ->> 'action' = 'index' and job ->> 'keep' is null and job ->> 'refused' is null
    ), tps)
  );
end
$$;

-- Records what came of a batch and settles the events whose last job it was.
--   token      of the batch's lease
--   results    [{
--     "event_id", "user_id",
--     "outcome": "indexed" | "erased" | "skipped" | "failed" | "retry" (the message comes again) | "later" (through the outbox)
--                | "unclear" (a call was not answered and may still land: nobody may act before quiet_seconds have passed),
--     "photo":   whose face was to be indexed; null for an erasure,
--     "face_id": the face that is in the collection and may stay, or null,
--     "faces":   [others that are in the collection],
--     "certain": whether that is all the collection holds of this attendee,
--     "reason", "error": of what went wrong or was skipped, in one word and as it was said; or null,
--     "calls":   IndexFaces calls made
--   }, …]
--   throttled  whether Rekognition throttled a call
--   tps        as in indexing_begin
-- Returns [{"event_id", "user_id", "version", "next": "ended" | "retry" | "later" | "again" (the world has changed: look at
-- it at once) | "lost" (the lease had passed to another; recorded, and the job queued for certainty)}, …]. Said twice (the
-- answer was lost), it changes nothing the second time.
create or replace function public.indexing_finish(
  token uuid, results jsonb, throttled boolean, quiet_seconds double precision, tps double precision
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  nexts jsonb;
  ended uuid[];
begin
  perform from indexing.face_jobs j
  join jsonb_to_recordset(results) as r(event_id uuid, user_id uuid) using (event_id, user_id)
  order by j.event_id, j.user_id for update of j;

  with read as (
    select
      r.*, w.reason as against, run.starts_at,
      case
        when j.finished_token = token then 'repeated'
        when j.lease_token is distinct from token then 'lost'
        when r.outcome = 'unclear' then 'unclear'
        when r.outcome = 'later' then 'later'
        when j.version > j.leased_version              -- a change was noted while the worker was at it, or
          or r.photo is distinct from w.photo          -- the app wants something else than what was done,
          or (r.photo is null and r.face_id is not null and w.tenure is not true) then 'again'
        when r.outcome = 'retry' then 'retry'
        else 'ended'
      end as next
    from jsonb_to_recordset(results) as r(
      event_id uuid, user_id uuid, outcome text, photo text, face_id text, faces text[], certain boolean,
      reason text, error text, calls integer
    )
    join indexing.face_jobs j using (event_id, user_id)
    join indexing.wishes w using (event_id, user_id)
    join indexing.event_runs run using (event_id)
  ), judged as (
    -- The face of another photo that is still there: that photo may be wanted again before this one can be read.
    select r.*, case when r.face_id is null and (next <> 'ended' or r.outcome = 'failed') and j.face_id = any (r.faces)
      then j.face_id end as kept
    from read r join indexing.face_jobs j using (event_id, user_id)
  ), recorded as (
    update indexing.face_jobs j set
      state = case next
        when 'lost' then case when j.state = 'running' then 'running' else 'queued' end
        when 'unclear' then 'running'
        when 'retry' then 'sent'
        when 'ended' then case
          when r.outcome = 'failed' then 'failed'
          when r.face_id is not null then 'indexed'
          when r.outcome = 'skipped' then 'skipped'
          else indexing.end_without_face(r.against) end
        else 'queued' end,
      reason = coalesce(r.reason, case when next = 'ended' then r.against end),
      error = r.error,
      index_calls = j.index_calls + r.calls,

      -- A result without its lease may have crossed with another's calls: believed as far as it names faces, no further.
      face_id = case when next = 'lost' or kept is not null then j.face_id
        when coalesce(r.photo, j.face_photo) is not null then r.face_id end, -- else it was forgotten meanwhile
      face_photo = case when next = 'lost' or kept is not null then j.face_photo
        when r.face_id is not null then coalesce(r.photo, j.face_photo) end,
      stray_face_ids = case when next = 'lost' then array(
          select unnest(j.stray_face_ids) union select unnest(r.faces)
          union select r.face_id where r.face_id is distinct from j.face_id and r.face_id is not null)
        else array_remove(r.faces, kept) end,
      unconfirmed = next = 'lost' or not r.certain or j.version > j.leased_version,
      refused_photo = case when r.outcome = 'skipped' and r.photo is not null then r.photo else j.refused_photo end,
      refused_for = case when r.outcome = 'skipped' and r.photo is not null then r.reason else j.refused_for end,

      version = j.version + case
        when next in ('lost', 'later') or (next = 'again' and j.version = j.leased_version) then 1 else 0 end,
      attempts = case when next in ('again', 'lost') then 0 when next = 'later' then greatest(j.attempts - 1, 0)
        else j.attempts end,
      due = case when r.against = 'no_consent' then '-infinity' else r.starts_at end,
      queued_at = case when next in ('again', 'later', 'lost') then now else j.queued_at end,
      sent_at = case when next = 'retry' then now else j.sent_at end,
      lease_token = case when next in ('lost', 'unclear') then j.lease_token end,
      lease_until = case next when 'lost' then j.lease_until
        when 'unclear' then now + make_interval(secs => quiet_seconds) end,
      leased_version = case when next in ('lost', 'unclear') then j.leased_version end,
      finished_token = token,
      ended_at = case when next = 'ended' then now end
    from judged r
    where j.event_id = r.event_id and j.user_id = r.user_id and next <> 'repeated'
    returning j.event_id, j.user_id, j.version, case next when 'unclear' then 'retry' else next end as next
  ), answered as (
    select * from recorded
    union all
    select j.event_id, j.user_id, j.version,
      case j.state when 'sent' then 'retry' when 'running' then 'retry' when 'queued' then 'later' else 'ended' end
    from judged join indexing.face_jobs j using (event_id, user_id)
    where judged.next = 'repeated'
  )
  select
    coalesce(jsonb_agg(jsonb_build_object('event_id', event_id, 'user_id', user_id, 'version', version, 'next', next)), '[]'),
    array_agg(distinct event_id) filter (where next = 'ended')
  into nexts, ended
  from answered;

  if ended is not null then
    perform indexing.settle(ended);
  end if;
  if throttled then
    perform indexing.slow_down(tps);
  end if;
  return nexts;
end
$$;

select indexing.close_functions();
