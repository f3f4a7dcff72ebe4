-- How the claimed events stand, the soonest first: of the given ones, or of all that are in progress, or start later
-- than a day ago.
-- Returns [{"event_id", "name", "status" (the app's), "starts_at", "state", "reason", "collection", "collection_error",
-- "claimed_at", "settled_at", "jobs": {"queued": n, …}, "skipped": {reason: n}, "failed": {reason: n}, "index_calls", "oldest_open"}, …].
create or replace function public.indexing_progress(events uuid[] default null) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(progress) order by progress.starts_at, progress.event_id), '[]')
  from (
    select
      r.event_id, e.name, e.indexing_status as status, r.starts_at, r.state, r.reason,
      r.collection, r.collection_error, r.claimed_at, r.settled_at,
      coalesce(totals.jobs, '{}') as jobs, coalesce(totals.skipped, '{}') as skipped,
      coalesce(totals.failed, '{}') as failed,
      totals.index_calls, totals.oldest_open
    from indexing.event_runs r
    left join public.events e using (event_id)
    cross join lateral (
      with mine as materialized (
        select state, reason, index_calls, queued_at from indexing.face_jobs j where j.event_id = r.event_id
      ), jobs as (select state, count(*) as n from mine group by state),
      skipped as (select reason, count(*) as n from mine where state = 'skipped' group by reason),
      failed as (select reason, count(*) as n from mine where state = 'failed' group by reason)
      select
        (select jsonb_object_agg(state, n) from jobs) as jobs,
        (select jsonb_object_agg(reason, n) from skipped) as skipped,
        (select jsonb_object_agg(coalesce(reason, 'unknown'), n) from failed) as failed,
        coalesce(sum(index_calls), 0) as index_calls,
        min(queued_at) filter (where state in ('queued', 'sent', 'running')) as oldest_open
      from mine
    ) totals
    where case when events is null then r.state = 'in_progress' or r.starts_at > now() - interval '1 day'
      else r.event_id = any (events) end
  ) progress
$$;

-- The jobs of an event, a page at a time in the order of user_id: those after the given one, of the given states or of all.
-- Returns [{"user_id", "state", "reason", "error", "attempts", "index_calls", "face_id"}, …].
create or replace function public.indexing_jobs(
  event uuid, states text[] default null, after uuid default null, page integer default 1000
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(job) order by job.user_id), '[]') from (
    select j.user_id, j.state, j.reason, j.error, j.attempts, j.index_calls, j.face_id
    from indexing.face_jobs j
    where j.event_id = event and (states is null or j.state = any (states)) and (after is null or j.user_id > after)
    order by j.user_id limit page
  ) job
$$;

select indexing.close_functions();
