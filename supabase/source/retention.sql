-- How what is stored about people ends: the clean-up of events that are over, the pruning of rows that nobody needs any more,
-- and erasures that an operator asks for.

-- How long ago an event may have ended to be claimed: its clean-up would come at once. An app that cleans up by itself is taken
-- to do so after 24 hours.
create or replace function indexing.claimable_age() returns interval
language sql stable set search_path = '' as $$
  select make_interval(secs => 3600 * coalesce(s.cleanup_after_hours, 24)) from indexing.settings s
$$;

-- Cleans up, if it is set: events that ended longer ago are marked as the app's own clean-up would, from pending to in_progress;
-- the change of that closes their runs. When the collection is gone they are completed. Besides, finds events that were closed
-- or deleted, or put back after that, without a trigger that told of it. A page of each.
-- Returns {"closing": n, "completed": n, "found": n, "more": whether to call again}.
create or replace function public.indexing_cleanup(page integer) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  before constant timestamptz := (
    select clock_timestamp() - make_interval(secs => 3600 * s.cleanup_after_hours) from indexing.settings s
  );
  chosen uuid[];
  closing uuid[];
  gone uuid[];
  held uuid[];
  found_changed integer;
begin
  chosen := array(
    select r.event_id from indexing.event_runs r join indexing.app_events() e on e.event_id = r.event_id
    where r.collection in ('missing', 'ready') and not e.closed and e.ends_at < before
    order by r.event_id limit page for update of r skip locked
  );
  held := indexing.app_lock_events(chosen);
  -- Read again: until it was locked, the app may have changed it.
  closing := indexing.app_set_cleanup(array(
    select e.event_id from indexing.app_events() e where e.event_id = any (held) and e.ends_at < before
  ), 'pending', 'in_progress');
  update indexing.event_runs r set cleaning = true where r.event_id = any (closing);

  gone := array(
    select r.event_id from indexing.event_runs r where r.cleaning and r.collection = 'deleted'
    order by r.event_id limit page for update skip locked
  );
  held := indexing.app_lock_events(gone);
  perform indexing.app_set_cleanup(held, 'in_progress', 'completed');
  update indexing.event_runs r set cleaning = false where r.event_id = any (held);

  insert into indexing.changes (source, event_id, erases)
  select 'events', changed.event_id, changed.erases
  from (
    select r.event_id, true as erases
    from indexing.event_runs r left join indexing.app_events() e on e.event_id = r.event_id
    where r.collection in ('missing', 'ready') and (e.event_id is null or e.closed)
    union all
    select r.event_id, false
    from indexing.event_runs r join indexing.app_events() e on e.event_id = r.event_id
    where r.collection in ('closing', 'deleted') and e.active and not e.closed and e.status <> 'pending'
      and e.ends_at > clock_timestamp() - indexing.claimable_age()
  ) changed
  where not exists (
    select from indexing.changes c
    where c.source = 'events' and c.erases = changed.erases and c.event_id = changed.event_id
  )
  limit page;
  get diagnostics found_changed = row_count;
  return jsonb_build_object(
    'closing', cardinality(closing), 'completed', cardinality(held), 'found', found_changed,
    'more', cardinality(closing) = page or cardinality(held) = page
  );
end
$$;

-- Deletes a page of what nobody needs any more.
--   keep_days     jobs and run of an event, so long after its collection was deleted; the job of an attendee who was erased, so
--                 long after that and after the event's end; messages of the dead-letter queue that were kept; the log of
--                 what operators have done, and of what reconciles have found
--   receipt_days  receipts; the chain begins after them then
-- Not what is not settled, nor what failed in an event that is not over, nor an erasure that is not proven. Returns {"jobs": n,
-- "runs": n, "letters": n, "receipts": n, "more": whether to call again}.
create or replace function public.indexing_prune(
  keep_days double precision, receipt_days double precision, page integer
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  cutoff constant timestamptz := now - make_interval(secs => 86400 * keep_days);
  jobs integer;
  runs integer;
  letters integer;
  receipts integer := 0;
  last_receipt indexing.receipts;
begin
  perform indexing.lock_ledger();
  with closed as (
    select o.event_id, o.ends_at from indexing.event_runs o
    where o.collection = 'deleted' and o.closed_at < cutoff
      and exists (select from indexing.face_jobs j where j.event_id = o.event_id)
    order by o.closed_at, o.event_id limit 100
  ), of_closed as (
    select k.event_id, k.user_id from closed join indexing.face_jobs k using (event_id)
    where k.ended_at is not null and not (k.state = 'failed' and closed.ends_at > now)
    limit page for update of k skip locked
  ), erased as (
    select k.event_id, k.user_id from indexing.face_jobs k join indexing.event_runs r using (event_id)
    where k.state = 'erased' and k.ended_at < cutoff and r.ends_at < cutoff and r.collection <> 'deleted'
      and not exists (select from indexing.erasures e where e.event_id = k.event_id and e.user_id = k.user_id)
    order by k.ended_at limit page for update of k skip locked
  )
  delete from indexing.face_jobs j
  using (select * from of_closed union select * from erased) old
  where j.event_id = old.event_id and j.user_id = old.user_id;
  get diagnostics jobs = row_count;

  delete from indexing.event_runs r
  where r.event_id = any (array(
    select o.event_id from indexing.event_runs o
    where o.collection = 'deleted' and o.closed_at < cutoff and o.state <> 'in_progress' and not o.cleaning
      and not exists (select from indexing.face_jobs j where j.event_id = o.event_id)
      and not exists (select from indexing.erasures e where e.event_id = o.event_id)
    order by o.closed_at, o.event_id limit page for update skip locked
  ));
  get diagnostics runs = row_count;

  delete from indexing.dead_letters d
  where d.message_id = any (array(
    select o.message_id from indexing.dead_letters o where o.received_at < cutoff order by o.received_at limit page
  ));
  get diagnostics letters = row_count;

  delete from indexing.actions a where a.at < cutoff; -- a few a day
  delete from indexing.drift d where d.at < cutoff; -- likewise: at most one in a quarter of an hour of an event that lasts

  perform pg_advisory_xact_lock(hashtext('indexing.receipts'));
  select * into last_receipt from (
    select * from indexing.receipts r order by r.position limit page
  ) oldest where oldest.sealed_at < now - make_interval(secs => 86400 * receipt_days) order by oldest.position desc limit 1;
  if found then
    update indexing.receipt_chain c set start_position = last_receipt.position, start_hash = last_receipt.hash where c.only_row;
    delete from indexing.receipts r where r.position <= last_receipt.position;
    get diagnostics receipts = row_count;
  end if;
  return jsonb_build_object(
    'jobs', jobs, 'runs', runs, 'letters', letters, 'receipts', receipts,
    'more', greatest(jobs, runs, letters, receipts) >= page
  );
end
$$;

-- Erases an attendee, of one event or of all whose collection is there, whatever the ledger believes to be in it: for a request
-- by law. Refused as long as the app still wants a face of theirs at one of them, for it would be given back.
--   act  whether to do it; otherwise it is only told
-- Returns {"events": [{"event_id", "state", "face": whether the ledger knows of one, "wanted": whether the app wants one}, …],
-- "queued": how many}.
create or replace function public.indexing_erase_attendee(attendee uuid, event uuid default null, act boolean default false) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  found_events jsonb;
  events uuid[];
  users uuid[];
begin
  if act then
    perform indexing.lock_ledger();
  end if;
  select
    coalesce(jsonb_agg(jsonb_build_object('event_id', k.event_id, 'state', k.state,
      'face', k.face_id is not null or cardinality(k.obsolete_face_ids) > 0,
      'wanted', d.photo_key is not null or d.reason = 'event_inactive') order by k.event_id), '[]'),
    coalesce(array_agg(k.event_id) filter (where act), '{}')
  into found_events, events
  from (
    select j.* from indexing.face_jobs j join indexing.event_runs r using (event_id)
    where j.user_id = attendee and (indexing_erase_attendee.event is null or j.event_id = indexing_erase_attendee.event)
      and r.collection in ('missing', 'ready')
    order by j.event_id limit 10000
  ) k
  cross join lateral indexing.desired(k.event_id, k.user_id) d;
  if jsonb_path_exists(found_events, '$[*] ? (@.wanted == true)') then
    events := '{}';
  end if;
  users := array_fill(attendee, array[cardinality(events)]);
  perform indexing.queue_jobs(events, users, erases => true, listing => true);
  perform indexing.touch_runs(events);
  perform indexing.note_erasures(events, users, array_fill(now, array[cardinality(events)]), 'request');
  return jsonb_build_object('events', found_events, 'queued', cardinality(events));
end
$$;

-- Closes an event at once, as its clean-up would: its collection is deleted with all faces.
--   act   whether to do it; otherwise it is only told
-- Returns {"collection", "attendees": jobs, "faces": that the ledger knows of, "held": whether the app holds the event's row at
-- this moment; then nothing is done, "more": whether to call again}; null for an event that was never claimed.
create or replace function public.indexing_erase_event(event uuid, act boolean default false) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  page constant integer := 5000;
  run indexing.event_runs;
  app record;
  faces bigint;
  jobs bigint;
  held boolean := false;
  changed integer := 0;
begin
  if act then
    perform indexing.lock_ledger();
  end if;
  select * into run from indexing.event_runs r where r.event_id = event;
  if not found then
    return null;
  end if;
  select count(*), count(*) filter (where j.face_id is not null or cardinality(j.obsolete_face_ids) > 0) into jobs, faces
  from indexing.face_jobs j where j.event_id = event;

  if act and run.collection in ('missing', 'ready', 'closing') then
    held := event <> all (indexing.app_lock_events(array[event]));
    if not held then
      select * into app from indexing.app_events() e where e.event_id = event;
      changed := indexing.close_run(event, case when app.event_id is null then 'event_deleted' else 'event_closed' end, interval '0', page);
      if app.event_id is not null and not app.closed then
        perform indexing.app_set_cleanup(array[event], 'pending', 'in_progress');
        update indexing.event_runs r set cleaning = true where r.event_id = event;
      end if;
    end if;
  end if;
  return jsonb_build_object(
    'collection', run.collection, 'attendees', jobs, 'faces', faces, 'held', held, 'more', changed >= page
  );
end
$$;
