-- Hands out the collections that want creating or deleting, each to one caller for a minute: deletions first, then those of
-- the events that start soonest.
-- Returns {"create": [event_id, …], "delete": [event_id, …]}.
create or replace function public.indexing_collections(page integer) returns jsonb
language sql security definer set search_path = '' as $$
  with picked as (
    select r.event_id from indexing.event_runs r
    where r.collection in ('missing', 'closing', 'closing_again') and r.collection_due <= clock_timestamp()
      and (r.collection <> 'missing' or r.state = 'in_progress')
    order by r.collection = 'missing', r.starts_at, r.event_id limit page
    for update skip locked
  ), handed as (
    update indexing.event_runs r set collection_due = clock_timestamp() + interval '1 minute'
    from picked where r.event_id = picked.event_id
    returning r.event_id, r.collection
  )
  select jsonb_build_object(
    'create', coalesce(jsonb_agg(event_id) filter (where collection = 'missing'), '[]'),
    'delete', coalesce(jsonb_agg(event_id) filter (where collection <> 'missing'), '[]')
  ) from handed
$$;

-- Whatever the ledger believed to be in this event's collection is not: the collection was made anew. What a worker is
-- just putting there may have met the old one or the new.
create or replace function indexing.forget_faces(event uuid) returns void
language plpgsql set search_path = '' as $$
begin
  perform from indexing.face_jobs j where j.event_id = event order by j.user_id for update;
  update indexing.face_jobs j set
    face_id = null, face_photo = null, stray_face_ids = '{}', version = j.version + 1,
    state = case when j.state = 'running' then j.state else 'queued' end,
    attempts = 0, dead_letters = 0, error = null, queued_at = clock_timestamp(), ended_at = null
  where j.event_id = event and (j.face_id is not null or cardinality(j.stray_face_ids) > 0 or j.state = 'running');
end
$$;

-- Takes note of whose faces are in a collection that was there before its event was claimed: the app may have made it, and
-- not all of them may consent. Their jobs are written with the others'.
create or replace function public.indexing_found_faces(event uuid, users uuid[]) returns void
language plpgsql security definer set search_path = '' as $$
begin
  perform indexing.take_turn();
  insert into indexing.face_jobs (event_id, user_id, due, unconfirmed)
  select r.event_id, u, r.starts_at, true
  from indexing.event_runs r cross join unnest(users) u
  where r.event_id = event and r.state = 'in_progress' and r.collection = 'missing'
  order by u
  on conflict (event_id, user_id) do nothing; -- known, and looked at anew with the claim
end
$$;

-- Records what became of them: [{"event_id", "result": "created" | "exists" | "deleted" | "failed", "error"?}, …].
-- A collection is deleted twice: once at once, and once more when nothing that was under way then can still land in it,
-- quiet_seconds later. One that cannot be made is tried again after 1, 2, 4 … 60 s; see indexing_sweep for the end of it.
-- Returns how each of them stands now: {event_id: "missing" | "ready" | "closing" | "closing_again" | "deleted"}.
create or replace function public.indexing_collections_done(results jsonb, quiet_seconds double precision) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  created uuid;
  standing jsonb;
begin
  for created in
    select x.event_id from jsonb_to_recordset(results) as x(event_id uuid, result text)
    where x.result = 'created' order by x.event_id
  loop
    perform indexing.forget_faces(created);
  end loop;

  perform from indexing.event_runs r join jsonb_to_recordset(results) as x(event_id uuid) using (event_id)
  order by r.event_id for update of r;

  with updated as (update indexing.event_runs r set
    collection = case
      when x.result in ('created', 'exists') and r.collection in ('missing', 'ready') then 'ready'
      when x.result in ('created', 'exists') then 'closing' -- the event was deleted while its collection was made
      when x.result = 'deleted' and r.collection = 'closing' then 'closing_again'
      when x.result = 'deleted' and r.collection = 'closing_again' then 'deleted'
      else r.collection
    end,
    collection_due = clock_timestamp() + case
      when x.result = 'deleted' and r.collection = 'closing' then make_interval(secs => quiet_seconds)
      when x.result = 'failed' then make_interval(secs => least(60, 2 ^ least(r.collection_attempts, 10)))
      else interval '0'
    end,
    collection_attempts = case when x.result = 'failed' then r.collection_attempts + 1 else 0 end,
    collection_error = case when x.result = 'failed' then x.error end
  from jsonb_to_recordset(results) as x(event_id uuid, result text, error text)
  where r.event_id = x.event_id
  returning r.event_id, r.collection)
  select coalesce(jsonb_object_agg(event_id, collection), '{}') into standing from updated;
  return standing;
end
$$;

select indexing.close_functions();
