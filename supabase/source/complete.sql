-- What happens to a job with the result of a worker. The one place of this rule; complete applies it.
--   lost     the lease had passed to another worker: what the result names is noted, and the job is looked at again
--   hold     a call was not answered and may still land: nobody may act before its time has passed
--   requeue  nothing was done, for want of time: through the outbox, without counting as an attempt
--   again    the desired state has changed meanwhile: at once
--   retry    something went wrong in passing: its message comes again
--   end      the job has ended
create or replace function indexing.transition(outcome text, has_lease boolean, changed boolean) returns text
language sql immutable as $$
  select case
    when not has_lease then 'lost'
    when outcome = 'unclear' then 'hold'
    when outcome = 'later' then 'requeue'
    when changed then 'again'
    when outcome in ('retry', 'photo_missing') then 'retry'
    else 'end'
  end
$$;

-- Records an outcome for each job of a batch, and settles the events whose last job it was.
--   token      of the batch's lease
--   results    [{
--     "event_id", "user_id",
--     "outcome":   "indexed" | "erased" | "skipped" (a job fails by its dead letter, or by rescue)
--                  | "retry" (its message comes again) | "later" (through the outbox) | "unclear" (see transition)
--                  | "photo_missing" (the object is missing, and may come),
--     "photo_key": what was to be indexed; null: nothing,
--     "photo_etag": the content that was looked at; null: it was not,
--     "face_id":   the face in the collection that may stay, or null,
--     "obsolete_face_ids": others that are in the collection,
--     "needs_listing": whether the collection may hold more of this attendee,
--     "refused":   why that photo has no face that can be indexed; or null,
--     "reason", "error": of what went wrong or was skipped, in one word and for people; or null,
--     "index_calls": IndexFaces calls made
--     "faces_deleted": how many faces DeleteFaces has deleted, or found gone
--   }, …]
--   throttled      whether Rekognition throttled a call that refresh was not told of
--   quiet_seconds  after which no call without an answer can land any more
--   grace_seconds  for which the face of an earlier photo stays while the object is missing
-- Returns [{"event_id", "user_id", "version", "next": "done" | "retry" | "again"}, …]. Said twice (the answer was lost), it
-- changes nothing the second time.
create or replace function public.indexing_complete(
  token uuid, results jsonb, throttled boolean, quiet_seconds double precision, grace_seconds double precision
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  nexts jsonb;
  ended uuid[];
  repeated uuid[];
  done jsonb; -- what open erasures may have waited for
begin
  perform from indexing.face_jobs j
  join jsonb_to_recordset(results) as r(event_id uuid, user_id uuid) using (event_id, user_id)
  order by j.event_id, j.user_id for update of j;

  with decided as (
    select
      r.*, d.reason as against, run.ends_at,
      j.completed_token = token as said_before,
      indexing.last_end(j.history) = 'indexed' as had_face,
      indexing.transition(
        r.outcome, j.lease_token is not distinct from token,
        j.version > j.leased_version or r.photo_key is distinct from d.photo_key
          or (r.photo_key is null and r.face_id is not null and not indexing.may_stay(d.reason, d.profile_key, j.photo_key))
      ) as transition
    from jsonb_to_recordset(results) as r(
      event_id uuid, user_id uuid, outcome text, photo_key text, photo_etag text, face_id text, obsolete_face_ids text[],
      needs_listing boolean, refused text, reason text, error text, index_calls integer, faces_deleted integer
    )
    join indexing.face_jobs j using (event_id, user_id)
    join indexing.event_runs run using (event_id)
    cross join lateral indexing.desired(r.event_id, r.user_id) d
  ), recorded as (
    select (indexing.record(j, d.transition, to_jsonb(d), now, quiet_seconds, grace_seconds)).*, d.transition
    from decided d join indexing.face_jobs j using (event_id, user_id)
    where d.said_before is not true
  ), applied as (
    update indexing.face_jobs j set
      version = n.version, state = n.state, reason = n.reason, error = n.error, priority = n.priority, urgent = n.urgent,
      repeated = n.repeated, queued_at = n.queued_at, sent_at = n.sent_at, attempts = n.attempts, rescues = n.rescues,
      unanswered = n.unanswered, failures = n.failures, index_calls = n.index_calls, history = n.history,
      lease_token = n.lease_token, lease_until = n.lease_until, leased_version = n.leased_version, completed_token = token,
      photo_key = n.photo_key, photo_etag = n.photo_etag, photo_version = n.photo_version, refused = n.refused,
      missing_key = n.missing_key, missing_since = n.missing_since,
      face_id = n.face_id, obsolete_face_ids = n.obsolete_face_ids, needs_listing = n.needs_listing,
      look_again_at = n.look_again_at, ended_at = n.ended_at
    from recorded n
    where j.event_id = n.event_id and j.user_id = n.user_id
    returning j.event_id, j.user_id, j.version, j.state, n.transition
  ), answered as (
    select event_id, user_id, version, state,
      case transition when 'again' then 'again' when 'retry' then case when state = 'sent' then 'retry' else 'done' end
        when 'hold' then 'retry' else 'done' end as next
    from applied
    union all
    select j.event_id, j.user_id, j.version, null, case when j.state in ('sent', 'running') then 'retry' else 'done' end
    from decided d join indexing.face_jobs j using (event_id, user_id)
    where d.said_before
  )
  select
    coalesce(jsonb_agg(jsonb_build_object('event_id', event_id, 'user_id', user_id, 'version', version, 'next', next)), '[]'),
    array_agg(distinct event_id) filter (where state in ('indexed', 'erased', 'skipped')),
    array_agg(distinct event_id) filter (where state in ('indexed', 'erased', 'skipped') and version > 1),
    (select jsonb_agg(jsonb_build_object('event_id', a.event_id, 'user_id', a.user_id, 'faces', coalesce(d.faces_deleted, 0),
        'ended', a.transition = 'end', 'indexed', a.state = 'indexed', 'had_face', d.had_face,
        'unwanted', d.against not in ('event_closed', 'event_deleted', 'event_inactive')))
      from applied a join decided d using (event_id, user_id) where a.transition = 'end' or d.faces_deleted > 0)
  into nexts, ended, repeated, done
  from answered;

  if throttled then
    perform indexing.slow_down();
  end if;
  if repeated is not null then
    perform indexing.touch_runs(repeated); -- the app may have acted by itself until now
  end if;
  if ended is not null then
    perform indexing.settle(ended);
  end if;
  if done is not null then
    perform indexing.answer_erasures(done);
  end if;
  return nexts;
end
$$;

-- A job as it is after a transition; see complete for the result's fields.
create or replace function indexing.record(
  job indexing.face_jobs, transition text, result jsonb, now timestamptz, quiet_seconds double precision, grace_seconds double precision
) returns indexing.face_jobs
language plpgsql set search_path = '' as $$
declare
  outcome constant text := result ->> 'outcome';
  face constant text := result ->> 'face_id';
  found_faces constant text[] := array(select jsonb_array_elements_text(result -> 'obsolete_face_ids'));
  looked_at constant boolean := result ->> 'photo_etag' is not null;
  ends_at constant timestamptz := (result ->> 'ends_at')::timestamptz;
begin
  job.index_calls := job.index_calls + (result ->> 'index_calls')::integer;
  if outcome <> 'later' then
    job.history := indexing.with_attempt(job.history, outcome, coalesce(result ->> 'reason', result ->> 'against'), result ->> 'error');
  end if;

  if transition = 'lost' then
    -- It may have crossed with calls of another worker, so it is believed as far as it names faces.
    job.obsolete_face_ids := array(
      select unnest(job.obsolete_face_ids || found_faces) union select face where face is not null except select job.face_id
    );
    job.needs_listing := true;
    -- It may also have deleted the face that the ledger knows: the photo is looked at as if for the first time.
    job.photo_etag := null;
    job.refused := null;
    job.version := job.version + 1;
    job.photo_version := job.version;
    if job.state <> 'running' then
      job := indexing.queued_again(job, now);
    end if;
    return job;
  end if;

  -- What is known of the photo and the collection now. While a photo could not be looked at, the face of the one before it stays.
  job.reason := coalesce(result ->> 'reason', case when transition = 'end' then result ->> 'against' end);
  job.error := result ->> 'error';
  job.needs_listing := (result ->> 'needs_listing')::boolean or job.version > job.leased_version;
  job.missing_since := case when result ->> 'reason' = 'photo_missing' then
    case when job.missing_key = result ->> 'photo_key' then job.missing_since else now end end;
  job.missing_key := case when job.missing_since is not null then result ->> 'photo_key' end;
  if looked_at or (face is null and job.face_id <> all (found_faces)) then
    job.face_id := face;
    job.obsolete_face_ids := found_faces;
  else
    job.obsolete_face_ids := array_remove(found_faces, job.face_id);
  end if;
  if looked_at then
    job.unanswered := case when (job.photo_key, job.photo_etag) is distinct from (result ->> 'photo_key', result ->> 'photo_etag')
      then 0 else job.unanswered end;
    job.photo_key := result ->> 'photo_key';
    job.photo_etag := result ->> 'photo_etag';
    job.refused := result ->> 'refused';
  elsif job.face_id is null and result ->> 'photo_key' <> coalesce(job.photo_key, '') then
    job.photo_key := result ->> 'photo_key';
    job.photo_etag := null;
    job.refused := null;
  end if;
  -- Meanwhile it was asked that the photo be looked at as if for the first time.
  if job.photo_version > job.leased_version then
    job.photo_etag := null;
    job.refused := null;
  end if;

  if transition = 'hold' then
    job.unanswered := job.unanswered + case when (result ->> 'index_calls')::integer > 0 then 1 else 0 end;
    job.lease_until := now + make_interval(secs => quiet_seconds);
    return job;
  end if;
  job.lease_token := null;
  job.lease_until := null;
  if transition in ('again', 'requeue') then
    job.version := job.version + case when job.version = job.leased_version then 1 else 0 end;
    job.attempts := case when transition = 'again' then 0 else greatest(job.attempts - 1, 0) end;
    job := indexing.queued_again(job, now);
    job.priority := indexing.job_priority(result ->> 'against' in ('no_consent', 'event_deleted'), ends_at);
    job.urgent := job.urgent or job.priority = 0;
  elsif transition = 'retry' and outcome = 'photo_missing' and job.face_id is not null then
    job.state := 'indexed'; -- the app replaces photos through such a gap: the earlier face stays for a while
    job.ended_at := now;
    job.look_again_at := job.missing_since + make_interval(secs => grace_seconds);
  elsif transition = 'retry' then
    job.state := 'sent';
    job.sent_at := now;
  else
    job.state := case when job.face_id is not null then 'indexed' when outcome = 'skipped' then 'skipped'
      else indexing.state_without_face(result ->> 'against') end;
    job.ended_at := now;
    job.rescues := 0;
    job.failures := 0;
  end if;
  job.leased_version := null;
  return job;
end
$$;

create or replace function indexing.queued_again(job indexing.face_jobs, now timestamptz) returns indexing.face_jobs
language plpgsql set search_path = '' as $$
begin
  job.state := 'queued';
  job.queued_at := now;
  job.ended_at := null;
  return job;
end
$$;
