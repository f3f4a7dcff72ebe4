-- Reconcile compares three things for each attendee of an event: the desired state, the ledger and the collection. It finds
-- what did not pass through our triggers: the app acting on the collection by itself, a collection that existed before the
-- claim, a restored backup, manual changes.

-- Hands out events to be reconciled, each to one caller for two minutes; the longest due first.
--   event  this event, due or not; null: those that are due
--   look   to look alone: nothing is handed out, and nothing changed
-- Returns [{"event_id", "as_of": the time by which the listing is not older}, …].
create or replace function public.indexing_reconcile_due(page integer, event uuid default null, look boolean default false) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  picked uuid[];
begin
  -- Two statements, so that the usual one goes by the index on reconcile_due.
  if event is null then
    picked := array(
      select r.event_id from indexing.event_runs r
      where r.collection = 'ready' and r.reconcile_due <= now
      order by r.reconcile_due, r.event_id limit page for update skip locked
    );
  else
    picked := array(
      select r.event_id from indexing.event_runs r
      where r.collection = 'ready' and r.event_id = event for update skip locked
    );
  end if;
  if not look then
    update indexing.event_runs r set reconcile_due = now + interval '2 minutes' where r.event_id = any (picked);
  end if;
  return (select coalesce(jsonb_agg(jsonb_build_object('event_id', id, 'as_of', now)), '[]') from unnest(picked) id);
end
$$;

-- Compares a range of attendees, and queues a job for each difference. Of a range with more attendees than a page has places, it
-- compares the first ones.
--   as_of       as reconcile_due gave it
--   after, through  the range of user ids: greater than `after` (null: from the first), up to `through` (null: to the last)
--   faces       what the collection holds of them: [{"user_id", "face_ids": […]}, …]
--   lag_seconds by which a listing may lag behind: a face indexed since then is not concluded missing
--   repair      whether to queue; otherwise the differences are only counted
--   page        how many attendees of the ledger and the app at most
-- Returns {
--   "through": the last user id that was compared; null: all of the range up to the last
--   "extra":   faces of attendees who should have none, "missing": attendees whose face is gone, "doubled": with several faces or
--              another than the ledger's, "unnoticed": whose desired state the ledger has not followed,
--   "photos":  [{"user_id", "photo_key", "photo_etag"}, …]: the looked-at photos of ended jobs, to be compared with the bucket;
--              an object that the ledger knows to be missing has no ETag
--   "who":     [{"user_id", "difference"}, …], a thousand of them at most
-- }
create or replace function public.indexing_reconcile(
  event uuid, as_of timestamptz, after uuid, through uuid, faces jsonb, lag_seconds double precision, repair boolean default true,
  page integer default 5000
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  answer jsonb;
  differing jsonb;
  attendees uuid[];
  lag constant timestamptz := as_of - make_interval(secs => lag_seconds);
begin
  if repair then
    perform indexing.lock_ledger();
  end if;
  attendees := array(
    (select j.user_id from indexing.face_jobs j
     where j.event_id = event and (after is null or j.user_id > after) and (through is null or j.user_id <= through)
     order by j.user_id limit page)
    union
    (select c.user_id from indexing.app_consents() c
     where c.event_id = event and (after is null or c.user_id > after) and (through is null or c.user_id <= through)
     order by c.user_id limit page)
    order by user_id limit page
  );
  if cardinality(attendees) = page then
    through := attendees[page];
  end if;

  with listed as materialized (
    select f.user_id, f.face_ids from jsonb_to_recordset(faces) as f(user_id uuid, face_ids text[])
    where through is null or f.user_id <= through
  ), known as materialized (
    select j.* from indexing.face_jobs j
    where j.event_id = event and (after is null or j.user_id > after) and (through is null or j.user_id <= through)
  ), consenting as materialized (
    select c.user_id from indexing.app_consents() c
    where c.event_id = event and (after is null or c.user_id > after) and (through is null or c.user_id <= through)
  ), everybody as (
    select user_id from listed union select user_id from known union select user_id from consenting
  ), compared as (
    select
      a.user_id, k.user_id is not null as has_job, k.state, k.photo_key as looked_at, k.photo_etag, k.face_id, k.missing_key, k.refused,
      k.ended_at is not null as ended, k.ended_at < lag as settled,
      coalesce(l.face_ids, '{}') as face_ids, d.photo_key, d.reason,
      indexing.may_stay(d.reason, d.profile_key, k.photo_key) as may_stay,
      k.reason as job_reason
    from everybody a
    left join known k using (user_id)
    left join listed l using (user_id)
    cross join lateral indexing.desired(event, a.user_id) d
  ), judged as (
    select c.*, case
      when not has_job and photo_key is null and face_ids = '{}' then null
      when not has_job and photo_key is null then 'extra'
      when not has_job then 'unnoticed'
      when not ended then case when not face_ids <@ array_remove(array[face_id], null) then 'open' end
      when photo_key is null and not may_stay and face_ids <> '{}' then 'extra'
      when photo_key is null and not may_stay and face_id is not null then 'unnoticed'
      when photo_key is not null and looked_at is distinct from photo_key and missing_key is distinct from photo_key then 'unnoticed'
      when photo_key is not null and state in ('erased', 'skipped') and refused is null and missing_key is distinct from photo_key then 'unnoticed'
      when face_id is null and face_ids <> '{}' then 'extra'
      when face_id is not null and face_id <> all (face_ids) and settled then 'missing'
      when not face_ids <@ array_remove(array[face_id], null) then 'doubled'
    end as difference
    from compared c
  )
  select
    jsonb_build_object(
      'through', through,
      'extra', count(*) filter (where difference = 'extra'), 'missing', count(*) filter (where difference = 'missing'),
      'doubled', count(*) filter (where difference = 'doubled'), 'unnoticed', count(*) filter (where difference = 'unnoticed'),
      'photos', coalesce(jsonb_agg(jsonb_build_object('user_id', user_id, 'photo_key', photo_key,
          'photo_etag', case when looked_at = photo_key and missing_key is distinct from photo_key then photo_etag end))
        filter (where difference is null and ended and photo_key is not null and state in ('indexed', 'skipped')), '[]'),
      'who', (select coalesce(jsonb_agg(jsonb_build_object('user_id', w.user_id, 'difference', w.difference) order by w.user_id), '[]')
        from (select j.user_id, j.difference from judged j where j.difference <> 'open' order by j.user_id limit 1000) w)
    ),
    coalesce(jsonb_agg(jsonb_build_object(
      'user_id', user_id, 'has_job', has_job, 'difference', difference, 'face_ids', face_ids, 'erases', photo_key is null
    )) filter (where difference is not null), '[]')
  into answer, differing
  from judged;

  if repair and differing <> '[]' then
    perform indexing.queue_differences(event, differing);
  end if;
  if repair then
    perform indexing.note_erasures(array_agg(event), array_agg(d.user_id), array_agg(clock_timestamp()), 'found')
    from jsonb_to_recordset(differing) as d(user_id uuid, difference text, erases boolean)
    where d.erases and d.difference in ('extra', 'unnoticed');
    perform indexing.verify_erasures(event, as_of, after, through, faces, lag_seconds);
  end if;
  return answer;
end
$$;

create or replace function indexing.queue_differences(event uuid, differing jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  erasing boolean;
begin
  perform from indexing.face_jobs j
  where j.event_id = event and j.user_id in (select d.user_id from jsonb_to_recordset(differing) as d(user_id uuid))
  order by j.user_id for update;

  insert into indexing.face_jobs (event_id, user_id, priority, urgent, starts_at, needs_listing)
  select r.event_id, d.user_id, indexing.job_priority(d.erases, r.ends_at), d.erases or r.ends_at > now(), r.starts_at, d.face_ids <> '{}'
  from jsonb_to_recordset(differing) as d(user_id uuid, has_job boolean, erases boolean, face_ids text[])
  join indexing.event_runs r on r.event_id = event
  where not d.has_job
  order by d.user_id
  on conflict (event_id, user_id) do nothing;

  foreach erasing in array array[true, false] loop
    perform indexing.queue_jobs(array_agg(event), array_agg(d.user_id), erases => erasing, listing => true)
    from jsonb_to_recordset(differing) as d(user_id uuid, has_job boolean, difference text, erases boolean)
    where d.has_job and d.difference <> 'open' and d.erases = erasing;
  end loop;

  update indexing.face_jobs j set
    -- Its worker, if it has one, finds a newer version when it completes, and lists.
    version = j.version + case when d.difference = 'open' and j.state = 'running' and not j.needs_listing then 1 else 0 end,
    needs_listing = true,
    face_id = case when d.difference = 'missing' then null else j.face_id end,
    photo_etag = case when d.difference = 'missing' then null else j.photo_etag end,
    obsolete_face_ids = array(
      select unnest(j.obsolete_face_ids) union
      select unnest(d.face_ids) where d.difference in ('extra', 'doubled') except select j.face_id
    )
  from jsonb_to_recordset(differing) as d(user_id uuid, has_job boolean, difference text, face_ids text[])
  where j.event_id = event and j.user_id = d.user_id and d.has_job;
end
$$;

-- Ends the reconcile of an event, and says when the next one is due: a minute after the last change, and otherwise every 15
-- minutes until the event ends, and 5 minutes before it starts. Also brings the app's status back to that of the settled run.
--   differences  what it has put right, which is noted unless it is nothing: {"extra", "missing", "doubled", "unnoticed": as
--                reconcile counted them, "stale_photos": photos whose object is another one than was indexed, "recreated":
--                whether the collection was gone}
-- Returns whether the event is still open.
create or replace function public.indexing_reconcile_done(event uuid, as_of timestamptz, differences jsonb default null) returns boolean
language plpgsql security definer set search_path = '' as $$
begin
  insert into indexing.drift (event_id, at, extra, missing, doubled, unnoticed, stale_photos, recreated)
  select event, as_of, f.extra, f.missing, f.doubled, f.unnoticed, f.stale_photos, f.recreated
  from jsonb_to_record(differences) as f(
    extra integer, missing integer, doubled integer, unnoticed integer, stale_photos integer, recreated boolean
  )
  where f.extra + f.missing + f.doubled + f.unnoticed + f.stale_photos > 0 or f.recreated
  on conflict do nothing; -- said before, and the answer was lost

  update indexing.event_runs r set
    reconciled_at = clock_timestamp(),
    reconcile_due = case
      when r.changed_at > as_of - interval '1 minute' then greatest(r.changed_at, as_of) + interval '1 minute'
      when r.ends_at < clock_timestamp() then 'infinity'
      when r.starts_at - interval '5 minutes' between clock_timestamp() and clock_timestamp() + interval '15 minutes'
        then r.starts_at - interval '5 minutes'
      else clock_timestamp() + interval '15 minutes'
    end
  where r.event_id = event and r.collection = 'ready';
  if not found then
    return false;
  end if;
  perform indexing.write_status_again(event);
  return true;
end
$$;

-- What reconciles of an event have found, the latest first: [{"at", "extra", "missing", "doubled", "unnoticed", "stale_photos",
-- "recreated"}, …]. A reconcile that found nothing is not among them.
create or replace function public.indexing_drift(event uuid, page integer default 10) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(d) order by d.at desc), '[]') from (
    select o.at, o.extra, o.missing, o.doubled, o.unnoticed, o.stale_photos, o.recreated
    from indexing.drift o where o.event_id = event order by o.at desc limit page
  ) d
$$;

-- The events whose collection is there, a page at a time in the order of their ids: those after the given one.
create or replace function public.indexing_open_collections(after uuid default null, page integer default 1000) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(event_id order by event_id), '[]') from (
    select r.event_id from indexing.event_runs r
    where r.collection = 'ready' and (after is null or r.event_id > after) order by r.event_id limit page
  ) open
$$;

-- What the deployment last said of itself: {"collection_prefix", "photo_bucket", "several_faces", "convert_photos"}; nulls before
-- its first run.
create or replace function public.indexing_deployment() returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object('collection_prefix', s.collection_prefix, 'photo_bucket', s.photo_bucket,
    'several_faces', s.several_faces, 'convert_photos', s.convert_photos)
  from indexing.settings s
$$;

-- Which of these events have no run of ours, so that a collection of theirs is an orphan: left by a restored backup, or of another
-- stage of the account.
create or replace function public.indexing_orphans(events uuid[]) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(x order by x), '[]') from unnest(events) x
  where not exists (select from indexing.event_runs r where r.event_id = x and r.collection <> 'deleted')
$$;

-- Whether it is time to look for orphans: true for one caller an hour.
create or replace function public.indexing_orphans_due() returns boolean
language plpgsql security definer set search_path = '' as $$
begin
  update indexing.settings s set orphans_due = clock_timestamp() + interval '1 hour'
  where s.only_row and s.orphans_due <= clock_timestamp();
  return found;
end
$$;
