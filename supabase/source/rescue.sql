-- Queues what was lost, looks again at what is due, and settles what its last worker could not. Part of every scheduler run;
-- all it reads are rows that are not at rest. Each kind is limited to 1,000 jobs a call.
--   lost_after_seconds  a message of this age is taken for lost: twice as old the second time, and so on
--   batch_seconds       a send batch of this age is given up: its scheduler died
-- A job is queued with a new version, so that its message, should it still exist, is stale. Its error is kept. A worker that
-- is lost five times, or a message ten times, fails the job. Returns {"jobs": rescued, "failed": of these, "looked_again": n}.
create or replace function public.indexing_rescue(lost_after_seconds double precision, batch_seconds double precision) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  batch bigint;
  rescued integer;
  lost integer;
  looked_again integer;
begin
  for batch in
    delete from indexing.send_batches b where b.id = any (array(
      select o.id from indexing.send_batches o
      where o.handed_at < now - make_interval(secs => batch_seconds) or o.handed_at > now + interval '1 minute' -- a clock set back
      order by o.id limit 10 for update skip locked
    )) returning b.id
  loop
    perform indexing.requeue_unsent(batch);
  end loop;

  with orphaned as (
    select j.event_id, j.user_id, j.attempts >= 5 as finally, 'worker_lost' as reason,
      'its worker died or lost the database, five times' as error
    from indexing.face_jobs j
    where j.state = 'running' and j.lease_until < now - interval '2 seconds' -- its message, which comes again, may be first
    limit 1000 for update skip locked
  ), overdue as (
    select j.event_id, j.user_id, j.rescues >= 9 as finally, 'message_lost' as reason,
      'its message was lost or waited too long, ten times' as error
    from indexing.face_jobs j
    where j.state = 'sent' and j.sent_at < now - make_interval(secs => lost_after_seconds) -- by the index
      and j.sent_at < now - make_interval(secs => lost_after_seconds * (j.rescues + 1))
    limit 1000 for update skip locked
  ), lost as (
    select * from orphaned union all select * from overdue
  ), requeued as (
    update indexing.face_jobs j set
      state = case when finally then 'failed' else 'queued' end,
      reason = case when finally then coalesce(j.reason, lost.reason) else j.reason end,
      error = case when finally then coalesce(j.error, lost.error) else j.error end,
      needs_listing = j.needs_listing or lost.reason = 'worker_lost',
      version = j.version + 1,
      rescues = j.rescues + 1,
      queued_at = case when finally then j.queued_at else now end,
      lease_token = null, lease_until = null, leased_version = null,
      failures = j.failures + case when finally then 1 else 0 end,
      ended_at = case when finally then now end,
      look_again_at = case when finally and now < r.ends_at then indexing.next_try(now, j.failures + 1) end
    from lost join indexing.event_runs r using (event_id)
    where j.event_id = lost.event_id and j.user_id = lost.user_id
    returning j.state
  )
  select count(*), count(*) filter (where state = 'failed') into rescued, lost from requeued;

  -- Jobs of events whose collection could not be created.
  with waiting as (
    select o.event_id, o.user_id from indexing.face_jobs o
    where o.state = 'queued' and o.event_id = any (array(
      select f.event_id from indexing.event_runs f where f.reason = 'collection_failed' and f.collection = 'missing'
    ))
    limit 1000 for update skip locked
  )
  update indexing.face_jobs j set
    state = 'failed', reason = 'collection_failed', error = r.collection_error, ended_at = now, version = j.version + 1
  from waiting join indexing.event_runs r using (event_id)
  where j.event_id = waiting.event_id and j.user_id = waiting.user_id;

  select indexing.queue_jobs(array_agg(event_id), array_agg(user_id)) into looked_again from (
    select j.event_id, j.user_id from indexing.face_jobs j
    where j.look_again_at <= now order by j.look_again_at limit 1000 for update skip locked
  ) due;

  perform indexing.settle(array(
    select r.event_id from indexing.event_runs r
    where r.state in ('in_progress', 'failed') and r.fanned_out_at is not null and not indexing.has_open_jobs(r.event_id)
      and (r.state = 'in_progress' or r.ends_at > now)
  ));
  return jsonb_build_object('jobs', rescued, 'failed', lost, 'looked_again', coalesce(looked_again, 0));
end
$$;
