-- Whether jobs of an event have not ended. A function of its own, so that it is planned as one look into the index per event.
create or replace function indexing.has_open_jobs(event uuid) returns boolean
language sql stable set search_path = '' as $$
  select exists (select from indexing.face_jobs j where j.event_id = event and j.ended_at is null)
$$;

-- Settles those of the given events whose last job has ended: completed when no more than max_failed_share of them failed. A
-- failed event becomes completed when its failed jobs are mended, by whatever way; a completed one stays so.
-- Called at the end of every transaction that ends jobs, and so takes its locks after theirs.
create or replace function indexing.settle(events uuid[]) returns void
language plpgsql set search_path = '' as $$
declare
  free uuid[];
  verdict record;
begin
  -- Of two transactions that end an event's last two jobs, neither sees the other's: the second waits here …
  perform from indexing.event_runs r
  where r.event_id = any (events) and r.state in ('in_progress', 'failed')
  order by r.event_id for update;

  -- … and each statement from here on has a snapshot of its own, and sees what the first committed.
  events := array(
    select r.event_id from indexing.event_runs r
    where r.event_id = any (events) and r.state in ('in_progress', 'failed') and r.fanned_out_at is not null
      and not indexing.has_open_jobs(r.event_id)
      and r.reason is distinct from 'collection_failed'
  );
  if cardinality(events) = 0 then
    return;
  end if;
  free := indexing.app_lock_events(events); -- an event that the app holds is settled by the next rescue

  for verdict in
    with counted as (
      select r.event_id, r.state,
        (select count(*) from indexing.face_jobs j where j.event_id = r.event_id and j.state = 'failed') as failed,
        (select count(*) from indexing.face_jobs j where j.event_id = r.event_id) as jobs
      from indexing.event_runs r where r.event_id = any (free)
    )
    select
      case when c.failed <= s.max_failed_share * c.jobs then 'completed' else 'failed' end as state,
      array_agg(c.event_id) as events
    from counted c cross join indexing.settings s
    group by 1
  loop
    update indexing.event_runs r set state = verdict.state, settled_at = clock_timestamp()
    where r.event_id = any (verdict.events) and r.state <> verdict.state;
    -- An event that was set back to pending meanwhile is to be claimed anew.
    perform indexing.app_set_status(verdict.events, array['in_progress', 'failed'], verdict.state);
  end loop;
end
$$;

-- Writes the status of a settled run again: the app's row may be an older one, put back after its deletion or from a backup. A
-- pending event is claimed anew instead, and a completed one stays so.
create or replace function indexing.write_status_again(event uuid) returns void
language plpgsql set search_path = '' as $$
declare
  settled constant text := (
    select r.state from indexing.event_runs r where r.event_id = event and r.state in ('completed', 'failed')
  );
begin
  if exists (
    select from indexing.app_events() e where e.event_id = event and e.status in ('in_progress', 'failed') and e.status <> settled
  ) then
    perform indexing.app_set_status(indexing.app_lock_events(array[event]), array['in_progress', 'failed'], settled);
  end if;
end
$$;
