-- What operators and alarms read.

-- How the claimed events stand, the soonest first: of the given ones, or of all that are in progress, or start later than a day
-- ago.
-- Returns [{"event_id", "name", "status" (the app's), "starts_at", "ends_at", "state", "reason", "collection",
-- "collection_error", "claimed_at", "settled_at", "reconciled_at", "jobs": {"queued": n, …}, "skipped": {reason: n},
-- "failed": {reason: n}, "open": {error of the last attempt, or "": n}, "index_calls", "oldest_open", "last_ended",
-- "ended_lately": jobs ended in the last two minutes, "paused": see paused_by}, …].
create or replace function public.indexing_progress(events uuid[] default null) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(progress) order by progress.starts_at, progress.event_id), '[]')
  from (
    select
      r.event_id, left(e.name, 200) as name, e.status, r.starts_at, r.ends_at, r.state, r.reason,
      r.collection, r.collection_error, r.claimed_at, r.settled_at, r.reconciled_at,
      coalesce(totals.jobs, '{}') as jobs, coalesce(totals.skipped, '{}') as skipped,
      coalesce(totals.failed, '{}') as failed, coalesce(totals.open, '{}') as open,
      totals.index_calls, totals.oldest_open, totals.last_ended, totals.ended_lately, indexing.paused_by(r.event_id) as paused
    from indexing.event_runs r
    left join indexing.app_events() e using (event_id)
    cross join lateral (
      with mine as materialized (
        select state, reason, left(error, 200) as error, index_calls, queued_at, ended_at
        from indexing.face_jobs j where j.event_id = r.event_id
      ), jobs as (select state, count(*) as n from mine group by state),
      skipped as (select coalesce(reason, 'unknown') as reason, count(*) as n from mine where state = 'skipped' group by 1),
      failed as (select coalesce(reason, 'unknown') as reason, count(*) as n from mine where state = 'failed' group by 1),
      open as (
        select coalesce(error, '') as error, count(*) as n from mine where ended_at is null group by 1 order by n desc limit 20
      )
      select
        (select jsonb_object_agg(state, n) from jobs) as jobs,
        (select jsonb_object_agg(reason, n) from skipped) as skipped,
        (select jsonb_object_agg(reason, n) from failed) as failed,
        (select jsonb_object_agg(error, n) from open) as open,
        coalesce(sum(index_calls), 0) as index_calls,
        min(queued_at) filter (where ended_at is null) as oldest_open,
        max(ended_at) as last_ended,
        count(*) filter (where ended_at > clock_timestamp() - interval '2 minutes') as ended_lately
      from mine
    ) totals
    where case when events is null then r.state = 'in_progress' or r.starts_at > now() - interval '1 day'
      else r.event_id = any (events) end
  ) progress
$$;

-- The jobs of an event, a page at a time in the order of user_id: those after the given one, of the given states or of all.
-- Returns [{"user_id", "state", "reason", "error", "attempts", "index_calls", "face_id", "photo_key": the one that was looked at
-- last, or that is missing in the bucket}, …].
create or replace function public.indexing_jobs(
  event uuid, states text[] default null, after uuid default null, page integer default 1000
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(job) order by job.user_id), '[]') from (
    select
      j.user_id, j.state, j.reason, j.error, j.attempts, j.index_calls, j.face_id,
      coalesce(j.missing_key, j.photo_key) as photo_key
    from indexing.face_jobs j
    where j.event_id = event and (states is null or j.state = any (states)) and (after is null or j.user_id > after)
    order by j.user_id limit page
  ) job
$$;

-- What the app wants of those who consent to an event, claimed or not, as if it were active; a page at a time in the order of
-- user_id. Returns [{"user_id", "photo_key", "reason": why there is no photo to be indexed, or null}, …].
create or replace function public.indexing_rehearsal(event uuid, after uuid default null, page integer default 1000) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(wanted) order by wanted.user_id), '[]') from (
    select
      c.user_id, nullif(d.reason, 'event_inactive') as reason,
      case when d.reason = 'event_inactive' then d.profile_key else d.photo_key end as photo_key
    from (
      select c.user_id from indexing.app_consents() c
      where c.event_id = event and (after is null or c.user_id > after)
      order by c.user_id limit page
    ) c cross join lateral indexing.desired(event, c.user_id) d
  ) wanted
$$;

-- The jobs of one attendee, with their last attempts: of one event, or of all.
-- Returns [{"event_id", "state", "reason", "error", "version", "queued_at", "ended_at", "attempts", "index_calls", "photo_key",
-- "face_id", "look_again_at", "desired_reason", "history": [{"at", "outcome", "reason", "error"}, …]}, …].
create or replace function public.indexing_attendee(attendee uuid, event uuid default null) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(job) order by job.starts_at desc, job.event_id), '[]') from (
    select
      j.event_id, j.starts_at, j.state, j.reason, j.error, j.version, j.queued_at, j.ended_at, j.attempts, j.index_calls,
      coalesce(j.missing_key, j.photo_key) as photo_key, j.face_id, j.look_again_at, d.reason as desired_reason, j.history
    from indexing.face_jobs j cross join lateral indexing.desired(j.event_id, j.user_id) d
    where j.user_id = attendee and (indexing_attendee.event is null or j.event_id = indexing_attendee.event)
    limit 1000
  ) job
$$;

-- When each event in progress will be done, at the present pace and in this order: the soonest start first, events that are over
-- last; an event that is over is never late. A paused event delays no other; its own time is that of resuming it now.
-- Returns {"tps": the quota, "rate": calls a second at this moment, fewer for a while after Rekognition has throttled,
-- "events": [{"event_id", "starts_at", "open": jobs to do, "done_at", "late": whether that is after its start, "paused"}, …]}.
create or replace function public.indexing_forecast() returns jsonb
language sql stable security definer set search_path = '' as $$
  with open as (
    select j.event_id, count(*) as jobs from indexing.face_jobs j where j.ended_at is null group by j.event_id
  ), in_order as (
    select
      r.event_id, r.starts_at, r.ends_at <= now() as over, coalesce(open.jobs, 0) as jobs, paused.paused,
      clock_timestamp() + make_interval(secs => (
        sum(case when paused.paused then 0 else coalesce(open.jobs, 0) end) over (order by r.ends_at <= now(), r.starts_at, r.event_id)
        + case when paused.paused then coalesce(open.jobs, 0) else 0 end
      ) / indexing.current_rate()) as done_at
    from indexing.event_runs r
    cross join lateral (select indexing.paused_by(r.event_id) is not null as paused) paused
    left join open using (event_id)
    where r.state = 'in_progress'
  )
  select jsonb_build_object(
    'tps', s.index_faces_tps,
    'rate', indexing.current_rate(),
    'events', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'event_id', event_id, 'starts_at', starts_at, 'open', jobs, 'done_at', done_at, 'late', not over and done_at > starts_at,
        'paused', paused
      ) order by over, starts_at, event_id), '[]')
      from in_order
    )
  )
  from indexing.settings s
$$;

-- Events of the app that are not claimed, the soonest first: of the given ones, or of all that wait for it and start within
-- a day or should have started within the last one.
-- Returns [{"event_id", "name", "status" (the app's), "starts_at", "active", "paused", "attendees" (who consent), "held_by": of an
-- event that is due, who holds its row locked, as app_event_holder has it}, …].
create or replace function public.indexing_unclaimed(events uuid[] default null) returns jsonb
language sql volatile security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(unclaimed) order by unclaimed.starts_at, unclaimed.event_id), '[]')
  from (
    select
      e.event_id, left(e.name, 200) as name, e.status, e.starts_at, e.active, indexing.paused_by(e.event_id) as paused,
      (select count(*) from indexing.app_consents() c where c.event_id = e.event_id) as attendees,
      case when e.active and e.status = 'pending' and e.starts_at < now() + interval '20 minutes'
        then indexing.app_event_holder(e.event_id) end as held_by
    from indexing.app_events() e
    where not exists (select from indexing.event_runs r where r.event_id = e.event_id and r.state = 'in_progress')
      and case when events is null
        then e.status = 'pending' and not e.closed
          and e.starts_at between case when e.active then now() - interval '1 day' else now() end and now() + interval '1 day'
        else e.event_id = any (events) and not exists (select from indexing.event_runs r where r.event_id = e.event_id) end
  ) unclaimed
$$;

-- Messages from the dead-letter queue that we could not read and that nobody has acknowledged, the latest first, a page at a
-- time.
--   before_at, before_id  of the last one of the page before; nulls at the start
-- Returns {"total": how many are kept, "letters": [{"message_id", "received_at", "problem", "body", "attributes"}, …]}.
create or replace function public.indexing_dead_letters(
  before_at timestamptz default null, before_id text default null, page integer default 50
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'total', (select count(*) from indexing.dead_letters d where d.acknowledged_at is null),
    'letters', coalesce(jsonb_agg(to_jsonb(letter) order by letter.received_at desc, letter.message_id desc), '[]')
  )
  from (
    select d.message_id, d.received_at, d.problem, d.body, d.attributes
    from indexing.dead_letters d
    where d.acknowledged_at is null and (before_at is null or (d.received_at, d.message_id) < (before_at, before_id))
    order by d.received_at desc, d.message_id desc
    limit page
  ) letter
$$;

-- Acknowledges such messages: these, or for a null all of them. They stay in the table and are listed no more. Returns how many.
create or replace function public.indexing_acknowledge_dead_letters(messages text[] default null) returns integer
language plpgsql security definer set search_path = '' as $$
declare
  acknowledged integer;
begin
  update indexing.dead_letters d set acknowledged_at = clock_timestamp()
  where d.acknowledged_at is null and (messages is null or d.message_id = any (messages));
  get diagnostics acknowledged = row_count;
  return acknowledged;
end
$$;

-- The jobs of an event whose attendee's id begins with the given text, or whose name contains it: at most 50, as jobs has them.
--   name_column  the column of the app's profiles that holds names; null: names are not looked at
create or replace function public.indexing_find_jobs(event uuid, wanted text, name_column text default null) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(job) order by job.user_id), '[]') from (
    select
      j.user_id, j.state, j.reason, j.error, j.attempts, j.index_calls, j.face_id,
      coalesce(j.missing_key, j.photo_key) as photo_key
    from indexing.face_jobs j
    where j.event_id = event and (
      starts_with(j.user_id::text, lower(wanted))
      or name_column is not null and exists (
        select from indexing.app_names_of(array[j.user_id], name_column) n where position(lower(wanted) in lower(n.name)) > 0
      )
    )
    order by j.user_id limit 50
  ) job
$$;

-- The names of attendees in that column of the app's profiles, cut to 200 characters: {user_id: name}. Read on an operator's
-- wish alone; never logged.
create or replace function public.indexing_names(attendees uuid[], name_column text) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_object_agg(n.user_id, left(n.name, 200)), '{}') from indexing.app_names_of(attendees, name_column) n
$$;

-- What alarms are made of, as the ledger has it now. Ages in seconds, 0 where nothing waits.
--   failed_jobs         of events that are not over
--   failed_events       that are not over
--   collections_failing whose last attempt failed
--   overdue_events      due by the window, active, and not claimed
--   erasure_age         of the oldest erasure that is not done
--   unproven_age        of the oldest erasure that no later listing has shown to be done
--   change_age          of the oldest change that is not processed
--   full_changes        1 when changes are no longer noted: see indexing.note
create or replace function public.indexing_health(window_minutes double precision) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'failed_jobs', (
      select count(*) from indexing.face_jobs j join indexing.event_runs r using (event_id)
      where j.state = 'failed' and r.ends_at > now()
    ),
    'failed_events', (select count(*) from indexing.event_runs r where r.state = 'failed' and r.ends_at > now()),
    'collections_failing', (
      select count(*) from indexing.event_runs r where r.collection in ('missing', 'closing') and r.collection_attempts > 0
    ),
    'overdue_events', (
      select count(*) from indexing.app_events() e
      where e.active and not e.closed and e.status = 'pending' and e.ends_at > now() - indexing.claimable_age()
        and e.starts_at <= now() + make_interval(secs => window_minutes * 60)
    ),
    'erasure_age', (
      select coalesce(extract(epoch from clock_timestamp() - min(j.queued_at)), 0) from indexing.face_jobs j
      where j.priority = 0 and j.ended_at is null
    ),
    'unproven_age', (
      select coalesce(extract(epoch from clock_timestamp() - min(e.noted_at)), 0) from indexing.erasures e
      where e.verified_at is null and e.wanted_again_at is null
    ),
    'change_age', (
      select coalesce(extract(epoch from clock_timestamp() - min(oldest.noted_at)), 0)
      from unnest(enum_range(null::indexing.change_source)) s(source)
      cross join (values (true), (false)) e(erases)
      cross join lateral (
        select c.noted_at from indexing.changes c where c.erases = e.erases and c.source = s.source order by c.id limit 1
      ) oldest
    ),
    'full_changes', (pg_catalog.pg_relation_size('indexing.changes') > indexing.most_bytes_of_changes())::integer
  )
$$;

-- How many of an event's jobs had their outcome by when: at up to `points` moments between its claim and its last outcome.
-- Returns [{"at", "ended": n}, …]. A job that is repeated counts by its last outcome.
create or replace function public.indexing_curve(event uuid, points integer default 100) returns jsonb
language sql stable security definer set search_path = '' as $$
  with ended as (
    select j.ended_at, greatest(0, extract(epoch from j.ended_at - r.claimed_at)) as second
    from indexing.event_runs r join indexing.face_jobs j using (event_id)
    where r.event_id = event and j.ended_at is not null
  ), steps as (
    select ended_at, ceil(second * points / nullif((select max(second) from ended), 0)) as step from ended
  )
  select coalesce(jsonb_agg(jsonb_build_object('at', at, 'ended', n) order by at), '[]') from (
    select max(ended_at) as at, sum(count(*)) over (order by step)::integer as n from steps group by step
  ) curve
$$;
