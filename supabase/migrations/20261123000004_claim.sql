-- Whatever brings jobs into the ledger takes turns: between two statements of a claim nobody may discard a change
-- as one of an event that is not claimed.
create or replace function indexing.take_turn() returns void
language sql set search_path = '' as $$
  select pg_advisory_xact_lock(hashtext('indexing.face_jobs'))
$$;

-- The events that wait for their claim, found without a look at those that are settled.
create index if not exists indexing_events_waiting on public.events (starts_at)
  where is_active and indexing_status = 'pending';

-- Claims the events that start within the window: active, pending, starts_at <= now + window. Those of the next day, too,
-- that could not be done in time otherwise: when what is queued and what starts before them, at the pace of this moment and
-- with a fifth to spare, takes until their start.
--   window_minutes  from 0 to 10080
--   tps             IndexFaces calls a second of the whole account; null: the window alone decides
-- Returns {"events": [event_id, …]}, each in exactly one caller's answer. A claim opens the run; its jobs are written by
-- indexing_expand once the collection is there, so a claim of any size is a matter of milliseconds.
create or replace function public.indexing_claim(
  window_minutes double precision, tps double precision default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  open_jobs bigint := 0;
  rate double precision; -- calls a second at this moment
  claimed jsonb;
begin
  if window_minutes is null or window_minutes not between 0 and 10080 then
    raise exception 'window_minutes must be a number from 0 to 10080, not %', coalesce(window_minutes::text, 'null')
      using errcode = 'invalid_parameter_value';
  end if;
  perform indexing.take_turn();
  if tps is not null then
    select count(*) into open_jobs from indexing.face_jobs j where j.ended_at is null;
    update indexing.pace p set quota = indexing_claim.tps where p.only_row and p.quota is distinct from indexing_claim.tps;
    select indexing.recovered_rate(p.rate, p.rate_since, indexing_claim.tps) into rate from indexing.pace p;
  end if;

  with waiting as (
    select e.event_id, e.starts_at, sum(case when tps is not null then (
      select count(*) from public.event_consents c where c.event_id = e.event_id and c.allow_recognition
    ) end) over (order by e.starts_at, e.event_id) as attendees_until
    from public.events e
    where e.is_active and e.indexing_status = 'pending'
      and e.starts_at <= now + greatest(make_interval(secs => window_minutes * 60), interval '1 day')
    order by e.starts_at, e.event_id
    limit 1000
  ), due as (
    select e.event_id, e.starts_at
    from public.events e join waiting using (event_id)
    where e.is_active and e.indexing_status = 'pending' and (
      e.starts_at <= now + make_interval(secs => window_minutes * 60)
      or e.starts_at <= now + make_interval(secs => 1.2 * (open_jobs + waiting.attendees_until) / rate)
    )
    for no key update of e skip locked -- an event that the app holds is claimed by the next run
  ), marked as (
    update public.events e set indexing_status = 'in_progress'
    from due where e.event_id = due.event_id
    returning e.event_id
  ), opened as (
    -- An event that was set back to pending by hand is looked at anew, its collection included.
    insert into indexing.event_runs as r (event_id, starts_at)
    select event_id, starts_at from due join marked using (event_id) order by event_id
    on conflict (event_id) do update set
      state = 'in_progress', reason = null, starts_at = excluded.starts_at,
      claimed_at = clock_timestamp(), expanded_through = null, expanded_at = null, settled_at = null,
      collection = 'missing', collection_attempts = 0, collection_error = null, collection_due = clock_timestamp()
    returning r.event_id, r.starts_at
  )
  select coalesce(jsonb_agg(event_id order by starts_at, event_id), '[]') into claimed from opened;
  return jsonb_build_object('events', claimed);
end
$$;

-- Writes one page of jobs for claimed events that do not have all of their own yet, the soonest first: one for each attendee
-- who consents now, and for each whom the ledger knows from before. Who consents later comes as a change. Who has changed a
-- photo or taken a consent back in the minute before is looked at a second time, a minute later: see indexing_absorb.
-- Returns {"jobs": written, "more": whether to call again}.
create or replace function public.indexing_expand(page integer default 10000) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  run indexing.event_runs;
  attendees uuid[];
  room integer := page;
  looked_at integer := 0;
  written integer;
  total integer := 0;
begin
  perform indexing.take_turn();
  while room > 0 loop
    select * into run from indexing.event_runs r
    where r.state = 'in_progress' and r.expanded_at is null and r.collection = 'ready'
    order by r.starts_at, r.event_id limit 1;
    exit when not found;
    -- Jobs that are there already may be held by a worker that waits for others that are held here: one such event a call.
    exit when looked_at > 0 and exists (select from indexing.face_jobs j where j.event_id = run.event_id);
    looked_at := looked_at + 1;

    select array_agg(user_id order by user_id) into attendees from (
      (select c.user_id from public.event_consents c
       where c.event_id = run.event_id and c.allow_recognition
         and (run.expanded_through is null or c.user_id > run.expanded_through)
       order by c.user_id limit room)
      union
      (select j.user_id from indexing.face_jobs j
       where j.event_id = run.event_id
         and (run.expanded_through is null or j.user_id > run.expanded_through)
       order by j.user_id limit room)
      union
      (select c.user_id from indexing.recent_changes c
       where c.event_id = run.event_id and (run.expanded_through is null or c.user_id > run.expanded_through)
       order by c.user_id limit room)
      order by user_id limit room
    ) next;

    perform from indexing.face_jobs j
    where j.event_id = run.event_id and j.user_id = any (attendees)
    order by j.user_id for update;

    insert into indexing.face_jobs as j (event_id, user_id, due, second_look_at)
    select run.event_id, attendee, run.starts_at, case when exists (
      select from indexing.recent_changes c
      where c.user_id = attendee and (c.event_id is null or c.event_id = run.event_id)
        and c.noted_at > clock_timestamp() - interval '1 minute'
    ) then clock_timestamp() + interval '1 minute' end
    from unnest(attendees) as attendee
    on conflict (event_id, user_id) do update set
      state = case when j.state = 'running' then j.state else 'queued' end,
      version = j.version + 1, attempts = 0, dead_letters = 0, error = null, reason = null,
      unconfirmed = true, -- the collection may be another than the one that the ledger knew
      refused_photo = null, refused_for = null, second_look_at = coalesce(excluded.second_look_at, j.second_look_at),
      due = excluded.due, queued_at = clock_timestamp(), ended_at = null
    where j.queued_at < run.claimed_at; -- else a change since the claim has queued it already
    get diagnostics written = row_count;

    update indexing.event_runs r set
      expanded_through = coalesce(attendees[cardinality(attendees)], r.expanded_through),
      expanded_at = case when coalesce(cardinality(attendees), 0) < room then clock_timestamp() end
    where r.event_id = run.event_id;
    perform indexing.settle(array[run.event_id]); -- nobody consents: nothing is left to do
    total := total + written;
    room := room - greatest(coalesce(cardinality(attendees), 0), 1); -- an event without attendees costs its share of time, too
  end loop;
  return jsonb_build_object('jobs', total, 'more', looked_at > 0);
end
$$;

select indexing.close_functions();
