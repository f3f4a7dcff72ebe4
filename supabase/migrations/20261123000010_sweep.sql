-- Finds what lost its message, its worker or its last finisher, and whose second look is due. Part of every scheduler run; all it looks at are the rows
-- that are not at rest.
--   lost_after_seconds  how long a message may lie in the queue before it is taken for lost: so long for the first time, twice as
--                       long for the second, and so on; half as long again for one that comes back after a failed try
-- A job is queued with a new version, so that its message, should it still be alive, is acknowledged and ignored. After
-- five attempts it has failed. Returns {"jobs": swept, "failed": of these}.
create or replace function public.indexing_sweep(lost_after_seconds double precision) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  uncollected constant uuid[] := array(
    select r.event_id from indexing.event_runs r where r.collection = 'missing' and r.hopeless -- by the index of what wants making
  );
  swept integer;
  failed integer;
begin
  -- First, and in their order, the only jobs that are waited for here: of events whose collection could not be made.
  perform from indexing.face_jobs j
  where j.event_id = any (uncollected) and j.state = 'queued' order by j.event_id, j.user_id for update;
  update indexing.face_jobs j set
    state = 'failed', reason = 'collection_failed', error = r.collection_error, ended_at = now, version = j.version + 1
  from indexing.event_runs r
  where j.event_id = any (uncollected) and j.state = 'queued' and r.event_id = j.event_id;

  with orphaned as (
    select j.event_id, j.user_id, j.attempts as spent, 'worker_lost' as reason,
      'its worker died or lost the database' as error
    from indexing.face_jobs j
    where j.state = 'running' and j.lease_until < now
    limit 1000 for update skip locked
  ), overdue as (
    select j.event_id, j.user_id, j.attempts + 1 as spent, 'message_lost' as reason,
      'its message was lost or waited too long' as error
    from indexing.face_jobs j
    where j.state = 'sent' and j.sent_at < now - make_interval(secs => lost_after_seconds) -- by the index
      and j.sent_at < now - make_interval(secs => lost_after_seconds * case when j.error is null then j.attempts + 1 else 1.5 end)
    limit 1000 for update skip locked
  ), lost as (
    select *, spent >= 5 as finally from orphaned union all select *, spent >= 5 from overdue
  ), requeued as (
    update indexing.face_jobs j set
      state = case when finally then 'failed' else 'queued' end,
      reason = case when finally then lost.reason else j.reason end,
      error = case when finally then coalesce(j.error || '; ', '') || lost.error || ', ' || spent || ' times'
        else j.error end,
      ended_at = case when finally then now end,
      version = j.version + 1,
      attempts = spent,
      queued_at = case when finally then j.queued_at else now end,
      lease_token = null, lease_until = null, leased_version = null
    from lost where j.event_id = lost.event_id and j.user_id = lost.user_id
    returning j.state
  )
  select count(*), count(*) filter (where state = 'failed') into swept, failed from requeued;

  -- Second looks. Who is about to be looked at anyway is looked at with them.
  with looked_for as (
    select j.event_id, j.user_id, j.state in ('indexed', 'erased', 'skipped') as at_rest,
      -- What lies in the queue, too: a worker may be passing over it because of the lock that is held here.
      j.state in ('indexed', 'erased', 'skipped', 'sent') as anew
    from indexing.face_jobs j
    where j.second_look_at <= now
    order by j.second_look_at limit 1000 for update skip locked
  )
  update indexing.face_jobs j set
    second_look_at = null,
    unconfirmed = true,
    version = j.version + case when anew or j.state = 'running' then 1 else 0 end,
    state = case when anew then 'queued' else j.state end,
    attempts = case when at_rest then 0 else j.attempts end,
    reason = case when at_rest then null else j.reason end,
    queued_at = case when anew then now else j.queued_at end,
    ended_at = case when at_rest then null else j.ended_at end
  from looked_for l where j.event_id = l.event_id and j.user_id = l.user_id;

  perform indexing.settle(array(
    select r.event_id from indexing.event_runs r
    where r.state = 'in_progress' and (r.expanded_at is not null or r.hopeless)
      and not indexing.has_open_jobs(r.event_id)
  ));
  return jsonb_build_object('jobs', swept, 'failed', failed);
end
$$;

select indexing.close_functions();
