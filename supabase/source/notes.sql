-- What the triggers call: notes of changes, and the nudge.

-- More than this is not noted: without a scheduler the changes would fill the disk, and reconcile finds what they meant.
create or replace function indexing.most_bytes_of_changes() returns bigint language sql immutable as $$
  select 512 * 1024 * 1024::bigint
$$;

-- Notes changes, one for each pair of the two arrays, of which one may be null; a change that concerns a claimed event nudges.
-- Never raises, and waits for our tables in two functions alone, 100 ms at most in each. So the insert is under the app's own
-- lock timeout; and outside of any block with an exception, for a subtransaction that writes costs an id.
--
-- The app waits for this: a row by itself costs it about 30 µs of CPU. So there are no check constraints (Postgres reads them anew for
-- each statement) and no SQL functions that it cannot inline (it plans them anew for each call).
create or replace function indexing.note(source indexing.change_source, events uuid[], users uuid[], erasing boolean) returns void
language plpgsql set search_path = '' as $$
declare
  noted integer;
begin
  if indexing.can_note() then
    -- The sequence of the ids can be behind the rows, as after a logical restore. An id that is taken must not fail the app's write.
    insert into indexing.changes (source, event_id, user_id, erases) select note.source, unnest(events), unnest(users), erasing
    on conflict do nothing;
    get diagnostics noted = row_count;
    if noted < greatest(cardinality(events), cardinality(users)) then
      raise log 'event-indexer: % changes are not noted, their ids are taken; reconcile has to find them',
        greatest(cardinality(events), cardinality(users)) - noted;
    end if;
    perform indexing.nudge(source, events, users);
  end if;
end
$$;

-- Whether a change can be noted now. The first call of a transaction takes the table's lock, and the transaction then holds it, so
-- that no later one waits; after a wait in vain it notes nothing more. Never raises.
create or replace function indexing.can_note() returns boolean
language plpgsql set search_path = '' set lock_timeout = '100ms' as $$
begin
  if current_setting('indexing.cannot_note', true) = 'yes' then
    return false;
  end if;
  lock table indexing.changes in row exclusive mode;
  return pg_catalog.pg_relation_size('indexing.changes') <= indexing.most_bytes_of_changes();
exception when others then
  raise log 'event-indexer: changes of this transaction are not noted, reconcile has to find them: %', sqlerrm;
  perform set_config('indexing.cannot_note', 'yes', true);
  return false;
end
$$;

-- Notes what cannot be named row by row: every event is reconciled.
create or replace function indexing.note_everything(why text) returns void
language plpgsql set search_path = '' as $$
begin
  raise log 'event-indexer: every event will be reconciled: %', why;
  perform indexing.note('everything', array[null]::uuid[], null, true);
end
$$;

-- Asks the scheduler by HTTP to come now instead of at the next minute, if a change of these concerns a claimed event: once per
-- transaction, and not while a request to it waits already. It is a hint that may be lost; the noted change is the truth. Never
-- raises.
create or replace function indexing.nudge(
  source indexing.change_source, events uuid[] default null, users uuid[] default null
) returns void
language plpgsql set search_path = '' set lock_timeout = '100ms' as $$
declare
  concerned boolean := true;
  target record;
begin
  if current_setting('indexing.nudged', true) = 'yes' then
    return;
  elsif source = 'profiles' then
    concerned := exists (select from indexing.face_jobs j where j.user_id = any (users));
  elsif source in ('consents', 'events') then
    concerned := exists (select from indexing.event_runs r where r.event_id = any (events));
  end if;
  if not concerned then
    return;
  end if;
  perform set_config('indexing.nudged', 'yes', true);
  select n.url, n.secret into target from indexing.nudging n
  where n.url is not null and not exists (select from net.http_request_queue q where q.url = n.url);
  if found then
    perform net.http_post(
      url => target.url,
      body => '{}'::jsonb,
      headers => jsonb_build_object('content-type', 'application/json', 'x-nudge-secret', target.secret),
      timeout_milliseconds => 2000
    );
  end if;
exception when others then
  raise log 'event-indexer: could not nudge: %', sqlerrm;
  perform set_config('indexing.nudged', 'yes', true); -- what was set before is undone with the block
end
$$;

-- Sets where nudges go and the secret that they carry; nulls turn them off. For the database's owner alone.
create or replace function indexing.configure_nudge(url text, secret text) returns void
language plpgsql set search_path = '' as $$
begin
  if url is not null and url !~ '^(https://|http://127\.0\.0\.1[:/])' then
    raise exception 'the URL of the nudge must begin with https://, not %', url using errcode = 'invalid_parameter_value';
  end if;
  if url is not null and coalesce(length(secret), 0) < 16 then
    raise exception 'the secret of the nudge must have 16 characters at least' using errcode = 'invalid_parameter_value';
  end if;
  update indexing.nudging
  set url = configure_nudge.url, secret = configure_nudge.secret, arrived_at = null
  where only_row;
end
$$;

-- Begins a nudged run. Returns false when one is under way, which then looks once more when it ends. A run that died is
-- forgotten after run_seconds.
create or replace function public.indexing_begin_nudged_run(run_seconds double precision) returns boolean
language plpgsql security definer set search_path = '' as $$
declare
  free boolean;
begin
  update indexing.nudging n set
    arrived_at = clock_timestamp(),
    again = n.running_until > clock_timestamp(),
    running_until = case when n.running_until > clock_timestamp() then n.running_until
      else clock_timestamp() + make_interval(secs => run_seconds) end
  where n.only_row
  returning not n.again into free;
  return free;
end
$$;

-- Ends a nudged run. Returns true when a nudge came meanwhile: then the run is not ended and looks once more.
create or replace function public.indexing_end_nudged_run() returns boolean
language sql security definer set search_path = '' as $$
  update indexing.nudging n set
    again = false,
    running_until = case when n.again then n.running_until else '-infinity' end
  from (select m.again from indexing.nudging m for update) before
  where n.only_row
  returning before.again
$$;
