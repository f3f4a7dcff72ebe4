-- The events whose jobs wait for their collection.
create or replace function indexing.without_collection() returns uuid[]
language sql stable set search_path = '' as $$
  select coalesce(array_agg(r.event_id), '{}') from indexing.event_runs r where r.collection = 'missing'
$$;

-- Confirms the page that a scheduler has just sent, and leases it the next one. Erasures come first, then the event that
-- starts soonest.
--   page       how many jobs at most
--   in_flight  how many messages may lie in the queue; erasures are sent past it
--   sent       the token of the page just sent; null at the start
--   unsent     of that page, what SQS did not take: [{"event_id", "user_id"}, …]; tried again when the lease ends
-- Returns {"token", "jobs": [{"event_id", "user_id", "version"}, …], "left"}: no jobs: nothing to send now, and as many as
-- left are queued for later. A scheduler that dies with a page costs, at most, its messages sent a second time.
create or replace function public.indexing_next_page(
  page integer, in_flight integer, sent uuid default null, unsent jsonb default '[]'
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  token constant uuid := gen_random_uuid();
  room integer;
  until timestamptz; -- in the order of the outbox
  waiting constant uuid[] := indexing.without_collection();
  jobs jsonb;
begin
  if sent is not null then
    perform from indexing.face_jobs j where j.send_token = sent order by j.event_id, j.user_id for update;

    update indexing.face_jobs j set send_token = null
    from jsonb_to_recordset(unsent) as x(event_id uuid, user_id uuid)
    where j.event_id = x.event_id and j.user_id = x.user_id and j.send_token = sent;

    update indexing.face_jobs j set state = 'sent', sent_at = now, send_token = null, sending_until = null
    where j.send_token = sent and j.state = 'queued';
  end if;

  select greatest(in_flight - count(*), 0) into room
  from (select from indexing.face_jobs j where j.state = 'sent' limit in_flight) lying;
  until := case when room > 0 then 'infinity' else '-infinity' end;

  with picked as (
    select j.event_id, j.user_id
    from indexing.face_jobs j
    where j.state = 'queued' and (j.sending_until is null or j.sending_until < now)
      and j.due <= until and j.event_id <> all (waiting)
    order by j.due, j.event_id, j.user_id
    limit case when room > 0 then least(page, room) else page end
    for update skip locked
  ), leased as (
    update indexing.face_jobs j set send_token = token, sending_until = now + interval '1 minute'
    from picked where j.event_id = picked.event_id and j.user_id = picked.user_id
    returning j.event_id, j.user_id, j.version, j.due
  )
  select coalesce(jsonb_agg(
    jsonb_build_object('event_id', event_id, 'user_id', user_id, 'version', version)
    order by due, event_id, user_id
  ), '[]') into jobs from leased;
  return jsonb_build_object(
    'token', token, 'jobs', jobs,
    'left', case when jobs = '[]' then (select count(*) from indexing.face_jobs where state = 'queued') else 0 end
  );
end
$$;

select indexing.close_functions();
