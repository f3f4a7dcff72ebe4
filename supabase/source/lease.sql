-- Leases the jobs of a batch of messages to a worker, and says what each needs.
--   messages       [{"event_id", "user_id", "version"}, …]
--   token          of the lease; asked again with the same token (the answer was lost), the answer is the same
--   lease_seconds  longer than any call of this worker can take
-- Returns {"pace": see take_slots, with a slot for each job that seems to need a call of IndexFaces, "jobs": [{
--   "event_id", "user_id", "version",
--   "action": "act" | "none" (the job has ended, or a newer message comes: acknowledge) | "wait" (leased by another worker),
--   "wait_seconds":      until that lease ends,
--   "photo_key":         what to index; null: nothing, for this "reason",
--   "face_id":           the face in the collection, as far as we know; "face_key", "face_etag": the photo that was looked at last,
--   "may_stay":          whether that face may stay although nothing is to be indexed,
--   "refused":           why that photo, with that ETag, has no face in the collection; or null,
--   "obsolete_face_ids": other faces to be deleted,
--   "needs_listing":     whether the collection may hold faces that are not named here,
--   "missing_seconds":   how long the object of photo_key has been missing; null: not so far as we know,
--   "unanswered":        calls of IndexFaces for this photo that were not answered
-- }, …]}, one for each attendee asked for.
create or replace function public.indexing_lease(messages jsonb, token uuid, lease_seconds double precision) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  jobs jsonb;
begin
  perform from indexing.face_jobs j
  join (
    select distinct m.event_id, m.user_id from jsonb_to_recordset(messages) as m(event_id uuid, user_id uuid)
  ) asked using (event_id, user_id)
  order by j.event_id, j.user_id for update of j;

  with asked as (
    select m.event_id, m.user_id, max(m.version) as version
    from jsonb_to_recordset(messages) as m(event_id uuid, user_id uuid, version integer)
    group by m.event_id, m.user_id
  ), found as materialized ( -- by their keys, whatever the statistics say of their states
    select
      j.*, asked.version as asked_version, j.lease_token = token as repeated_call,
      j.state = 'running' and j.lease_until > now as leased
    from asked join indexing.face_jobs j using (event_id, user_id)
  ), free as (
    select f.event_id, f.user_id, d.photo_key, d.reason, d.profile_key
    from found f cross join lateral indexing.desired(f.event_id, f.user_id) d
    where (f.state in ('queued', 'sent', 'running') and not f.leased and f.asked_version >= f.version) or f.repeated_call
  ), leased as (
    update indexing.face_jobs j set
      state = 'running', attempts = j.attempts + case when j.lease_token = token then 0 else 1 end,
      needs_listing = j.needs_listing or (j.state = 'running' and j.lease_token <> token), -- its last worker was lost
      lease_token = token, lease_until = now + make_interval(secs => lease_seconds), leased_version = j.version,
      -- Known from now on, so that an event of the bucket about this object finds the job.
      photo_etag = case when j.face_id is null and j.photo_key <> free.photo_key then null else j.photo_etag end,
      refused = case when j.face_id is null and j.photo_key <> free.photo_key then null else j.refused end,
      unanswered = case when j.photo_key <> free.photo_key then 0 else j.unanswered end,
      photo_key = case when j.face_id is null then coalesce(free.photo_key, j.photo_key) else j.photo_key end
    from free
    where j.event_id = free.event_id and j.user_id = free.user_id
    returning j.*, free.photo_key as wanted_key, free.reason as against, free.profile_key
  ), told as (
    select
      a.event_id, a.user_id, coalesce(l.version, a.version) as version,
      case when l.event_id is not null then 'act' when f.leased and f.asked_version >= f.version then 'wait' else 'none' end as action,
      case when f.leased and not f.repeated_call then extract(epoch from f.lease_until - now) end as wait_seconds,
      l.wanted_key as photo_key, l.against as reason, l.face_id, l.photo_key as face_key, l.photo_etag as face_etag,
      indexing.may_stay(l.against, l.profile_key, l.photo_key) as may_stay,
      l.refused,
      coalesce(l.obsolete_face_ids, '{}') as obsolete_face_ids, coalesce(l.needs_listing, false) as needs_listing,
      case when l.wanted_key = l.missing_key then extract(epoch from now - l.missing_since) end as missing_seconds,
      coalesce(l.unanswered, 0) as unanswered
    from asked a left join found f using (event_id, user_id) left join leased l using (event_id, user_id)
  )
  select coalesce(jsonb_agg(to_jsonb(told)), '[]') into jobs from told;

  return jsonb_build_object(
    'jobs', jobs,
    'pace', indexing.take_slots(( -- last, since all workers wait for one another here
      select count(*)::integer from jsonb_array_elements(jobs) job
      where job ->> 'action' = 'act' and job ->> 'photo_key' is not null
        and (job ->> 'face_etag' is null or job ->> 'face_key' is distinct from job ->> 'photo_key')
    ))
  );
end
$$;

-- For a worker that has waited for its slots: reads the desired state of its jobs again, and hands out new slots.
--   jobs       [{"event_id", "user_id"}, …], leased by the worker
--   slots      how many it wants
--   throttled  whether Rekognition throttled one of its calls
-- Returns {"pace", "jobs": [{"event_id", "user_id", "photo_key"}, …]}
create or replace function public.indexing_refresh(jobs jsonb, slots integer, throttled boolean) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  if throttled then
    perform indexing.slow_down();
  end if;
  return jsonb_build_object(
    'jobs', (
      select coalesce(jsonb_agg(jsonb_build_object('event_id', x.event_id, 'user_id', x.user_id, 'photo_key', d.photo_key)), '[]')
      from jsonb_to_recordset(jobs) as x(event_id uuid, user_id uuid)
      cross join lateral indexing.desired(x.event_id, x.user_id) d
    ),
    'pace', indexing.take_slots(slots)
  );
end
$$;
