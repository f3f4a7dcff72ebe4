-- What the triggers call before they note a change, and the nudge.

-- More than this is not noted: without a scheduler the changes would fill the disk, and reconcile finds what they meant.
create or replace function indexing.changes_are_full() returns boolean
language sql stable set search_path = '' as $$
  select pg_catalog.pg_relation_size('indexing.changes') > 512 * 1024 * 1024
$$;

-- Whether a change can be noted now. The first call of a transaction takes the table's lock, in at most 100 ms; the
-- transaction then holds it, so that no later one waits. Never raises. A subtransaction that writes nothing costs no id.
create or replace function indexing.can_note() returns boolean
language plpgsql set search_path = '' as $$
declare
  known constant text := current_setting('indexing.can_note', true);
  lock_timeout constant text := current_setting('lock_timeout');
begin
  if known <> '' then
    return known = 'yes';
  end if;
  begin
    perform set_config('lock_timeout', '100ms', true);
    lock table indexing.changes in row exclusive mode;
    perform set_config('lock_timeout', lock_timeout, true);
    perform set_config('indexing.can_note', case when indexing.changes_are_full() then 'no' else 'yes' end, true);
  exception when others then
    raise log 'event-indexer: changes of this transaction are not noted, reconcile has to find them: %', sqlerrm;
    perform set_config('indexing.can_note', 'no', true);
  end;
  return current_setting('indexing.can_note') = 'yes';
end
$$;

-- What the triggers note: consents given or taken back, profiles, events. Null arrays are nothing. A change that concerns a
-- claimed event nudges.

create or replace function indexing.note_consents(events uuid[], users uuid[], erasing boolean) returns void
language plpgsql set search_path = '' as $$
begin
  if events is not null then
    insert into indexing.changes (source, event_id, user_id, erases)
    select 'consents', c.event_id, c.user_id, erasing from unnest(events, users) as c(event_id, user_id)
    where num_nulls(c.event_id, c.user_id) = 0;
    if exists (select from indexing.event_runs r where r.event_id = any (events)) then
      perform indexing.nudge();
    end if;
  end if;
end
$$;

create or replace function indexing.note_profiles(users uuid[], erasing boolean) returns void
language plpgsql set search_path = '' as $$
begin
  if users is not null then
    insert into indexing.changes (source, user_id, erases)
    select 'profiles', c.user_id, erasing from unnest(users) as c(user_id) where c.user_id is not null;
    if exists (select from indexing.face_jobs j where j.user_id = any (users)) then
      perform indexing.nudge();
    end if;
  end if;
end
$$;

create or replace function indexing.note_events(events uuid[], erasing boolean) returns void
language plpgsql set search_path = '' as $$
begin
  if events is not null then
    insert into indexing.changes (source, event_id, erases)
    select 'events', c.event_id, erasing from unnest(events) as c(event_id) where c.event_id is not null;
    if exists (select from indexing.event_runs r where r.event_id = any (events)) then
      perform indexing.nudge();
    end if;
  end if;
end
$$;

-- What cannot be named row by row: every event is reconciled.
create or replace function indexing.note_everything(why text) returns void
language plpgsql set search_path = '' as $$
begin
  raise log 'event-indexer: every event will be reconciled: %', why;
  insert into indexing.changes (source, erases) values ('everything', true);
  perform indexing.nudge();
end
$$;

-- Asks the scheduler by HTTP to come now instead of at the next minute: once per transaction, and not while a request to it
-- waits already. It is a hint that may be lost; the noted change is the truth. Never raises.
create or replace function indexing.nudge() returns void
language plpgsql set search_path = '' as $$
declare
  target record;
begin
  if current_setting('indexing.nudged', true) = 'yes' then
    return;
  end if;
  perform set_config('indexing.nudged', 'yes', true); -- outside of the block, whose error would undo it
  begin
    select n.url, n.secret into target from indexing.nudging n where n.url is not null;
    if found and not exists (select from net.http_request_queue q where q.url = target.url) then
      perform net.http_post(
        url => target.url,
        body => '{}'::jsonb,
        headers => jsonb_build_object('content-type', 'application/json', 'x-nudge-secret', target.secret),
        timeout_milliseconds => 2000
      );
    end if;
  exception when others then
    raise log 'event-indexer: could not nudge: %', sqlerrm;
  end;
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
