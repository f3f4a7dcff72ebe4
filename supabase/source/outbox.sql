-- Confirms the send batch that a scheduler has just sent, and hands it the next one, in the order of the outbox.
--   page         how many jobs at most
--   work_cap     how many messages may lie in the work queue
--   urgent_cap   how many may lie in the urgent queue; erasures are sent past it
--   sent         the id of the send batch just sent; null at the start
--   unsent       the jobs of that batch that SQS did not take: [{"event_id", "user_id"}, …]; queued again
-- Callers take turns, so the caps hold however many schedulers run. The urgent queue takes what must overtake the work queue:
-- erasures, repeated and late jobs, and those of an event that starts sooner than another whose jobs lie in the work queue.
-- Returns {"send_batch", "jobs": [{"event_id", "user_id", "version", "urgent"}, …], "left": queued for later, if no jobs}.
create or replace function public.indexing_take_send_batch(
  page integer, work_cap integer, urgent_cap integer, sent bigint default null, unsent jsonb default '[]'
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  batch bigint;
  jobs jsonb;
begin
  if sent is not null then
    delete from indexing.send_batches b where b.id = sent;
    if unsent <> '[]' then
      perform indexing.requeue_unsent(sent, array(
        select (x ->> 'user_id')::uuid from jsonb_array_elements(unsent) x
      ));
    end if;
  end if;
  if page = 0 then
    return jsonb_build_object('send_batch', null, 'jobs', '[]'::jsonb, 'left', indexing.queued_jobs());
  end if;

  perform pg_advisory_xact_lock(hashtext('indexing.outbox'));
  insert into indexing.send_batches default values returning id into batch;
  jobs := indexing.hand_out(batch, true, true, 0, 'infinity', page); -- erasures
  jobs := jobs || indexing.hand_out(batch, true, true, 1, 'infinity', least(page - jsonb_array_length(jobs), urgent_cap - indexing.lying(true, urgent_cap)));
  jobs := jobs || indexing.hand_out(batch, false, true, 1, (
    select max(j.starts_at) from indexing.face_jobs j where j.state = 'sent' and not j.urgent
  ), least(page - jsonb_array_length(jobs), urgent_cap - indexing.lying(true, urgent_cap)));
  for priority in 1 .. 2 loop
    exit when jsonb_array_length(jobs) >= page;
    jobs := jobs || indexing.hand_out(batch, false, false, priority, 'infinity',
      least(page - jsonb_array_length(jobs), work_cap - indexing.lying(false, work_cap)));
  end loop;
  if jobs = '[]' then
    delete from indexing.send_batches b where b.id = batch;
    return jsonb_build_object('send_batch', null, 'jobs', jobs, 'left', indexing.queued_jobs());
  end if;
  return jsonb_build_object('send_batch', batch, 'jobs', jobs, 'left', 0);
end
$$;

-- How many jobs wait for their turn: those of a pause wait for its end.
create or replace function indexing.queued_jobs() returns bigint
language sql stable set search_path = '' as $$
  select count(*) from indexing.face_jobs j
  where j.state = 'queued'
    and (j.priority = 0 or not exists (select from indexing.pauses p where p.event_id is null or p.event_id = j.event_id))
$$;

-- How many messages lie in the urgent or in the work queue; counts no further than `enough`.
create or replace function indexing.lying(in_urgent boolean, enough integer) returns integer
language sql stable set search_path = '' as $$
  select count(*)::integer from (
    select from indexing.face_jobs j where j.state = 'sent' and j.urgent = in_urgent and j.priority > 0 limit enough
  ) lying
$$;

-- Marks up to `page` queued jobs as sent with a send batch, in the order of the outbox. Jobs whose collection is not there
-- yet, or whose event is paused, stay queued; erasures know no pause. Returns the jobs as take_send_batch does.
--   queued_as_urgent  which jobs: those queued for the urgent queue or the others …
--   of_priority       … of this priority …
--   before            … and of events that start before this
--   through_urgent    the queue that they go through
create or replace function indexing.hand_out(
  batch bigint, queued_as_urgent boolean, through_urgent boolean, of_priority integer, before timestamptz, page integer
) returns jsonb
language plpgsql set search_path = '' set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$ -- in the index's order and by key, whatever the statistics say
declare
  waiting constant uuid[] := array(
    select r.event_id from indexing.event_runs r where r.collection = 'missing'
    union all
    select p.event_id from indexing.pauses p where of_priority > 0 and p.event_id is not null
  );
  jobs jsonb;
begin
  if of_priority > 0 and exists (select from indexing.pauses p where p.event_id is null) then
    return '[]';
  end if;
  with picked as (
    select j.event_id, j.user_id
    from indexing.face_jobs j
    where j.state = 'queued' and j.urgent = queued_as_urgent and j.priority = of_priority and j.starts_at < before
      and j.event_id <> all (waiting)
    order by j.starts_at, j.repeated, j.queued_at, j.event_id, j.user_id
    limit greatest(page, 0)
    for update skip locked
  ), handed as (
    update indexing.face_jobs j
    set state = 'sent', sent_at = clock_timestamp(), send_batch = batch, urgent = through_urgent
    from picked where j.event_id = picked.event_id and j.user_id = picked.user_id
    returning j.event_id, j.user_id, j.version, j.urgent, j.starts_at, j.repeated, j.queued_at
  )
  select jsonb_agg(
    jsonb_build_object('event_id', event_id, 'user_id', user_id, 'version', version, 'urgent', handed.urgent)
    order by starts_at, repeated, queued_at, event_id, user_id
  ) into jobs from handed;
  return coalesce(jobs, '[]');
end
$$;

-- Queues jobs of a send batch again: all that are still waiting for their message, or those of the given attendees. Their
-- messages may have been sent all the same, so they get a new version.
create or replace function indexing.requeue_unsent(batch bigint, users uuid[] default null) returns void
language plpgsql set search_path = '' as $$
begin
  with unsent as (
    select j.event_id, j.user_id from indexing.face_jobs j
    where j.send_batch = batch and j.state = 'sent' and (users is null or j.user_id = any (users))
    for update skip locked
  )
  update indexing.face_jobs j set state = 'queued', version = j.version + 1, send_batch = null
  from unsent u where j.event_id = u.event_id and j.user_id = u.user_id;
end
$$;
