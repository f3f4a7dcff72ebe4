-- Finds what lost its message, its worker or its last finisher. Part of every scheduler run; all it looks at are the rows
-- that are not at rest.
--   lost_after_seconds  how long a message may lie in the queue before it is taken for lost
-- A job is queued with a new version, so that its message, should it still be alive, is acknowledged and ignored. After
-- five attempts it has failed. Returns {"jobs": swept, "failed": of these}.
create or replace function public.indexing_sweep(lost_after_seconds double precision) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  swept integer;
  failed integer;
begin
  with orphaned as (
    select j.event_id, j.user_id, 'worker_lost' as reason,
      'its worker died or lost the database, ' || j.attempts || ' times' as error
    from indexing.face_jobs j
    where j.state = 'running' and j.lease_until < now
    limit 1000 for update skip locked
  ), overdue as (
    select j.event_id, j.user_id, 'message_lost' as reason,
      'its message was lost or waited too long, ' || j.attempts + 1 || ' times' as error
    from indexing.face_jobs j
    where j.state = 'sent' and j.sent_at < now - make_interval(secs => lost_after_seconds)
    limit 1000 for update skip locked
  ), lost as (
    select * from orphaned union all select * from overdue
  ), requeued as (
    update indexing.face_jobs j set
      state = case when j.attempts >= 5 then 'failed' else 'queued' end,
      reason = case when j.attempts >= 5 then lost.reason else j.reason end,
      error = case when j.attempts >= 5 then coalesce(j.error || '; ', '') || lost.error else j.error end,
      ended_at = case when j.attempts >= 5 then now end,
      version = j.version + 1,
      attempts = j.attempts + case when j.state = 'sent' then 1 else 0 end,
      queued_at = now, sending_until = null,
      lease_token = null, lease_until = null, leased_version = null
    from lost where j.event_id = lost.event_id and j.user_id = lost.user_id
    returning j.state
  )
  select count(*), count(*) filter (where state = 'failed') into swept, failed from requeued;

  -- A collection that could not be made in ten attempts: its event cannot be indexed.
  perform from indexing.face_jobs j join indexing.event_runs r using (event_id)
  where r.state = 'in_progress' and r.collection = 'missing' and r.collection_attempts >= 10 and j.state = 'queued'
  order by j.event_id, j.user_id for update of j;
  update indexing.face_jobs j set
    state = 'failed', reason = 'collection_failed', error = r.collection_error, ended_at = now, version = j.version + 1
  from indexing.event_runs r
  where r.state = 'in_progress' and r.collection = 'missing' and r.collection_attempts >= 10
    and j.event_id = r.event_id and j.state = 'queued';
  with hopeless as (
    update indexing.event_runs r set state = 'failed', settled_at = now, reason = 'collection_failed'
    where r.state = 'in_progress' and r.collection = 'missing' and r.collection_attempts >= 10
    returning r.event_id
  )
  update public.events e set indexing_status = 'failed'
  from hopeless where e.event_id = hopeless.event_id and e.indexing_status = 'in_progress';

  perform indexing.settle(array(
    select r.event_id from indexing.event_runs r
    where r.state = 'in_progress' and r.expanded_at is not null
      and not exists (
        select from indexing.face_jobs j
        where j.event_id = r.event_id and j.state in ('queued', 'sent', 'running')
      )
  ));
  return jsonb_build_object('jobs', swept, 'failed', failed);
end
$$;

select indexing.close_functions();
