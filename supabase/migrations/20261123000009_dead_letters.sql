-- Ends the jobs of dead letters as failed, with the error of their last attempt, and settles their events.
--   letters  [{"event_id", "user_id", "version"}, …]
-- A dead letter older than its job, or whose job has ended or is being worked on, changes nothing about that job; but it was a
-- place, and another job may wait for it: that one goes back to the outbox. So does one whose job no attempt has left a word
-- about (the database was away, or the workers died): three times at most, and not after five attempts.
-- Returns {"failed": n, "requeued": n}.
create or replace function public.indexing_bury(letters jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  answer jsonb;
  ended uuid[];
  places bigint; -- that jobs may wait for which they do not name
begin
  perform from indexing.face_jobs j
  join jsonb_to_recordset(letters) as l(event_id uuid, user_id uuid) using (event_id, user_id)
  order by j.event_id, j.user_id for update of j;

  with found as materialized ( -- by their keys, whatever the statistics say of their states
    select j.*, l.version as letter_version
    from jsonb_to_recordset(letters) as l(event_id uuid, user_id uuid, version integer)
    join indexing.face_jobs j using (event_id, user_id)
  ), dead as (
    select distinct j.event_id, j.user_id, j.state, j.error is null and j.attempts < 5 and j.dead_letters < 3 as untold
    from found j
    where j.letter_version >= j.version
      and (j.state = 'sent' or (j.state = 'running' and j.lease_until <= clock_timestamp()))
  ), buried as (
    update indexing.face_jobs j set
      state = case when dead.untold then 'queued' else 'failed' end,
      reason = case when dead.untold then j.reason else coalesce(j.reason, 'no_word') end,
      error = case when dead.untold then j.error
        else coalesce(j.error, 'its message was received too often, and no attempt left a word: the worker died or could not reach the database') end,
      version = j.version + case when dead.untold then 1 else 0 end,
      dead_letters = j.dead_letters + 1,
      queued_at = case when dead.untold then clock_timestamp() else j.queued_at end,
      lease_token = null, lease_until = null, leased_version = null,
      ended_at = case when not dead.untold then clock_timestamp() end
    from dead where j.event_id = dead.event_id and j.user_id = dead.user_id
    returning j.event_id, j.state
  )
  select
    jsonb_build_object(
      'failed', count(*) filter (where state = 'failed'),
      'requeued', count(*) filter (where state = 'queued')
    ),
    array_agg(distinct event_id) filter (where state = 'failed'),
    jsonb_array_length(letters) - (select count(*) from dead where dead.state = 'sent')
  into answer, ended, places
  from buried;

  if places > 0 then
    perform indexing.requeue_places(places);
  end if;

  if ended is not null then
    perform indexing.settle(ended);
  end if;
  return answer;
end
$$;

-- Keeps what is no message of ours: [{"message_id", "body", "attributes": {}, "problem"}, …]. Returns how many are new.
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

select indexing.close_functions();
