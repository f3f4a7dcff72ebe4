-- The events whose jobs wait for their collection.
create or replace function indexing.without_collection() returns uuid[]
language sql stable set search_path = '' as $$
  select coalesce(array_agg(r.event_id), '{}') from indexing.event_runs r where r.collection = 'missing'
$$;

-- So many messages are gone, whosever jobs they named: as many of the jobs that wait for one go back to the outbox.
create or replace function indexing.requeue_places(places bigint) returns void
language sql set search_path = '' as $$
  with waiting as (
    select j.event_id, j.user_id from indexing.face_jobs j
    where j.state = 'sent' and j.error is null
    order by j.due, j.event_id, j.user_id limit places
    for update skip locked
  )
  update indexing.face_jobs j set state = 'queued', version = j.version + 1, queued_at = clock_timestamp()
  from waiting w where j.event_id = w.event_id and j.user_id = w.user_id
$$;

-- Gives up the pages whose schedulers have not confirmed them in time: their jobs are queued anew. Those that a worker has
-- taken meanwhile left their messages, which may never have been sent, to others.
create or replace function indexing.give_up_pages() returns void
language plpgsql set search_path = '' as $$
declare
  gone bigint;
begin
  with given_up as (
    delete from indexing.pages p where p.token in (
      select o.token from indexing.pages o where o.until < clock_timestamp() for update skip locked
    )
    returning p.sent_at, p.jobs
  ), unsent as (
    select j.event_id, j.user_id from indexing.face_jobs j join given_up g using (sent_at)
    where j.state = 'sent'
    for update of j skip locked
  ), requeued as (
    update indexing.face_jobs j set state = 'queued', version = j.version + 1, queued_at = clock_timestamp()
    from unsent u where j.event_id = u.event_id and j.user_id = u.user_id
    returning j.event_id
  )
  select (select sum(jobs) from given_up) - (select count(*) from requeued) into gone;
  if gone > 0 then
    perform indexing.requeue_places(gone);
  end if;
end
$$;

-- Confirms the page that a scheduler has just sent, and hands it the next one. Erasures come first, then the event that
-- starts soonest.
--   page       how many jobs at most
--   in_flight  how many messages may lie in the queue; erasures are sent past it
--   room       how many of these are still free, as the caller was told and has not used since; null: to be counted
--   sent       the token of the page just sent; null at the start
--   unsent     of that page, what SQS did not take: [{"event_id", "user_id"}, …]; tried again after a minute
-- Returns {"token", "jobs": [{"event_id", "user_id", "version"}, …], "room": after these, "left"}: no jobs: nothing to send
-- now, and as many as left are queued for later. A scheduler that dies with a page costs, at most, its messages sent a second time.
create or replace function public.indexing_next_page(
  page integer, in_flight integer, room integer default null, sent uuid default null, unsent jsonb default '[]'
) returns json
language plpgsql security definer set search_path = '' set enable_bitmapscan = off as $$ -- in the outbox's order, whatever the statistics say
declare
  now constant timestamptz := clock_timestamp();
  waiting constant uuid[] := indexing.without_collection();
  confirmed timestamptz;
  until timestamptz; -- in the order of the outbox
  jobs json;
  token uuid;
begin
  if sent is null then
    perform indexing.give_up_pages();
  else
    delete from indexing.pages p where p.token = sent returning p.sent_at into confirmed;
    if found and unsent <> '[]' then
      -- A page of their own, that nobody sends, until they are given up.
      perform from indexing.face_jobs j
      join jsonb_to_recordset(unsent) as x(event_id uuid, user_id uuid) using (event_id, user_id)
      order by j.event_id, j.user_id for update of j;
      update indexing.face_jobs j set sent_at = now
      from jsonb_to_recordset(unsent) as x(event_id uuid, user_id uuid)
      where j.event_id = x.event_id and j.user_id = x.user_id and j.state = 'sent' and j.sent_at = confirmed;
      insert into indexing.pages (sent_at, jobs) values (now, jsonb_array_length(unsent));
    end if;
  end if;

  room := coalesce(room, (
    select in_flight - count(*) from (select from indexing.face_jobs j where j.state = 'sent' limit in_flight) lying
  ));
  until := case when room > 0 then 'infinity' else '-infinity' end;

  with picked as (
    select j.event_id, j.user_id
    from indexing.face_jobs j
    where j.state = 'queued' and j.due <= until and j.event_id <> all (waiting)
    order by j.due, j.event_id, j.user_id
    limit case when room > 0 then least(page, room) else page end
    for update skip locked
  ), handed as (
    update indexing.face_jobs j set state = 'sent', sent_at = now
    from picked where j.event_id = picked.event_id and j.user_id = picked.user_id
    returning j.event_id, j.user_id, j.version, j.due
  )
  select json_agg(
    json_build_object('event_id', event_id, 'user_id', user_id, 'version', version)
    order by due, event_id, user_id
  ) into jobs from handed;
  if jobs is not null then
    insert into indexing.pages (sent_at, jobs) values (now, json_array_length(jobs)) returning pages.token into token;
  end if;
  return json_build_object(
    'token', token, 'jobs', coalesce(jobs, '[]'), 'room', greatest(room - coalesce(json_array_length(jobs), 0), 0),
    'left', case when jobs is null then (select count(*) from indexing.face_jobs where state = 'queued') else 0 end
  );
end
$$;

select indexing.close_functions();
