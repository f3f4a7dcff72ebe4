-- The first call of a scheduler run: writes down what the deployment sets; nulls: nothing. Returns {"schema_version"}.
create or replace function public.indexing_start_run(
  tps double precision, max_failed_share double precision, cleanup_after_hours double precision default null,
  collection_prefix text default null, photo_bucket text default null,
  several_faces text default null, convert_photos boolean default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  update indexing.settings s set
    index_faces_tps = tps, max_failed_share = indexing_start_run.max_failed_share,
    cleanup_after_hours = indexing_start_run.cleanup_after_hours,
    collection_prefix = indexing_start_run.collection_prefix, photo_bucket = indexing_start_run.photo_bucket,
    several_faces = indexing_start_run.several_faces, convert_photos = indexing_start_run.convert_photos
  where s.only_row
    and (s.index_faces_tps, s.max_failed_share, s.cleanup_after_hours, s.collection_prefix, s.photo_bucket,
         s.several_faces, s.convert_photos) is distinct from
      (tps, indexing_start_run.max_failed_share, indexing_start_run.cleanup_after_hours,
       indexing_start_run.collection_prefix, indexing_start_run.photo_bucket,
       indexing_start_run.several_faces, indexing_start_run.convert_photos);
  return jsonb_build_object('schema_version', public.indexing_schema_version());
end
$$;

-- Claims the events that start within the window. Those of the next day, too, that could not be done in time otherwise: when
-- what is queued and what starts before them, at the present pace and with a fifth to spare, takes until their start.
-- An event that ended so long ago that its clean-up is due is not claimed (see claimable_age), nor one whose old collection is still being deleted.
--   window_minutes  from 0 to 10080
-- Returns {"events": [event_id, …], "locked": [event_id, …]}: each claimed event is in exactly one caller's answer; the
-- locked ones are due, but the app holds their rows. A claim opens the event run; fan_out writes the jobs.
create or replace function public.indexing_claim(window_minutes double precision) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  open_jobs bigint;
  rate constant double precision := indexing.current_rate();
  ended_after constant timestamptz := now - indexing.claimable_age();
  due uuid[];
  claimed uuid[];
begin
  if window_minutes is null or window_minutes not between 0 and 10080 then
    raise exception 'window_minutes must be a number from 0 to 10080, not %', coalesce(window_minutes::text, 'null')
      using errcode = 'invalid_parameter_value';
  end if;
  perform indexing.lock_ledger();
  select count(*) into open_jobs from indexing.face_jobs j where j.ended_at is null and j.priority < 2;

  with waiting as (
    select e.event_id, e.starts_at, e.ends_at <= now as over, sum((
      select count(*) from indexing.app_consents() c where c.event_id = e.event_id
    )) over (order by e.ends_at <= now, e.starts_at, e.event_id) as attendees_until
    from indexing.app_events() e
    where e.active and not e.closed and e.status = 'pending'
      and e.starts_at <= now + greatest(make_interval(secs => window_minutes * 60), interval '1 day')
      and e.ends_at > ended_after
      and not exists (select from indexing.event_runs r where r.event_id = e.event_id and r.collection = 'closing')
    order by over, e.starts_at, e.event_id
    limit 1000
  )
  select coalesce(array_agg(w.event_id order by over, w.starts_at, w.event_id), '{}') into due from waiting w
  where w.starts_at <= now + make_interval(secs => window_minutes * 60)
    or w.starts_at <= now + make_interval(secs => 1.2 * (open_jobs + w.attendees_until) / rate);

  claimed := indexing.app_lock_events(due);
  claimed := indexing.app_set_status(claimed, array['pending'], 'in_progress');

  -- An event that was set back to pending is looked at anew, its collection included.
  insert into indexing.event_runs as r (event_id, starts_at, ends_at)
  select e.event_id, e.starts_at, e.ends_at from indexing.app_events() e where e.event_id = any (claimed)
  order by e.event_id
  on conflict (event_id) do update set
    state = 'in_progress', reason = null, starts_at = excluded.starts_at, ends_at = excluded.ends_at,
    claimed_at = clock_timestamp(), fanned_out_through = null, fanned_out_at = null, settled_at = null,
    collection = 'missing', collection_attempts = 0, collection_error = null, collection_due = clock_timestamp(),
    closed_at = null, cleaning = false, reconcile_due = excluded.reconcile_due;

  return jsonb_build_object(
    'events', coalesce((select jsonb_agg(x order by p) from unnest(due) with ordinality as d(x, p) where x = any (claimed)), '[]'),
    'locked', coalesce((select jsonb_agg(x order by p) from unnest(due) with ordinality as d(x, p)
      where x <> all (claimed)
        and exists (select from indexing.app_events() e where e.event_id = x and e.status = 'pending')), '[]')
  );
end
$$;

-- Writes one page of the jobs of claimed events, the soonest first: one for each attendee who consents now, and one for each
-- whom the ledger knows from before. Later consents come as changes. Returns {"jobs": written, "more": whether to call again}.
create or replace function public.indexing_fan_out(page integer default 10000) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  run indexing.event_runs;
  attendees uuid[];
begin
  perform indexing.lock_ledger();
  select * into run from indexing.event_runs r
  where r.state = 'in_progress' and r.fanned_out_at is null and r.collection = 'ready'
  order by r.ends_at <= now(), r.starts_at, r.event_id limit 1;
  if not found then
    return jsonb_build_object('jobs', 0, 'more', false);
  end if;

  attendees := array(
    (select c.user_id from indexing.app_consents() c
     where c.event_id = run.event_id and (run.fanned_out_through is null or c.user_id > run.fanned_out_through)
     order by c.user_id limit page)
    union
    (select j.user_id from indexing.face_jobs j
     where j.event_id = run.event_id and (run.fanned_out_through is null or j.user_id > run.fanned_out_through)
     order by j.user_id limit page)
    order by user_id limit page
  );

  -- Attendees known from before; those who changed since the claim are queued already.
  perform indexing.queue_jobs(array_agg(j.event_id), array_agg(j.user_id), urgent => false)
  from indexing.face_jobs j
  where j.event_id = run.event_id and j.user_id = any (attendees) and j.queued_at < run.claimed_at;

  insert into indexing.face_jobs (event_id, user_id, priority, starts_at)
  select run.event_id, attendee, indexing.job_priority(false, run.ends_at), run.starts_at
  from unnest(attendees) attendee
  on conflict (event_id, user_id) do nothing;

  update indexing.event_runs r set
    fanned_out_through = coalesce(attendees[cardinality(attendees)], r.fanned_out_through),
    fanned_out_at = case when cardinality(attendees) < page then clock_timestamp() end
  where r.event_id = run.event_id;
  perform indexing.settle(array[run.event_id]); -- nobody consents: nothing is left to do
  return jsonb_build_object('jobs', cardinality(attendees), 'more', true);
end
$$;
