-- When each event in progress will be done, at the pace of this moment and in this order: the soonest start first.
--   tps  IndexFaces calls a second of the whole account; null: as the scheduler said it last, or else 5
-- Returns {"tps": the same, never null, "rate": calls a second at this moment, fewer for a while after Rekognition has throttled,
-- "events": [{"event_id", "starts_at", "open": jobs to do, "done_at", "late": whether that is after its start}, …]}.
create or replace function public.indexing_forecast(tps double precision default null) returns jsonb
language sql stable security definer set search_path = '' as $$
  with quota as (
    select coalesce(indexing_forecast.tps, p.quota, 5) as tps from indexing.pace p
  ), pace as (
    select quota.tps, indexing.recovered_rate(p.rate, p.rate_since, quota.tps) as rate from indexing.pace p cross join quota
  ), open as (
    select j.event_id, count(*) as jobs from indexing.face_jobs j
    where j.ended_at is null group by j.event_id
  ), in_order as (
    select
      r.event_id, r.starts_at, coalesce(open.jobs, 0) as jobs,
      clock_timestamp() + make_interval(secs => sum(coalesce(open.jobs, 0)) over (order by r.starts_at, r.event_id) / pace.rate)
        as done_at
    from indexing.event_runs r
    left join open using (event_id)
    cross join pace
    where r.state = 'in_progress'
  )
  select jsonb_build_object(
    'tps', pace.tps,
    'rate', pace.rate,
    'events', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'event_id', event_id, 'starts_at', starts_at, 'open', jobs, 'done_at', done_at, 'late', done_at > starts_at
      ) order by starts_at, event_id), '[]')
      from in_order
    )
  )
  from pace
$$;

select indexing.close_functions();
