-- Queues jobs again that have failed, or that were skipped for the given reason, and puts their events back in progress.
--   event     of this event; null: of all
--   attendee  of this attendee alone; null: of all
--   why       the reason that the ledger gives, of failed and of skipped jobs; null: every failed job
-- An event whose collection could not be made is tried anew as a whole. Returns {"jobs": n, "events": [event_id, …],
-- "held": [event_id, …]}: held are those whose row in the app's table is locked at this moment; they are left as they are.
create or replace function public.indexing_replay(
  event uuid default null, attendee uuid default null, why text default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  chosen uuid[]; -- events to be put back
  free uuid[];   -- those of them that nobody holds
  replayed integer;
begin
  perform indexing.take_turn();
  select array_agg(found.event_id) into chosen from (
    select j.event_id from indexing.face_jobs j
    where (event is null or j.event_id = event) and (attendee is null or j.user_id = attendee)
      and (j.state = 'failed' and (why is null or j.reason = why) or j.state = 'skipped' and j.reason = why)
    union
    select r.event_id from indexing.event_runs r
    where (event is null or r.event_id = event) and attendee is null
      and r.state = 'failed' and r.reason = 'collection_failed' and (why is null or why = 'collection_failed')
  ) found;

  perform from indexing.face_jobs j
  where j.event_id = any (chosen) and j.state in ('failed', 'skipped')
  order by j.event_id, j.user_id for update;
  perform from indexing.event_runs r where r.event_id = any (chosen) order by r.event_id for update;
  select coalesce(array_agg(held.event_id), '{}') into free from (
    select e.event_id from public.events e where e.event_id = any (chosen) for no key update skip locked
  ) held;

  update indexing.face_jobs j set
    state = 'queued', version = j.version + 1, attempts = 0, dead_letters = 0, reason = null, error = null,
    queued_at = now, ended_at = null, refused_photo = null, refused_for = null
  where j.event_id = any (free) and (attendee is null or j.user_id = attendee)
    and (j.state = 'failed' and (why is null or j.reason = why) or j.state = 'skipped' and j.reason = why);
  get diagnostics replayed = row_count;

  update indexing.event_runs r set
    state = 'in_progress', reason = null, settled_at = null,
    collection_attempts = 0, collection_error = null, collection_due = now
  where r.event_id = any (free);
  update public.events e set indexing_status = 'in_progress'
  where e.event_id = any (free) and e.indexing_status <> 'pending'; -- that one is claimed anew
  return jsonb_build_object(
    'jobs', replayed, 'events', to_jsonb(free),
    'held', coalesce((select jsonb_agg(id) from unnest(chosen) id where id <> all (free)), '[]')
  );
end
$$;

select indexing.close_functions();
