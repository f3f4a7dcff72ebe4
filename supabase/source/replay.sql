-- Queues jobs again that have failed, or that were skipped for the given reason, and puts their failed events back in progress.
--   event     of this event; null: of all
--   attendee  of this attendee alone; null: of all
--   why       the reason that the ledger gives, of failed and of skipped jobs; null: every failed job
--   dry_run   whether to say only what would be done, for all pages at once
--   after     what the call before returned as last; null: from the beginning
--   page      how many jobs may be queued
-- An event whose collection could not be made is tried anew as a whole. A completed event stays completed. Returns {"jobs": n,
-- "events": [event_id, …], "held": [event_id, …], "last": {"event_id", "user_id"}}: held are those whose row the app holds locked;
-- they are left as they are; last is null when nothing is left.
create or replace function public.indexing_replay(
  event uuid default null, attendee uuid default null, why text default null, dry_run boolean default false,
  after jsonb default null, page integer default 5000
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  chosen uuid[];
  free uuid[];
  events uuid[];
  users uuid[];
begin
  perform indexing.lock_ledger();
  select coalesce(array_agg(j.event_id), '{}'), coalesce(array_agg(j.user_id), '{}') into events, users from (
    select j.event_id, j.user_id from indexing.face_jobs j
    where (event is null or j.event_id = event) and (attendee is null or j.user_id = attendee)
      and (j.state = 'failed' and (why is null or j.reason = why) or j.state = 'skipped' and j.reason = why)
      and (after is null or (j.event_id, j.user_id) > ((after ->> 'event_id')::uuid, (after ->> 'user_id')::uuid))
    order by j.event_id, j.user_id limit case when not dry_run then page end for update
  ) j;
  chosen := array(
    select unnest(events)
    union
    select r.event_id from indexing.event_runs r
    where (event is null or r.event_id = event) and attendee is null and after is null
      and r.state = 'failed' and r.reason = 'collection_failed' and (why is null or why = 'collection_failed')
    order by 1
  );
  perform from indexing.event_runs r where r.event_id = any (chosen) order by r.event_id for update;
  free := indexing.app_lock_events(chosen);

  if not dry_run then
    perform indexing.queue_jobs(array_agg(u.event_id), array_agg(u.user_id), forget_photo => true, urgent => false)
    from unnest(events, users) as u(event_id, user_id) where u.event_id = any (free);
    update indexing.event_runs r set
      state = 'in_progress', reason = null, settled_at = null,
      collection_attempts = 0, collection_error = null, collection_due = clock_timestamp()
    where r.event_id = any (free) and r.state = 'failed';
    perform indexing.app_set_status(free, array['failed'], 'in_progress');
  end if;
  return jsonb_build_object(
    'jobs', (select count(*) from unnest(events) e where e = any (free)), 'events', to_jsonb(free),
    'held', coalesce((select jsonb_agg(id) from unnest(chosen) id where id <> all (free)), '[]'),
    'last', case when not dry_run and cardinality(events) = page
      then jsonb_build_object('event_id', events[page], 'user_id', users[page]) end
  );
end
$$;
