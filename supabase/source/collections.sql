-- Hands out the collections to be created or deleted, each to one caller for 90 s, which is longer than a scheduler lives:
-- deletions first, then those of the events that start soonest.
-- Returns {"create": [event_id, …], "delete": [event_id, …]}.
create or replace function public.indexing_collections_due(page integer) returns jsonb
language sql security definer set search_path = '' as $$
  with picked as (
    select r.event_id from indexing.event_runs r
    where r.collection in ('missing', 'closing') and r.collection_due <= clock_timestamp()
      and (r.collection = 'closing' or r.state = 'in_progress' or (r.reason = 'collection_failed' and r.ends_at > now()))
    order by r.collection = 'missing', r.ends_at <= now(), r.starts_at, r.event_id limit page
    for update skip locked
  ), handed as (
    update indexing.event_runs r set collection_due = clock_timestamp() + interval '90 seconds'
    from picked where r.event_id = picked.event_id
    returning r.event_id, r.collection
  )
  select jsonb_build_object(
    'create', coalesce(jsonb_agg(event_id) filter (where collection = 'missing'), '[]'),
    'delete', coalesce(jsonb_agg(event_id) filter (where collection = 'closing'), '[]')
  ) from handed
$$;

-- Whether a worker that found the collection of this event missing may create it: the event exists and is open.
create or replace function public.indexing_may_create_collection(event uuid) returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (
    select from indexing.event_runs r join indexing.app_events() e using (event_id)
    where r.event_id = event and r.collection in ('missing', 'ready') and not e.closed
  )
$$;

-- Records what happened to collections: [{"event_id", "result": "created" | "exists" | "deleted" | "failed", "error"?}, …].
--   created  whatever the ledger believed to be in it is not: those jobs are queued again
--   exists   the app may have made it and put faces there: it is reconciled at once
--   deleted  final once quiet_seconds have passed since the closing, when no call that was under way can land any more;
--            before that it is deleted once more then
--   failed   tried again after 1, 2, 4 … 300 s; after ten attempts the event is failed, and the attempts go on while it lasts
-- Returns how each collection stands now: {event_id: "missing" | "ready" | "closing" | "deleted"}.
create or replace function public.indexing_collections_done(results jsonb, quiet_seconds double precision) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  quiet constant interval := make_interval(secs => quiet_seconds);
  done record;
  run indexing.event_runs;
  free boolean; -- the app does not hold the event's row
  standing jsonb := '{}';
begin
  for done in
    select x.* from jsonb_to_recordset(results) as x(event_id uuid, result text, error text) order by x.event_id
  loop
    if done.result = 'created' then
      perform indexing.forget_faces(done.event_id);
    end if;
    select * into run from indexing.event_runs r where r.event_id = done.event_id for update;
    continue when not found;
    free := run.event_id = any (indexing.app_lock_events(array[run.event_id]));

    if done.result in ('created', 'exists') and run.collection in ('missing', 'ready') then
      if done.result = 'exists' and run.collection = 'missing' then
        run.reconcile_due := now;
        run.changed_at := now; -- and once more when its first jobs have ended
      end if;
      run.collection := 'ready';
      run.collection_attempts := 0;
      run.collection_error := null;
      if run.reason = 'collection_failed' and free then
        perform indexing.reopen_run(run.event_id);
        select r.state, r.reason, r.settled_at into run.state, run.reason, run.settled_at
        from indexing.event_runs r where r.event_id = run.event_id;
      end if;
    elsif done.result in ('created', 'exists') then
      run.collection := 'closing'; -- the event was closed while its collection was made
      run.closed_at := now;
      run.collection_due := now;
      perform indexing.note_closing(run.event_id);
    elsif done.result = 'deleted' and run.collection = 'closing' then
      if now >= run.closed_at + quiet then
        run.collection := 'deleted';
      end if;
      perform indexing.answer_closing(run.event_id, run.collection = 'deleted');
      run.collection_due := run.closed_at + quiet;
    elsif done.result = 'failed' then
      run.collection_attempts := run.collection_attempts + 1;
      run.collection_error := done.error;
      run.collection_due := now + least(interval '5 minutes', make_interval(secs => 2 ^ least(run.collection_attempts - 1, 10)));
      if run.collection = 'missing' and run.collection_attempts >= 10 and run.state = 'in_progress' and free then
        run.state := 'failed';
        run.reason := 'collection_failed';
        run.settled_at := now;
        perform indexing.app_set_status(array[run.event_id], array['in_progress'], 'failed');
      end if;
    end if;
    update indexing.event_runs r set
      collection = run.collection, collection_attempts = run.collection_attempts, collection_error = run.collection_error,
      collection_due = run.collection_due, closed_at = run.closed_at, reconcile_due = run.reconcile_due, changed_at = run.changed_at,
      state = run.state, reason = run.reason, settled_at = run.settled_at
    where r.event_id = run.event_id;
    standing := standing || jsonb_build_object(run.event_id, run.collection);
  end loop;
  return standing;
end
$$;

-- Puts a failed event back in progress, and queues the jobs that failed for want of its collection. The app's row is locked.
create or replace function indexing.reopen_run(event uuid) returns void
language plpgsql set search_path = '' as $$
begin
  update indexing.event_runs r set state = 'in_progress', reason = null, settled_at = null
  where r.event_id = event and r.state = 'failed';
  perform indexing.app_set_status(array[event], array['failed'], 'in_progress');
  perform indexing.queue_jobs(array_agg(j.event_id), array_agg(j.user_id), urgent => false)
  from indexing.face_jobs j where j.event_id = event and j.state = 'failed' and j.reason = 'collection_failed';
end
$$;

-- The collection of this event was made anew: whatever the ledger believed to be in it is not. A call of a worker may have
-- met the old collection or the new one.
create or replace function indexing.forget_faces(event uuid) returns void
language plpgsql set search_path = '' as $$
declare
  users uuid[];
begin
  users := array(
    select j.user_id from indexing.face_jobs j
    where j.event_id = event and (j.face_id is not null or cardinality(j.obsolete_face_ids) > 0 or j.state = 'running')
  );
  perform indexing.queue_jobs(
    array_fill(event, array[cardinality(users)]), users, forget_photo => true, forget_faces => true
  );
end
$$;
