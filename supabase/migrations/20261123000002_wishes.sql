-- What the app wants for each job, read from the app's tables as they are now. The one place of this rule.
--   photo   the object key whose face should be in the collection; null when there is a reason against it
--   reason  why no face is to be indexed; null when there is a photo
--   tenure  whether a face already indexed from this photo may stay (the event has only stopped taking new ones)
create or replace view indexing.wishes as
select
  j.event_id,
  j.user_id,
  case when against.reason is null then p.photo_path end as photo,
  against.reason,
  against.reason in ('event_inactive', 'event_closed') and p.photo_path = j.face_photo as tenure
from indexing.face_jobs j
left join public.events e on e.event_id = j.event_id
left join public.event_consents c on c.event_id = j.event_id and c.user_id = j.user_id
left join public.profiles p on p.user_id = j.user_id
cross join lateral (
  select case
    when e.event_id is null then 'event_deleted'
    when c.allow_recognition is not true then 'no_consent'
    when p.user_id is null then 'no_profile'
    when coalesce(p.photo_path, '') = '' then 'no_photo'
    when p.photo_path ~* '^https?://' then 'photo_is_url'
    when octet_length(p.photo_path) > 1024 then 'photo_path_too_long' -- S3's limit for a key
    when e.cleanup_status is distinct from 'pending' then 'event_closed' -- the app removes the collection itself
    when e.is_active is not true then 'event_inactive'
  end as reason
) against;

revoke all on indexing.wishes from public, anon, authenticated, service_role;

-- How a job ends that has no face in the collection, for this reason.
create or replace function indexing.end_without_face(reason text) returns text
language sql immutable set search_path = '' as $$
  select case when reason in ('no_consent', 'event_deleted') then 'erased' else 'skipped' end
$$;

select indexing.close_functions();
