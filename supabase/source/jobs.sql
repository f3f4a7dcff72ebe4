-- What all parts of the ledger share: the desired state of a job, its place in the outbox, and how it is queued.
-- Lock order, everywhere: the ledger's lock, jobs (by event_id, user_id), event runs, the app's event rows, the pace.

-- One lock serialises all inserts into the ledger, so that a change is not dropped while its event is being claimed.
create or replace function indexing.lock_ledger() returns void
language sql set search_path = '' as $$
  select pg_advisory_xact_lock(hashtext('indexing.face_jobs'))
$$;

-- What the app wants for an attendee of an event now. The one place of this rule.
--   photo_key    the object whose face should be in the collection; null when there is a reason against it
--   reason       why no face is to be indexed; null when there is a photo
--   profile_key  the object that the profile names, also when there is a reason against indexing it
create or replace function indexing.desired(event uuid, attendee uuid)
returns table (photo_key text, reason text, profile_key text) language sql stable as $$
  select case when against.reason is null then p.photo_path end, against.reason, p.photo_path
  from (select event as event_id, attendee as user_id) j
  left join indexing.app_events() e on e.event_id = j.event_id
  left join indexing.app_consents() c on c.event_id = j.event_id and c.user_id = j.user_id
  left join indexing.app_profiles() p on p.user_id = j.user_id
  cross join lateral (
    select case
      when e.event_id is null then 'event_deleted'
      when c.user_id is null then 'no_consent'
      when e.closed then 'event_closed'
      when p.user_id is null then 'no_profile'
      when coalesce(p.photo_path, '') = '' then 'no_photo'
      when p.photo_path ~* '^(([a-z][a-z0-9+.-]*:)?//|data:)' then 'photo_is_url'
      when octet_length(p.photo_path) > 1024 then 'photo_path_too_long' -- S3's limit for a key
      when not e.active then 'event_inactive'
    end as reason
  ) against
$$;

-- Whether a face already in the collection may stay although its job has this reason against indexing: the event is only
-- switched off, and the face is of the profile's photo.
create or replace function indexing.may_stay(reason text, profile_key text, face_key text) returns boolean
language sql immutable as $$
  select coalesce(reason = 'event_inactive' and profile_key = face_key, false)
$$;

-- How a job ends that has no face in the collection, for this reason.
create or replace function indexing.state_without_face(reason text) returns text
language sql immutable as $$
  select case when reason in ('no_consent', 'event_deleted') then 'erased' else 'skipped' end
$$;

-- The order of the outbox: erasures, events that are still to come or under way, events that are over.
create or replace function indexing.job_priority(erases boolean, ends_at timestamptz) returns smallint
language sql stable as $$
  select case when erases then 0 when ends_at > now() then 1 else 2 end::smallint
$$;

-- The one way to queue jobs that exist: raises their version, so that messages and results of the older one are stale. A
-- running job stays with its worker, whose complete will see the new version. A job that is queued or sent already, and does
-- not wait for another try, is left as it is: its worker will read the desired state. Not so when something has to be erased.
--   events, users  the jobs, pairwise
--   erases         whether their faces may have to go
--   anew           whether attempts start again from zero: the desired state may have changed, or an operator asks
--   listing        whether the collection may hold faces of theirs that the ledger does not know
--   forget_photo   whether the photo is to be looked at as if for the first time
--   forget_faces   whether the collection holds no face of theirs, but for what a worker may have put there just now
--   urgent         whether they go through the urgent queue
-- Returns how many were queued.
create or replace function indexing.queue_jobs(
  events uuid[], users uuid[],
  erases boolean default false, anew boolean default true, listing boolean default false,
  forget_photo boolean default false, forget_faces boolean default false, urgent boolean default true
) returns integer
language plpgsql set search_path = '' as $$
declare
  queued integer;
begin
  perform from indexing.face_jobs j
  join (select distinct * from unnest(events, users) as u(event_id, user_id)) chosen using (event_id, user_id)
  order by j.event_id, j.user_id for update of j;

  update indexing.face_jobs j set
    version = j.version + 1,
    state = case when j.state = 'running' then 'running' else 'queued' end,
    priority = indexing.job_priority(erases, r.ends_at), starts_at = r.starts_at,
    repeated = j.repeated or j.ended_at is not null,
    urgent = erases or (queue_jobs.urgent and r.ends_at > now()),
    queued_at = case when j.state = 'queued' then j.queued_at else clock_timestamp() end,
    ended_at = null, look_again_at = null,
    attempts = case when anew then 0 else j.attempts end,
    rescues = case when anew then 0 else j.rescues end,
    dead_letters = case when anew then 0 else j.dead_letters end,
    unanswered = case when anew then 0 else j.unanswered end, -- the app may have indexed another photo by itself meanwhile
    reason = case when anew then null else j.reason end, error = case when anew then null else j.error end,
    face_id = case when forget_faces then null else j.face_id end,
    obsolete_face_ids = case when forget_faces then '{}' else j.obsolete_face_ids end,
    needs_listing = case when forget_faces then j.state = 'running' else j.needs_listing or listing end,
    photo_version = case when forget_photo then j.version + 1 else j.photo_version end,
    photo_etag = case when forget_photo then null else j.photo_etag end,
    refused = case when forget_photo then null else j.refused end,
    missing_key = case when forget_photo then null else j.missing_key end
  from (select distinct * from unnest(events, users) as u(event_id, user_id)) chosen
  join indexing.event_runs r using (event_id)
  where j.event_id = chosen.event_id and j.user_id = chosen.user_id
    and not (j.state in ('queued', 'sent') and j.error is null and j.starts_at = r.starts_at and not (erases or listing or forget_photo));
  get diagnostics queued = row_count;
  return queued;
end
$$;

-- The last ten attempts of a job with this one added.
create or replace function indexing.with_attempt(history jsonb, outcome text, reason text, error text) returns jsonb
language sql stable as $$
  select case when jsonb_array_length(history) >= 10 then history - 0 else history end
    || jsonb_strip_nulls(jsonb_build_object('at', clock_timestamp(), 'outcome', outcome, 'reason', reason, 'error', left(error, 300)))
$$;

-- How the last attempt went that gave the job an end; null: none did, of the last ten.
create or replace function indexing.last_end(history jsonb) returns text
language sql immutable as $$
  select h ->> 'outcome' from jsonb_array_elements(history) with ordinality as attempts(h, n)
  where h ->> 'outcome' in ('indexed', 'erased', 'skipped') order by n desc limit 1
$$;

-- When a failed job is tried again by itself, while its event lasts: after 5, 10, 20, 40 minutes, and then every hour.
create or replace function indexing.next_try(now timestamptz, failures integer) returns timestamptz
language sql immutable as $$
  select now + least(interval '1 hour', interval '5 minutes' * 2 ^ least(failures - 1, 10))
$$;
