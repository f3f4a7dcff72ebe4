-- Whether jobs of an event have not ended. On its own so that it is planned as one look into the index for each event,
-- also where the statistics are of a time at which every job had ended.
create or replace function indexing.has_open_jobs(event uuid) returns boolean
language sql stable set search_path = '' as $$
  select exists (select from indexing.face_jobs j where j.event_id = event and j.ended_at is null)
$$;

-- Settles those of the given events whose last job has ended: completed when none failed, failed when one did, when
-- the event was deactivated before all were indexed, or when its collection cannot be made.
-- Called at the end of every transaction that ends jobs, so it takes its locks after theirs (jobs, then runs).
create or replace function indexing.settle(events uuid[]) returns void
language plpgsql set search_path = '' as $$
begin
  -- Of two transactions that end an event's last two jobs, neither sees the other's: the second waits here …
  perform from indexing.event_runs r
  where r.event_id = any (events) and r.state = 'in_progress'
  order by r.event_id for update;

  -- … and this statement, with a snapshot of its own, sees what the first committed.
  with ended as (
    select
      r.event_id, r.hopeless,
      exists (
        select from indexing.face_jobs j where j.event_id = r.event_id and j.state = 'failed'
      ) as failed,
      exists (
        select from indexing.face_jobs j
        where j.event_id = r.event_id and j.state = 'skipped' and j.reason = 'event_inactive'
      ) as stopped
    from indexing.event_runs r
    where r.event_id = any (events) and r.state = 'in_progress' and (r.expanded_at is not null or r.hopeless)
      and not indexing.has_open_jobs(r.event_id)
  ), free as (
    -- Never wait for the app: an event that it holds locked is settled by the next sweep.
    select e.event_id from public.events e join ended using (event_id)
    for no key update of e skip locked
  ), settled as (
    update indexing.event_runs r
    set
      state = case when ended.failed or ended.stopped or ended.hopeless then 'failed' else 'completed' end,
      reason = case when ended.hopeless then 'collection_failed' when ended.stopped then 'event_inactive' end,
      settled_at = clock_timestamp()
    from ended join free using (event_id)
    where r.event_id = ended.event_id
    returning r.event_id, r.state
  )
  update public.events e
  set indexing_status = settled.state::public.event_processing_status
  from settled
  -- Somebody who set the event back to pending meanwhile wants it claimed anew.
  where e.event_id = settled.event_id and e.indexing_status = 'in_progress';
end
$$;

select indexing.close_functions();
