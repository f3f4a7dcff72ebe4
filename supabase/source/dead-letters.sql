-- Ends the jobs of dead letters as failed, with the error of their last attempt, and settles their events. A dead letter
-- that is older than its job, or whose job has ended or is leased, changes nothing. A job about which no attempt has left an
-- error (the database was away, or the workers died) is queued again, three times at most.
--   letters  [{"event_id", "user_id", "version"}, …]
-- Returns {"failed": n, "requeued": n}.
create or replace function public.indexing_fail_dead_letters(letters jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  answer jsonb;
  ended uuid[];
begin
  perform from indexing.face_jobs j
  join (
    select distinct l.event_id, l.user_id from jsonb_to_recordset(letters) as l(event_id uuid, user_id uuid)
  ) letter using (event_id, user_id)
  order by j.event_id, j.user_id for update of j;

  with found as materialized ( -- by their keys, whatever the statistics say of their states
    select j.*, l.version as letter_version
    from (
      select event_id, user_id, max(version) as version
      from jsonb_to_recordset(letters) as x(event_id uuid, user_id uuid, version integer) group by event_id, user_id
    ) l join indexing.face_jobs j using (event_id, user_id)
  ), dead as (
    select f.event_id, f.user_id, f.error is null and f.dead_letters < 3 as without_error, r.ends_at
    from found f join indexing.event_runs r using (event_id)
    where f.letter_version >= f.version
      and (f.state = 'sent' or (f.state = 'running' and f.lease_until <= now))
  ), buried as (
    update indexing.face_jobs j set
      state = case when dead.without_error then 'queued' else 'failed' end,
      reason = case when dead.without_error then j.reason else coalesce(j.reason, 'no_word') end,
      error = case when dead.without_error then j.error
        else coalesce(j.error, 'its message was received too often, and no attempt left an error: the worker died or could not reach the database') end,
      needs_listing = j.needs_listing or j.state = 'running',
      version = j.version + 1,
      dead_letters = j.dead_letters + 1,
      queued_at = case when dead.without_error then now else j.queued_at end,
      lease_token = null, lease_until = null, leased_version = null,
      failures = j.failures + case when dead.without_error then 0 else 1 end,
      ended_at = case when not dead.without_error then now end,
      look_again_at = case when not dead.without_error and now < dead.ends_at then indexing.next_try(now, j.failures + 1) end
    from dead where j.event_id = dead.event_id and j.user_id = dead.user_id
    returning j.event_id, j.state
  )
  select
    jsonb_build_object(
      'failed', count(*) filter (where state = 'failed'), 'requeued', count(*) filter (where state = 'queued')
    ),
    array_agg(distinct event_id) filter (where state = 'failed')
  into answer, ended
  from buried;

  if ended is not null then
    perform indexing.settle(ended);
  end if;
  return answer;
end
$$;

-- Keeps messages that we cannot read: [{"message_id", "body", "attributes": {}, "problem"}, …]. Returns how many are new.
create or replace function public.indexing_keep_dead_letters(letters jsonb) returns integer
language sql security definer set search_path = '' as $$
  with kept as (
    insert into indexing.dead_letters (message_id, body, attributes, problem)
    select l.message_id, l.body, l.attributes, l.problem
    from jsonb_to_recordset(letters) as l(message_id text, body text, attributes jsonb, problem text)
    on conflict (message_id) do nothing
    returning message_id
  )
  select count(*)::integer from kept
$$;
