-- The functions and triggers of the event indexer.
-- Written by "npm run migration" from supabase/source. Edit there.

-- ── app.sql fef596f1b4e586ae

-- The adapter to the app: the only file that knows its tables and columns.
--
-- What stands in braces is a name that app-tables.yml may change, or replace by an expression; the defaults are in app-tables.ts. So
-- it is never qualified with a table, and where a column and a variable have the same name, the column is meant.
--
-- The app's tables are read through functions and not through views. Postgres refuses to drop or retype a column that a view
-- uses, so a view would make the app's own migrations fail. These functions are inlined into the statements that use them.

-- The names that the adapter in this database was written for, as far as they are not the default's.
do $$
declare
  written constant text := /*=names*/'the default'/*=*/;
  installed text;
begin
  if to_regprocedure('indexing.app_names()') is not null then
    installed := indexing.app_names();
    if installed <> written and coalesce(current_setting('indexing.other_names', true), '') <> 'yes' then
      raise exception 'this migration has other names of the app''s tables than the database: % instead of %', written, installed
        using hint = 'Apply it with the app-tables.yml of this database. To change the names: set indexing.other_names = ''yes''.';
    end if;
  end if;
end
$$;

create or replace function indexing.app_names() returns text language sql immutable as $$
  select /*=names*/'the default'/*=*/
$$;

create or replace function indexing.app_events()
returns table (
  event_id uuid, name text, starts_at timestamptz, ends_at timestamptz, active boolean, closed boolean, status text
) language sql stable as $$
  select
    /*=events.event_id*/event_id/*=*/, /*=events.name*/name/*=*/, /*=events.starts_at*/starts_at/*=*/,
    coalesce(/*=events.ends_at*/ends_at/*=*/, /*=events.starts_at*/starts_at/*=*/ + interval '12 hours'),
    coalesce(/*=events.active*/is_active/*=*/, true),
    coalesce(/*=events.closed*/cleanup_status::text <> 'pending'/*=*/, false), -- the app removes the collection, or has done so
    coalesce(/*=events.status*/indexing_status/*=*/::text, 'pending')
  from /*=events.table*/public.events/*=*/
$$;

create or replace function indexing.app_consents()
returns table (event_id uuid, user_id uuid) language sql stable as $$
  select /*=consents.event_id*/event_id/*=*/, /*=consents.user_id*/user_id/*=*/
  from /*=consents.table*/public.event_consents/*=*/ where /*=consents.allows*/allow_recognition/*=*/
$$;

-- The photo's key without the white space around it, as the app strips it.
create or replace function indexing.app_profiles()
returns table (user_id uuid, photo_path text) language sql stable as $$
  select /*=profiles.user_id*/user_id/*=*/, btrim(/*=profiles.photo*/photo_path/*=*/, E' \t\r\n\f\u000B\u00A0')
  from /*=profiles.table*/public.profiles/*=*/
$$;

-- The names of attendees, by the column that the operator says holds them; nobody where there is no such column.
create or replace function indexing.app_names_of(attendees uuid[], name_column text)
returns table (user_id uuid, name text) language sql stable as $$
  select /*=profiles.user_id*/user_id/*=*/, to_jsonb(p) ->> app_names_of.name_column from /*=profiles.table*/public.profiles/*=*/ p
  where /*=profiles.user_id*/user_id/*=*/ = any (app_names_of.attendees) and to_jsonb(p) ->> app_names_of.name_column is not null
$$;

-- Locks the rows of these events. Returns those that we hold now or that no longer exist; never waits for the app, so a row
-- that it holds locked is left out.
create or replace function indexing.app_lock_events(events uuid[]) returns uuid[]
language plpgsql set search_path = '' as $$
#variable_conflict use_column
declare
  held uuid[];
begin
  held := array(
    select /*=events.event_id*/event_id/*=*/ from /*=events.table*/public.events/*=*/
    where /*=events.event_id*/event_id/*=*/ = any (app_lock_events.events)
    order by /*=events.event_id*/event_id/*=*/
    for no key update skip locked
  );
  return held || array(
    select unnest(app_lock_events.events)
    except
    select /*=events.event_id*/event_id/*=*/ from /*=events.table*/public.events/*=*/
    where /*=events.event_id*/event_id/*=*/ = any (app_lock_events.events)
  );
end
$$;

-- Which transaction holds the row of an event locked, as far as the owner may see it: {"pid": its process in the database, "role",
-- "since"}, nulls where that is not known; null: none. Locks the row itself for the blink of this transaction.
create or replace function indexing.app_event_holder(event uuid) returns jsonb
language plpgsql set search_path = '' as $$
#variable_conflict use_column
declare
  holder jsonb;
begin
  if app_event_holder.event = any (indexing.app_lock_events(array[app_event_holder.event])) then
    return null;
  end if;
  select jsonb_build_object('pid', a.pid, 'role', a.usename, 'since', a.xact_start) into holder
  from /*=events.table*/public.events/*=*/ held
  join pg_catalog.pg_locks l on l.locktype = 'transactionid' and l.transactionid = held.xmax and l.granted
  join pg_catalog.pg_stat_activity a on a.pid = l.pid
  where /*=events.event_id*/event_id/*=*/ = app_event_holder.event
  limit 1;
  return coalesce(holder, jsonb_build_object('pid', null, 'role', null, 'since', null));
end
$$;

-- The first of two writes to the app's tables: sets the status of those of the given events whose status is one of `expected`. Their
-- rows must have been locked by app_lock_events. Returns the events that were changed.
create or replace function indexing.app_set_status(events uuid[], expected text[], status text) returns uuid[]
language plpgsql set search_path = '' as $$
#variable_conflict use_column
declare
  in_the_apps_type /*=events.table*/public.events/*=*/./*=events.status*/indexing_status/*=*/%type := app_set_status.status;
  changed uuid[];
begin
  with changed as (
    update /*=events.table*/public.events/*=*/ set /*=events.status*/indexing_status/*=*/ = in_the_apps_type
    where /*=events.event_id*/event_id/*=*/ = any (app_set_status.events)
      and coalesce(/*=events.status*/indexing_status/*=*/::text, 'pending') = any (app_set_status.expected)
    returning /*=events.event_id*/event_id/*=*/ as event
  )
  select coalesce(array_agg(event), '{}') into changed from changed;
  return changed;
end
$$;

-- The other write: moves the status of the clean-up along, as the app's own clean-up does. Likewise. An app may have no such column,
-- so this is put together at run time.
create or replace function indexing.app_set_cleanup(events uuid[], expected text, status text) returns uuid[]
language plpgsql set search_path = '' as $$
declare
  written constant text := /*='events.cleanup'*/'cleanup_status'/*=*/;
  changed uuid[];
begin
  if cardinality(events) = 0 then
    return '{}';
  elsif written = 'null' then
    raise exception 'the app has no column in which a clean-up could be noted: name it in app-tables.yml as events.cleanup, or have the app close or delete its events by itself, without CLEANUP_AFTER_HOURS'
      using errcode = 'feature_not_supported';
  end if;
  execute format(
    'with changed as (
       update %s set %s = %L where %s = any ($1) and coalesce(%2$s::text, ''pending'') = $2 returning %4$s as event
     ) select coalesce(array_agg(event), ''{}'') from changed',
    /*='events.table'*/'public.events'/*=*/, written, status, /*='events.event_id'*/'event_id'/*=*/
  ) into changed using events, expected;
  return changed;
end
$$;

-- The triggers. They run inside the app's transactions, so they must neither fail nor wait, whatever the app's columns or our
-- tables look like. Each reads the changed rows in a block of its own, which catches a column that is gone or of another type;
-- a subtransaction that writes nothing costs no id. What cannot be read is noted as "everything".
--
-- EXCEPT and not an anti-join: a plan is kept for the session, and a nested loop that suits one row would not suit 50,000.

create or replace function indexing.on_consents() returns trigger
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  given_events uuid[];
  given_users uuid[];
  taken_events uuid[];
  taken_users uuid[];
begin
  begin
    if tg_op = 'INSERT' then
      select array_agg(/*=consents.event_id*/event_id/*=*/), array_agg(/*=consents.user_id*/user_id/*=*/)
      into given_events, given_users from new_rows where /*=consents.allows*/allow_recognition/*=*/;
    elsif tg_op = 'DELETE' then
      select array_agg(/*=consents.event_id*/event_id/*=*/), array_agg(/*=consents.user_id*/user_id/*=*/)
      into taken_events, taken_users from old_rows where /*=consents.allows*/allow_recognition/*=*/;
    else
      select array_agg(event) filter (where given), array_agg(attendee) filter (where given),
        array_agg(event) filter (where not given), array_agg(attendee) filter (where not given)
      into given_events, given_users, taken_events, taken_users
      from (
        select event, attendee, bool_and(is_new) as given
        from (
          select /*=consents.event_id*/event_id/*=*/, /*=consents.user_id*/user_id/*=*/, true from new_rows where /*=consents.allows*/allow_recognition/*=*/
          union all
          select /*=consents.event_id*/event_id/*=*/, /*=consents.user_id*/user_id/*=*/, false from old_rows where /*=consents.allows*/allow_recognition/*=*/
        ) allowed (event, attendee, is_new)
        group by event, attendee having bool_and(is_new) = bool_or(is_new) -- now, or before, but not both
      ) changed;
    end if;
  exception when others then
    perform indexing.note_everything(sqlerrm);
    return null;
  end;
  if given_events is not null then
    perform indexing.note('consents', given_events, given_users, false);
  end if;
  if taken_events is not null then
    perform indexing.note('consents', taken_events, taken_users, true);
  end if;
  return null;
end
$$;

-- Before an update that names photo_path, also with an equal value: the app does that after it has replaced the object under
-- the same key. A trigger with a column list cannot see the rows, so it leaves word for the one that can. The word holds until the
-- transaction ends: a look too many costs a HeadObject request, one too few a face.
create or replace function indexing.on_photo_named() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  perform set_config('indexing.photo_named', 'yes', true);
  return null;
end
$$;

create or replace function indexing.on_profiles() returns trigger
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  named constant boolean := coalesce(current_setting('indexing.photo_named', true), '') = 'yes';
  changed uuid[];
  erased uuid[];
begin
  begin
    if tg_op = 'INSERT' then
      select array_agg(/*=profiles.user_id*/user_id/*=*/) into changed from new_rows where /*=profiles.photo*/photo_path/*=*/ is not null;
    elsif tg_op = 'DELETE' then
      select array_agg(/*=profiles.user_id*/user_id/*=*/) into erased from old_rows;
    else
      with is_now (attendee, photo) as (
        select /*=profiles.user_id*/user_id/*=*/, /*=profiles.photo*/photo_path/*=*/ from new_rows
      ), was (attendee, photo) as (
        select /*=profiles.user_id*/user_id/*=*/, /*=profiles.photo*/photo_path/*=*/ from old_rows
      )
      select array_agg(attendee) filter (where photo is not null), array_agg(attendee) filter (where photo is null)
      into changed, erased from (select * from is_now except select * from was where not named) c;
    end if;
  exception when others then
    perform indexing.note_everything(sqlerrm);
    return null;
  end;
  if changed is not null then
    perform indexing.note('profiles', null, changed, false);
  end if;
  if erased is not null then
    perform indexing.note('profiles', null, erased, true);
  end if;
  return null;
end
$$;

-- What we read of an event but its status, which is ours (an event that is set back to pending is claimed anew), and its name.
create or replace function indexing.on_events() returns trigger
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  changed uuid[];
  closed_events uuid[];
begin
  begin
    if tg_op = 'DELETE' then
      select array_agg(/*=events.event_id*/event_id/*=*/) into closed_events from old_rows;
    else
      with is_now (event, starts_at, ends_at, active, closed) as (
        select /*=events.event_id*/event_id/*=*/, /*=events.starts_at*/starts_at/*=*/, /*=events.ends_at*/ends_at/*=*/, /*=events.active*/is_active/*=*/, coalesce(/*=events.closed*/cleanup_status::text <> 'pending'/*=*/, false)
        from new_rows
      ), was as (
        select /*=events.event_id*/event_id/*=*/, /*=events.starts_at*/starts_at/*=*/, /*=events.ends_at*/ends_at/*=*/, /*=events.active*/is_active/*=*/, coalesce(/*=events.closed*/cleanup_status::text <> 'pending'/*=*/, false)
        from old_rows
      )
      select array_agg(event) filter (where not closed), array_agg(event) filter (where closed)
      into changed, closed_events from (select * from is_now except select * from was) c;
    end if;
  exception when others then
    perform indexing.note_everything(sqlerrm);
    return null;
  end;
  if changed is not null then
    perform indexing.note('events', changed, null, false);
  end if;
  if closed_events is not null then
    perform indexing.note('events', closed_events, null, true);
  end if;
  return null;
end
$$;

create or replace function indexing.on_truncate() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  perform indexing.note_everything('TRUNCATE of ' || tg_table_name);
  return null;
end
$$;

-- Creating a trigger needs a lock that waits for the app's open transactions, and the app's writes would queue behind it. So
-- the locks are asked for in short tries, with rests in between.
do $$
declare
  tries constant integer := 30;
  old record;
  word text;
  status /*=events.table*/public.events/*=*/./*=events.status*/indexing_status/*=*/%type;
begin
  begin
    foreach word in array array['pending', 'in_progress', 'completed', 'failed'] loop
      status := word;
    end loop;
  exception when others then
    raise exception 'the column of the event''s status cannot hold %: %', word, sqlerrm
      using hint = 'It must take pending, in_progress, completed and failed: a text column, or an enum with these.';
  end;

  for attempt in 1 .. tries loop
    begin
      set local lock_timeout = '300ms';
      lock table /*=events.table*/public.events/*=*/, /*=consents.table*/public.event_consents/*=*/, /*=profiles.table*/public.profiles/*=*/
        in share row exclusive mode;
      -- Of an adapter with other names.
      for old in
        select t.tgname as name, t.tgrelid::regclass as app_table from pg_trigger t join pg_proc f on f.oid = t.tgfoid
        where f.pronamespace = 'indexing'::regnamespace and t.tgrelid <> all (array[
          /*='events.table'*/'public.events'/*=*/, /*='consents.table'*/'public.event_consents'/*=*/, /*='profiles.table'*/'public.profiles'/*=*/]::regclass[])
      loop
        execute format('drop trigger %I on %s', old.name, old.app_table);
      end loop;
      exit;
    exception when lock_not_available then
      if attempt = tries then
        raise exception 'a transaction of the app has held the tables of its events, consents or profiles locked for % seconds', tries
          using errcode = 'lock_not_available', hint = 'Nothing was changed. End that transaction (see pg_stat_activity) and run the migration again.';
      end if;
    end;
    perform pg_sleep(0.7);
  end loop;

  create or replace trigger indexing_consents_inserted after insert on /*=consents.table*/public.event_consents/*=*/
    referencing new table as new_rows for each statement execute function indexing.on_consents();
  create or replace trigger indexing_consents_updated after update on /*=consents.table*/public.event_consents/*=*/
    referencing old table as old_rows new table as new_rows for each statement execute function indexing.on_consents();
  create or replace trigger indexing_consents_deleted after delete on /*=consents.table*/public.event_consents/*=*/
    referencing old table as old_rows for each statement execute function indexing.on_consents();
  create or replace trigger indexing_truncated after truncate on /*=consents.table*/public.event_consents/*=*/
    for each statement execute function indexing.on_truncate();

  create or replace trigger indexing_profiles_inserted after insert on /*=profiles.table*/public.profiles/*=*/
    referencing new table as new_rows for each statement execute function indexing.on_profiles();
  create or replace trigger indexing_photo_named before update of /*=profiles.photo_columns*/photo_path/*=*/ on /*=profiles.table*/public.profiles/*=*/
    for each statement execute function indexing.on_photo_named();
  create or replace trigger indexing_profiles_updated after update on /*=profiles.table*/public.profiles/*=*/
    referencing old table as old_rows new table as new_rows for each statement execute function indexing.on_profiles();
  create or replace trigger indexing_profiles_deleted after delete on /*=profiles.table*/public.profiles/*=*/
    referencing old table as old_rows for each statement execute function indexing.on_profiles();
  create or replace trigger indexing_truncated after truncate on /*=profiles.table*/public.profiles/*=*/
    for each statement execute function indexing.on_truncate();

  create or replace trigger indexing_events_updated after update on /*=events.table*/public.events/*=*/
    referencing old table as old_rows new table as new_rows for each statement execute function indexing.on_events();
  create or replace trigger indexing_events_deleted after delete on /*=events.table*/public.events/*=*/
    referencing old table as old_rows for each statement execute function indexing.on_events();
  create or replace trigger indexing_truncated after truncate on /*=events.table*/public.events/*=*/
    for each statement execute function indexing.on_truncate();
end
$$;

-- ── notes.sql 24f7e26b8288cc6f

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

-- ── jobs.sql 37396cd6910c3794

-- What all parts of the ledger share: the desired state of a job, its place in the outbox, and how it is queued.
-- Lock order, everywhere: the ledger's lock, jobs (by event_id, user_id), event runs, the app's event rows, the pace.

-- One lock serialises all inserts into the ledger, so that a change is not dropped while its event is being claimed.
create or replace function indexing.lock_ledger() returns void
language sql set search_path = '' as $$
  select pg_advisory_xact_lock(hashtext('indexing.face_jobs'))
$$;

-- What the app wants for an attendee of an event now. The one place of this rule.
--   photo_key    the object whose face should be in the collection; null when there is a reason against it
--   reason       why no face is to be indexed; null when there is a photo
--   profile_key  the object that the profile names, also when there is a reason against indexing it
create or replace function indexing.desired(event uuid, attendee uuid)
returns table (photo_key text, reason text, profile_key text) language sql stable as $$
  select case when against.reason is null then p.photo_path end, against.reason, p.photo_path
  from (select event as event_id, attendee as user_id) j
  left join indexing.app_events() e on e.event_id = j.event_id
  left join indexing.app_consents() c on c.event_id = j.event_id and c.user_id = j.user_id
  left join indexing.app_profiles() p on p.user_id = j.user_id
  cross join lateral (
    select case
      when e.event_id is null then 'event_deleted'
      when c.user_id is null then 'no_consent'
      when e.closed then 'event_closed'
      when p.user_id is null then 'no_profile'
      when coalesce(p.photo_path, '') = '' then 'no_photo'
      when p.photo_path ~* '^(([a-z][a-z0-9+.-]*:)?//|data:)' then 'photo_is_url'
      when octet_length(p.photo_path) > 1024 then 'photo_path_too_long' -- S3's limit for a key
      when not e.active then 'event_inactive'
    end as reason
  ) against
$$;

-- Whether a face already in the collection may stay although its job has this reason against indexing: the event is only
-- switched off, and the face is of the profile's photo.
create or replace function indexing.may_stay(reason text, profile_key text, face_key text) returns boolean
language sql immutable as $$
  select coalesce(reason = 'event_inactive' and profile_key = face_key, false)
$$;

-- How a job ends that has no face in the collection, for this reason.
create or replace function indexing.state_without_face(reason text) returns text
language sql immutable as $$
  select case when reason in ('no_consent', 'event_deleted') then 'erased' else 'skipped' end
$$;

-- The order of the outbox: erasures, events that are still to come or under way, events that are over.
create or replace function indexing.job_priority(erases boolean, ends_at timestamptz) returns smallint
language sql stable as $$
  select case when erases then 0 when ends_at > now() then 1 else 2 end::smallint
$$;

-- The one way to queue jobs that exist: raises their version, so that messages and results of the older one are stale. A
-- running job stays with its worker, whose complete will see the new version. A job that is queued or sent already, and does
-- not wait for another try, is left as it is: its worker will read the desired state. Not so when something has to be erased.
--   events, users  the jobs, pairwise
--   erases         whether their faces may have to go
--   anew           whether attempts start again from zero: the desired state may have changed, or an operator asks
--   listing        whether the collection may hold faces of theirs that the ledger does not know
--   forget_photo   whether the photo is to be looked at as if for the first time
--   forget_faces   whether the collection holds no face of theirs, but for what a worker may have put there just now
--   urgent         whether they go through the urgent queue
-- Returns how many were queued.
create or replace function indexing.queue_jobs(
  events uuid[], users uuid[],
  erases boolean default false, anew boolean default true, listing boolean default false,
  forget_photo boolean default false, forget_faces boolean default false, urgent boolean default true
) returns integer
language plpgsql set search_path = '' as $$
declare
  queued integer;
begin
  perform from indexing.face_jobs j
  join (select distinct * from unnest(events, users) as u(event_id, user_id)) chosen using (event_id, user_id)
  order by j.event_id, j.user_id for update of j;

  update indexing.face_jobs j set
    version = j.version + 1,
    state = case when j.state = 'running' then 'running' else 'queued' end,
    priority = indexing.job_priority(erases, r.ends_at), starts_at = r.starts_at,
    repeated = j.repeated or j.ended_at is not null,
    urgent = erases or (queue_jobs.urgent and r.ends_at > now()),
    queued_at = case when j.state = 'queued' then j.queued_at else clock_timestamp() end,
    ended_at = null, look_again_at = null,
    attempts = case when anew then 0 else j.attempts end,
    rescues = case when anew then 0 else j.rescues end,
    dead_letters = case when anew then 0 else j.dead_letters end,
    unanswered = case when anew then 0 else j.unanswered end, -- the app may have indexed another photo by itself meanwhile
    reason = case when anew then null else j.reason end, error = case when anew then null else j.error end,
    face_id = case when forget_faces then null else j.face_id end,
    obsolete_face_ids = case when forget_faces then '{}' else j.obsolete_face_ids end,
    needs_listing = case when forget_faces then j.state = 'running' else j.needs_listing or listing end,
    photo_version = case when forget_photo then j.version + 1 else j.photo_version end,
    photo_etag = case when forget_photo then null else j.photo_etag end,
    refused = case when forget_photo then null else j.refused end,
    missing_key = case when forget_photo then null else j.missing_key end
  from (select distinct * from unnest(events, users) as u(event_id, user_id)) chosen
  join indexing.event_runs r using (event_id)
  where j.event_id = chosen.event_id and j.user_id = chosen.user_id
    and not (j.state in ('queued', 'sent') and j.error is null and j.starts_at = r.starts_at and not (erases or listing or forget_photo));
  get diagnostics queued = row_count;
  return queued;
end
$$;

-- The last ten attempts of a job with this one added.
create or replace function indexing.with_attempt(history jsonb, outcome text, reason text, error text) returns jsonb
language sql stable as $$
  select case when jsonb_array_length(history) >= 10 then history - 0 else history end
    || jsonb_strip_nulls(jsonb_build_object('at', clock_timestamp(), 'outcome', outcome, 'reason', reason, 'error', left(error, 300)))
$$;

-- How the last attempt went that gave the job an end; null: none did, of the last ten.
create or replace function indexing.last_end(history jsonb) returns text
language sql immutable as $$
  select h ->> 'outcome' from jsonb_array_elements(history) with ordinality as attempts(h, n)
  where h ->> 'outcome' in ('indexed', 'erased', 'skipped') order by n desc limit 1
$$;

-- When a failed job is tried again by itself, while its event lasts: after 5, 10, 20, 40 minutes, and then every hour.
create or replace function indexing.next_try(now timestamptz, failures integer) returns timestamptz
language sql immutable as $$
  select now + least(interval '1 hour', interval '5 minutes' * 2 ^ least(failures - 1, 10))
$$;

-- ── pace.sql 95e083859d3e1cdc

-- Calls a second at this moment. After a throttled call the rate is cut, and comes back by a hundredth of the quota a second.
-- Never less than one call in two seconds, unless the quota is.
create or replace function indexing.current_rate() returns double precision
language sql stable set search_path = '' as $$
  select case when p.rate is null then s.index_faces_tps else least(s.index_faces_tps, greatest(0.5,
    p.rate + s.index_faces_tps * 0.01 * greatest(0, extract(epoch from clock_timestamp() - p.rate_since)))) end
  from indexing.pace p cross join indexing.settings s
$$;

-- Hands out the next slots: the first begins in first_ms, the others follow every every_ms. Slots nobody uses cost their
-- time and no more. After a rest the first lie up to 0.25 s back, to be used at once: a quota is a bucket that has filled.
-- No slot lies further ahead than a minute; only a clock that was set back could ask for that.
create or replace function indexing.take_slots(slots integer) returns jsonb
language plpgsql set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  a_second constant double precision := indexing.current_rate();
  first timestamptz;
begin
  if slots = 0 then
    return jsonb_build_object('first_ms', 0, 'every_ms', 0);
  end if;
  update indexing.pace p set
    next_slot = least(greatest(p.next_slot, now - interval '0.25 seconds'), now + interval '1 minute')
      + make_interval(secs => slots / a_second)
  where p.only_row
  returning p.next_slot - make_interval(secs => slots / a_second) into first;
  return jsonb_build_object('first_ms', extract(epoch from first - now) * 1000, 'every_ms', 1000 / a_second);
end
$$;

-- Rekognition throttled: something else uses the quota too. All workers go slower, once a second at most.
create or replace function indexing.slow_down() returns void
language sql set search_path = '' as $$
  update indexing.pace p set rate = greatest(0.5, 0.7 * indexing.current_rate()), rate_since = clock_timestamp()
  where p.only_row and case when p.rate is null then true -- and no time since, which Postgres 15 and 16 could not subtract
    else abs(extract(epoch from clock_timestamp() - p.rate_since)) > 1 end
$$;

-- ── settle.sql dffa299392c896c7

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

-- ── receipts.sql 13d9d8956ef8cabd

-- The proof of erasure. Each revocation of an attendee, and each closing of an event, is a row of indexing.erasures from the
-- moment it is processed. The worker's report says when DeleteFaces had answered; a later listing, by reconcile, that no face of
-- theirs is left. Then the scheduler makes a receipt of it. Only the scheduler touches the chain of receipts, so that no worker
-- waits for another.
-- Rows of erasures are locked after everything else, by their ids.

-- Notes that faces of these attendees have to go: one open erasure each.
--   events, users, noted  pairwise; when the app's change was noted
--   why                   consent: taken back; profile: it or its photo is gone; found: by reconcile; request: of an operator
create or replace function indexing.note_erasures(events uuid[], users uuid[], noted timestamptz[], why text) returns void
language plpgsql set search_path = '' as $$
declare
  again bigint[]; -- open ones: what was answered before this revocation is no answer to it
begin
  again := array(
    select e.id from indexing.erasures e
    join (select distinct * from unnest(events, users) as u(event_id, user_id)) n using (event_id, user_id)
    where e.verified_at is null and e.wanted_again_at is null order by e.id for update of e
  );
  update indexing.erasures e set
    deleted_at = null,
    reason = case when n.noted_at < e.noted_at then why else e.reason end, noted_at = least(e.noted_at, n.noted_at)
  from (
    select u.event_id, u.user_id, min(u.noted_at) as noted_at from unnest(events, users, noted) as u(event_id, user_id, noted_at)
    group by 1, 2
  ) n
  where e.id = any (again) and e.event_id = n.event_id and e.user_id = n.user_id;
  insert into indexing.erasures (event_id, user_id, reason, noted_at)
  select n.event_id, n.user_id, why, min(n.noted_at)
  from unnest(events, users, noted) as n(event_id, user_id, noted_at)
  where not exists (
    select from indexing.erasures e
    where e.event_id = n.event_id and e.user_id = n.user_id and e.verified_at is null and e.wanted_again_at is null
  )
  group by n.event_id, n.user_id;
end
$$;

-- Records what workers did for attendees with an open erasure: [{"event_id", "user_id", "faces": deleted, "ended": whether the
-- job has ended, "indexed": with a face, which the app wants again, "unwanted": whether the app wants none of them, "had_face":
-- whether the job had ended with a face before}, …]. A face that a worker deleted because nobody wants it, before any change said
-- so, is an erasure, too; so is one that was gone by then, because the app had deleted it or the whole collection.
create or replace function indexing.answer_erasures(done jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  concerned bigint[];
begin
  concerned := array(
    select e.id from indexing.erasures e join jsonb_to_recordset(done) as d(event_id uuid, user_id uuid) using (event_id, user_id)
    where e.verified_at is null and e.wanted_again_at is null order by e.id for update of e
  );
  with noted as (
    insert into indexing.erasures (event_id, user_id, reason, noted_at)
    select d.event_id, d.user_id, 'found', now
    from jsonb_to_recordset(done) as d(event_id uuid, user_id uuid, faces integer, ended boolean, unwanted boolean, had_face boolean)
    where d.unwanted and (d.faces > 0 or (d.ended and d.had_face)) and not exists (
      select from indexing.erasures e
      where e.id = any (concerned) and e.event_id = d.event_id and e.user_id = d.user_id
    )
    returning id
  )
  select concerned || coalesce(array_agg(id), '{}') into concerned from noted;
  if cardinality(concerned) > 0 then
    update indexing.erasures e set
      faces = e.faces + d.faces,
      deleted_at = case when d.ended and not d.indexed then coalesce(e.deleted_at, now) else e.deleted_at end,
      wanted_again_at = case when d.ended and d.indexed then now end
    from jsonb_to_recordset(done) as d(event_id uuid, user_id uuid, faces integer, ended boolean, indexed boolean)
    where e.id = any (concerned) and e.event_id = d.event_id and e.user_id = d.user_id;
  end if;
end
$$;

-- Records what a listing of the event's collection shows: an attendee whose faces had been deleted longer ago than a listing
-- lags behind is seen to be gone. The arguments are those of reconcile.
create or replace function indexing.verify_erasures(
  event uuid, as_of timestamptz, after uuid, through uuid, faces jsonb, lag_seconds double precision
) returns void
language plpgsql set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  listed constant uuid[] := array(
    select f.user_id from jsonb_to_recordset(faces) as f(user_id uuid, face_ids jsonb) where f.face_ids <> '[]'
  );
  concerned bigint[];
begin
  concerned := array(
    select e.id from indexing.erasures e
    where e.event_id = event and (after is null or e.user_id > after) and (through is null or e.user_id <= through)
      and e.verified_at is null and e.wanted_again_at is null
      and e.deleted_at <= as_of - make_interval(secs => lag_seconds) and e.user_id <> all (listed)
    order by e.id for update
  );
  update indexing.erasures e set verified_at = now where e.id = any (concerned);
end
$$;

-- An event was closed: all faces go with its collection.
create or replace function indexing.note_closing(event uuid) returns void
language sql set search_path = '' as $$
  insert into indexing.erasures (event_id, reason, noted_at) values (event, 'event', clock_timestamp())
$$;

-- DeleteCollection has answered; `final` when no call that was under way can have made it anew.
create or replace function indexing.answer_closing(event uuid, final boolean) returns void
language sql set search_path = '' as $$
  update indexing.erasures e set
    deleted_at = coalesce(e.deleted_at, clock_timestamp()), verified_at = case when final then clock_timestamp() end
  where e.event_id = event and e.user_id is null and e.verified_at is null
$$;

create or replace function indexing.utc(moment timestamptz) returns text
language sql immutable as $$
  select to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

-- What the hash of a receipt is made of, after the hash of the receipt before it: its fields but the hash, in their order, nulls
-- as nothing, times in UTC to the microsecond.
create or replace function indexing.receipt_text(receipt indexing.receipts) returns text
language sql stable as $$
  select array_to_string(array[
    receipt.position::text, receipt.event_id::text, receipt.user_id::text, receipt.reason,
    indexing.utc(receipt.noted_at), receipt.faces::text, indexing.utc(receipt.deleted_at), indexing.utc(receipt.verified_at),
    indexing.utc(receipt.wanted_again_at), indexing.utc(receipt.sealed_at)
  ], '|', '')
$$;

create or replace function indexing.receipt_hash(before bytea, receipt indexing.receipts) returns bytea
language sql stable as $$
  select sha256(before || convert_to(indexing.receipt_text(receipt), 'UTF8'))
$$;

-- A receipt is deleted only when the chain begins after it; see prune.
create or replace function indexing.on_receipts() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if tg_op = 'DELETE' and old.position <= (select c.start_position from indexing.receipt_chain c) then
    return old;
  end if;
  raise exception 'a receipt of an erasure is neither changed nor deleted' using errcode = 'restrict_violation';
end
$$;
create or replace trigger receipts_append_only before update or delete on indexing.receipts
  for each row execute function indexing.on_receipts();

-- What could keep an erasure open for ever: an attendee of a collection that is gone is gone with it; a job that has failed or
-- was forgotten is tried again every hour, also after the event's end; an event whose listing has not come is reconciled.
create or replace function indexing.push_erasures(page integer) returns void
language plpgsql set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
begin
  perform indexing.queue_jobs(array_agg(event_id), array_agg(user_id), erases => true, listing => true) from (
    select j.event_id, j.user_id
    from indexing.erasures e join indexing.face_jobs j using (event_id, user_id) join indexing.event_runs r using (event_id)
    where e.verified_at is null and e.wanted_again_at is null and e.deleted_at is null and e.noted_at < now - interval '1 hour'
      and j.ended_at < now - interval '1 hour' and r.collection in ('missing', 'ready')
    order by e.noted_at limit page
  ) stuck;
  perform indexing.touch_runs(array_agg(distinct event_id)) from (
    select e.event_id from indexing.erasures e
    where e.verified_at is null and e.wanted_again_at is null and e.deleted_at < now - interval '3 minutes'
    order by e.noted_at limit page
  ) unseen;
  update indexing.erasures e set deleted_at = coalesce(e.deleted_at, now), verified_at = now
  where e.id = any (array(
    select o.id from indexing.erasures o join indexing.event_runs r using (event_id)
    where o.verified_at is null and o.wanted_again_at is null and o.user_id is not null and r.collection = 'deleted'
    order by o.id limit page for update of o skip locked
  ));
end
$$;

-- Makes receipts of a page of the erasures that have ended. Callers take turns.
-- Returns {"sealed": n, "seconds": [from the change to the listing without a face, …] of those that were verified,
-- "position", "hash": of the last receipt, "more": whether to call again}.
create or replace function public.indexing_seal_receipts(page integer) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  chain indexing.receipt_chain;
  erasure indexing.erasures;
  receipt indexing.receipts;
  sealed bigint[] := '{}';
  seconds double precision[] := '{}';
begin
  perform indexing.push_erasures(page);
  perform pg_advisory_xact_lock(hashtext('indexing.receipts'));
  insert into indexing.receipt_chain default values on conflict do nothing;
  select * into chain from indexing.receipt_chain;
  for erasure in
    select * from indexing.erasures e where e.verified_at is not null or e.wanted_again_at is not null
    order by e.id limit page for update skip locked
  loop
    receipt := row(
      chain.position + 1, erasure.event_id, erasure.user_id, erasure.reason, erasure.noted_at, erasure.faces, erasure.deleted_at,
      erasure.verified_at, erasure.wanted_again_at, clock_timestamp(), null
    );
    receipt.hash := indexing.receipt_hash(chain.hash, receipt);
    insert into indexing.receipts select receipt.*;
    chain.position := receipt.position;
    chain.hash := receipt.hash;
    sealed := sealed || erasure.id;
    if erasure.verified_at is not null then
      seconds := seconds || extract(epoch from erasure.verified_at - erasure.noted_at)::double precision;
    end if;
  end loop;
  update indexing.receipt_chain c set position = chain.position, hash = chain.hash
  where c.position <> chain.position;
  delete from indexing.erasures e where e.id = any (sealed);
  return jsonb_build_object(
    'sealed', cardinality(sealed), 'seconds', to_jsonb(seconds), 'position', chain.position, 'hash', encode(chain.hash, 'hex'),
    'more', cardinality(sealed) = page
  );
end
$$;

-- Verifies a page of the chain.
--   after, previous  the position and hash that the page before ended with; nulls at the start
-- Returns {"through", "hash": of the last one of the page, "broken_at": the first position at which it does not fit, or null,
-- "more": whether to call again}.
create or replace function public.indexing_verify_receipts(
  after bigint default null, previous text default null, page integer default 5000
) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  chain indexing.receipt_chain;
  place bigint;
  last_hash bytea;
  receipt indexing.receipts;
  read integer := 0;
begin
  select * into chain from indexing.receipt_chain;
  place := coalesce(after, chain.start_position, 0);
  last_hash := coalesce(decode(previous, 'hex'), chain.start_hash, '');
  for receipt in
    select * from indexing.receipts r where r.position > place order by r.position limit page
  loop
    if receipt.position <> place + 1 or receipt.hash is distinct from indexing.receipt_hash(last_hash, receipt) then
      return jsonb_build_object('through', place, 'hash', encode(last_hash, 'hex'), 'broken_at', place + 1, 'more', false);
    end if;
    read := read + 1;
    place := receipt.position;
    last_hash := receipt.hash;
  end loop;
  return jsonb_build_object(
    'through', place, 'hash', encode(last_hash, 'hex'), 'more', read = page,
    -- The end must be the one that was noted when the last receipt was written.
    'broken_at', case when read < page and (place, last_hash) is distinct from (coalesce(chain.position, 0), coalesce(chain.hash, ''))
      then place + 1 end
  );
end
$$;

-- The erasures of an attendee, of an event, or of an attendee of an event; the closings of the events whose job of the attendee
-- is still known included. A page of the receipts at a time, the latest first.
--   before  the position of the last receipt of the page before; null at the start
-- Returns {
--   "open": [{"event_id", "user_id" (null: the whole event), "reason", "noted_at", "faces", "deleted_at", "verified_at",
--             "wanted_again_at", "state", "error": of the job}, …], those included whose change is not processed yet,
--   "receipts": [{"position", "event_id", "user_id", "reason", "noted_at", "faces", "deleted_at", "verified_at", "wanted_again_at",
--             "sealed_at", "text", "previous", "hash": in hexadecimal; sha256 of the bytes of previous and of the text}, …]
-- }
create or replace function public.indexing_receipts(
  attendee uuid default null, event uuid default null, before bigint default null, page integer default 500
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'open', (
      select coalesce(jsonb_agg(to_jsonb(o) order by o.noted_at), '[]') from (
        select e.event_id, e.user_id, e.reason, e.noted_at, e.faces, e.deleted_at, e.verified_at, e.wanted_again_at,
          j.state, j.error
        from (
          select event_id, user_id, reason, noted_at, faces, deleted_at, verified_at, wanted_again_at from indexing.erasures
          union all
          select c.event_id, c.user_id, 'consent', c.noted_at, 0, null, null, null from indexing.changes c
          where c.source = 'consents' and c.erases and exists (select from indexing.event_runs r where r.event_id = c.event_id)
          union all
          select k.event_id, c.user_id, 'profile', c.noted_at, 0, null, null, null
          from indexing.changes c join indexing.face_jobs k using (user_id) where c.source = 'profiles' and c.erases
        ) e
        left join indexing.face_jobs j using (event_id, user_id)
        where (indexing_receipts.event is null or e.event_id = indexing_receipts.event)
          and (attendee is null or e.user_id = attendee or e.user_id is null
            and exists (select from indexing.face_jobs k where k.event_id = e.event_id and k.user_id = attendee))
        order by e.noted_at limit 1000
      ) o
    ),
    'receipts', (
      select coalesce(jsonb_agg(to_jsonb(r) || jsonb_build_object(
          'hash', encode(r.hash, 'hex'), 'text', indexing.receipt_text(r),
          'previous', encode(coalesce(
            (select p.hash from indexing.receipts p where p.position = r.position - 1),
            (select c.start_hash from indexing.receipt_chain c where c.start_position = r.position - 1), ''), 'hex')
        ) order by r.position desc), '[]')
      from (
        select asked.position from (
          select s.position from indexing.receipts s -- each by an index
          where s.user_id = attendee and (indexing_receipts.event is null or s.event_id = indexing_receipts.event)
          union all
          select s.position from indexing.face_jobs k join indexing.receipts s on s.event_id = k.event_id and s.user_id is null
          where k.user_id = attendee and (indexing_receipts.event is null or k.event_id = indexing_receipts.event)
          union all
          select s.position from indexing.receipts s
          where attendee is null and (indexing_receipts.event is null or s.event_id = indexing_receipts.event)
        ) asked
        where before is null or asked.position < before
        order by asked.position desc limit page
      ) found
      join indexing.receipts r using (position)
    )
  )
$$;

-- ── claim.sql faafa293aa0ad0b3

-- The first call of a scheduler run: writes down what the deployment sets; nulls: nothing. Returns {"schema_version"}.
create or replace function public.indexing_start_run(
  tps double precision, max_failed_share double precision, cleanup_after_hours double precision default null,
  collection_prefix text default null, photo_bucket text default null,
  several_faces text default null, convert_photos boolean default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  update indexing.settings s set
    index_faces_tps = tps, max_failed_share = indexing_start_run.max_failed_share,
    cleanup_after_hours = indexing_start_run.cleanup_after_hours,
    collection_prefix = indexing_start_run.collection_prefix, photo_bucket = indexing_start_run.photo_bucket,
    several_faces = indexing_start_run.several_faces, convert_photos = indexing_start_run.convert_photos
  where s.only_row
    and (s.index_faces_tps, s.max_failed_share, s.cleanup_after_hours, s.collection_prefix, s.photo_bucket,
         s.several_faces, s.convert_photos) is distinct from
      (tps, indexing_start_run.max_failed_share, indexing_start_run.cleanup_after_hours,
       indexing_start_run.collection_prefix, indexing_start_run.photo_bucket,
       indexing_start_run.several_faces, indexing_start_run.convert_photos);
  return jsonb_build_object('schema_version', public.indexing_schema_version());
end
$$;

-- Claims the events that start within the window. Those of the next day, too, that could not be done in time otherwise: when
-- what is queued and what starts before them, at the present pace and with a fifth to spare, takes until their start.
-- An event that ended so long ago that its clean-up is due is not claimed (see claimable_age), nor one whose old collection is still being deleted.
--   window_minutes  from 0 to 10080
-- Returns {"events": [event_id, …], "locked": [event_id, …]}: each claimed event is in exactly one caller's answer; the
-- locked ones are due, but the app holds their rows. A claim opens the event run; fan_out writes the jobs.
create or replace function public.indexing_claim(window_minutes double precision) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  open_jobs bigint;
  rate constant double precision := indexing.current_rate();
  ended_after constant timestamptz := now - indexing.claimable_age();
  due uuid[];
  claimed uuid[];
begin
  if window_minutes is null or window_minutes not between 0 and 10080 then
    raise exception 'window_minutes must be a number from 0 to 10080, not %', coalesce(window_minutes::text, 'null')
      using errcode = 'invalid_parameter_value';
  end if;
  perform indexing.lock_ledger();
  select count(*) into open_jobs from indexing.face_jobs j where j.ended_at is null and j.priority < 2;

  with waiting as (
    select e.event_id, e.starts_at, e.ends_at <= now as over, sum((
      select count(*) from indexing.app_consents() c where c.event_id = e.event_id
    )) over (order by e.ends_at <= now, e.starts_at, e.event_id) as attendees_until
    from indexing.app_events() e
    where e.active and not e.closed and e.status = 'pending'
      and e.starts_at <= now + greatest(make_interval(secs => window_minutes * 60), interval '1 day')
      and e.ends_at > ended_after
      and not exists (select from indexing.event_runs r where r.event_id = e.event_id and r.collection = 'closing')
    order by over, e.starts_at, e.event_id
    limit 1000
  )
  select coalesce(array_agg(w.event_id order by over, w.starts_at, w.event_id), '{}') into due from waiting w
  where w.starts_at <= now + make_interval(secs => window_minutes * 60)
    or w.starts_at <= now + make_interval(secs => 1.2 * (open_jobs + w.attendees_until) / rate);

  claimed := indexing.app_lock_events(due);
  claimed := indexing.app_set_status(claimed, array['pending'], 'in_progress');

  -- An event that was set back to pending is looked at anew, its collection included.
  insert into indexing.event_runs as r (event_id, starts_at, ends_at)
  select e.event_id, e.starts_at, e.ends_at from indexing.app_events() e where e.event_id = any (claimed)
  order by e.event_id
  on conflict (event_id) do update set
    state = 'in_progress', reason = null, starts_at = excluded.starts_at, ends_at = excluded.ends_at,
    claimed_at = clock_timestamp(), fanned_out_through = null, fanned_out_at = null, settled_at = null,
    collection = 'missing', collection_attempts = 0, collection_error = null, collection_due = clock_timestamp(),
    closed_at = null, cleaning = false, reconcile_due = excluded.reconcile_due;

  return jsonb_build_object(
    'events', coalesce((select jsonb_agg(x order by p) from unnest(due) with ordinality as d(x, p) where x = any (claimed)), '[]'),
    'locked', coalesce((select jsonb_agg(x order by p) from unnest(due) with ordinality as d(x, p)
      where x <> all (claimed)
        and exists (select from indexing.app_events() e where e.event_id = x and e.status = 'pending')), '[]')
  );
end
$$;

-- Writes one page of the jobs of claimed events, the soonest first: one for each attendee who consents now, and one for each
-- whom the ledger knows from before. Later consents come as changes. Returns {"jobs": written, "more": whether to call again}.
create or replace function public.indexing_fan_out(page integer default 10000) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  run indexing.event_runs;
  attendees uuid[];
begin
  perform indexing.lock_ledger();
  select * into run from indexing.event_runs r
  where r.state = 'in_progress' and r.fanned_out_at is null and r.collection = 'ready'
  order by r.ends_at <= now(), r.starts_at, r.event_id limit 1;
  if not found then
    return jsonb_build_object('jobs', 0, 'more', false);
  end if;

  attendees := array(
    (select c.user_id from indexing.app_consents() c
     where c.event_id = run.event_id and (run.fanned_out_through is null or c.user_id > run.fanned_out_through)
     order by c.user_id limit page)
    union
    (select j.user_id from indexing.face_jobs j
     where j.event_id = run.event_id and (run.fanned_out_through is null or j.user_id > run.fanned_out_through)
     order by j.user_id limit page)
    order by user_id limit page
  );

  -- Attendees known from before; those who changed since the claim are queued already.
  perform indexing.queue_jobs(array_agg(j.event_id), array_agg(j.user_id), urgent => false)
  from indexing.face_jobs j
  where j.event_id = run.event_id and j.user_id = any (attendees) and j.queued_at < run.claimed_at;

  insert into indexing.face_jobs (event_id, user_id, priority, starts_at)
  select run.event_id, attendee, indexing.job_priority(false, run.ends_at), run.starts_at
  from unnest(attendees) attendee
  on conflict (event_id, user_id) do nothing;

  update indexing.event_runs r set
    fanned_out_through = coalesce(attendees[cardinality(attendees)], r.fanned_out_through),
    fanned_out_at = case when cardinality(attendees) < page then clock_timestamp() end
  where r.event_id = run.event_id;
  perform indexing.settle(array[run.event_id]); -- nobody consents: nothing is left to do
  return jsonb_build_object('jobs', cardinality(attendees), 'more', true);
end
$$;

-- ── collections.sql ba7a1c06f88351b9

-- Hands out the collections to be created or deleted, each to one caller for 90 s, which is longer than a scheduler lives:
-- deletions first, then those of the events that start soonest.
-- Returns {"create": [event_id, …], "delete": [event_id, …]}.
create or replace function public.indexing_collections_due(page integer) returns jsonb
language sql security definer set search_path = '' as $$
  with picked as (
    select r.event_id from indexing.event_runs r
    where r.collection in ('missing', 'closing') and r.collection_due <= clock_timestamp()
      and (r.collection = 'closing' or r.state = 'in_progress' or (r.reason = 'collection_failed' and r.ends_at > now()))
    order by r.collection = 'missing', r.ends_at <= now(), r.starts_at, r.event_id limit page
    for update skip locked
  ), handed as (
    update indexing.event_runs r set collection_due = clock_timestamp() + interval '90 seconds'
    from picked where r.event_id = picked.event_id
    returning r.event_id, r.collection
  )
  select jsonb_build_object(
    'create', coalesce(jsonb_agg(event_id) filter (where collection = 'missing'), '[]'),
    'delete', coalesce(jsonb_agg(event_id) filter (where collection = 'closing'), '[]')
  ) from handed
$$;

-- Whether a worker that found the collection of this event missing may create it: the event exists and is open.
create or replace function public.indexing_may_create_collection(event uuid) returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (
    select from indexing.event_runs r join indexing.app_events() e using (event_id)
    where r.event_id = event and r.collection in ('missing', 'ready') and not e.closed
  )
$$;

-- Records what happened to collections: [{"event_id", "result": "created" | "exists" | "deleted" | "failed", "error"?}, …].
--   created  whatever the ledger believed to be in it is not: those jobs are queued again
--   exists   the app may have made it and put faces there: it is reconciled at once
--   deleted  final once quiet_seconds have passed since the closing, when no call that was under way can land any more;
--            before that it is deleted once more then
--   failed   tried again after 1, 2, 4 … 300 s; after ten attempts the event is failed, and the attempts go on while it lasts
-- Returns how each collection stands now: {event_id: "missing" | "ready" | "closing" | "deleted"}.
create or replace function public.indexing_collections_done(results jsonb, quiet_seconds double precision) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  quiet constant interval := make_interval(secs => quiet_seconds);
  done record;
  run indexing.event_runs;
  free boolean; -- the app does not hold the event's row
  standing jsonb := '{}';
begin
  for done in
    select x.* from jsonb_to_recordset(results) as x(event_id uuid, result text, error text) order by x.event_id
  loop
    if done.result = 'created' then
      perform indexing.forget_faces(done.event_id);
    end if;
    select * into run from indexing.event_runs r where r.event_id = done.event_id for update;
    continue when not found;
    free := run.event_id = any (indexing.app_lock_events(array[run.event_id]));

    if done.result in ('created', 'exists') and run.collection in ('missing', 'ready') then
      if done.result = 'exists' and run.collection = 'missing' then
        run.reconcile_due := now;
        run.changed_at := now; -- and once more when its first jobs have ended
      end if;
      run.collection := 'ready';
      run.collection_attempts := 0;
      run.collection_error := null;
      if run.reason = 'collection_failed' and free then
        perform indexing.reopen_run(run.event_id);
        select r.state, r.reason, r.settled_at into run.state, run.reason, run.settled_at
        from indexing.event_runs r where r.event_id = run.event_id;
      end if;
    elsif done.result in ('created', 'exists') then
      run.collection := 'closing'; -- the event was closed while its collection was made
      run.closed_at := now;
      run.collection_due := now;
      perform indexing.note_closing(run.event_id);
    elsif done.result = 'deleted' and run.collection = 'closing' then
      if now >= run.closed_at + quiet then
        run.collection := 'deleted';
      end if;
      perform indexing.answer_closing(run.event_id, run.collection = 'deleted');
      run.collection_due := run.closed_at + quiet;
    elsif done.result = 'failed' then
      run.collection_attempts := run.collection_attempts + 1;
      run.collection_error := done.error;
      run.collection_due := now + least(interval '5 minutes', make_interval(secs => 2 ^ least(run.collection_attempts - 1, 10)));
      if run.collection = 'missing' and run.collection_attempts >= 10 and run.state = 'in_progress' and free then
        run.state := 'failed';
        run.reason := 'collection_failed';
        run.settled_at := now;
        perform indexing.app_set_status(array[run.event_id], array['in_progress'], 'failed');
      end if;
    end if;
    update indexing.event_runs r set
      collection = run.collection, collection_attempts = run.collection_attempts, collection_error = run.collection_error,
      collection_due = run.collection_due, closed_at = run.closed_at, reconcile_due = run.reconcile_due, changed_at = run.changed_at,
      state = run.state, reason = run.reason, settled_at = run.settled_at
    where r.event_id = run.event_id;
    standing := standing || jsonb_build_object(run.event_id, run.collection);
  end loop;
  return standing;
end
$$;

-- Puts a failed event back in progress, and queues the jobs that failed for want of its collection. The app's row is locked.
create or replace function indexing.reopen_run(event uuid) returns void
language plpgsql set search_path = '' as $$
begin
  update indexing.event_runs r set state = 'in_progress', reason = null, settled_at = null
  where r.event_id = event and r.state = 'failed';
  perform indexing.app_set_status(array[event], array['failed'], 'in_progress');
  perform indexing.queue_jobs(array_agg(j.event_id), array_agg(j.user_id), urgent => false)
  from indexing.face_jobs j where j.event_id = event and j.state = 'failed' and j.reason = 'collection_failed';
end
$$;

-- The collection of this event was made anew: whatever the ledger believed to be in it is not. A call of a worker may have
-- met the old collection or the new one.
create or replace function indexing.forget_faces(event uuid) returns void
language plpgsql set search_path = '' as $$
declare
  users uuid[];
begin
  users := array(
    select j.user_id from indexing.face_jobs j
    where j.event_id = event and (j.face_id is not null or cardinality(j.obsolete_face_ids) > 0 or j.state = 'running')
  );
  perform indexing.queue_jobs(
    array_fill(event, array[cardinality(users)]), users, forget_photo => true, forget_faces => true
  );
end
$$;

-- ── pause.sql b42720dd7fd7168c

-- An operator's pause: the outbox hands out no jobs of a paused event, erasures excepted. What lies in the queues already, no
-- more than QUEUE_SECONDS of work, is still done; claims, changes and reconcile go on, so that nothing is missed.

-- What an event is paused by: 'everything', 'event' or null.
create or replace function indexing.paused_by(event uuid) returns text
language sql stable set search_path = '' as $$
  select case when p.event_id is null then 'everything' else 'event' end
  from indexing.pauses p where p.event_id is null or p.event_id = event
  order by p.event_id nulls first limit 1
$$;

-- Pauses an event, or everything for a null. Returns whether it was not paused before.
create or replace function public.indexing_pause(event uuid default null) returns boolean
language plpgsql security definer set search_path = '' as $$
begin
  insert into indexing.pauses (event_id) values (event) on conflict do nothing;
  return found;
end
$$;

-- Lifts the pause of an event; for a null every pause there is. Returns how many were lifted.
create or replace function public.indexing_resume(event uuid default null) returns integer
language plpgsql security definer set search_path = '' as $$
declare
  lifted integer;
begin
  delete from indexing.pauses p where event is null or p.event_id = event;
  get diagnostics lifted = row_count;
  return lifted;
end
$$;

-- What is paused: [{"event_id": null for everything, "since"}, …].
create or replace function public.indexing_pauses() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(p) order by p.event_id nulls first), '[]') from indexing.pauses p
$$;

-- ── actions.sql c251fad2a56d2ec1

-- What operators have done. Their programs note it after it is done; alarms and functions do not read it.

-- Notes an action. Its id is the caller's own, so that a repeated call notes nothing new.
create or replace function public.indexing_note_action(
  actor text, action text, event uuid default null, attendee uuid default null, note text default null,
  touched integer default null, id uuid default gen_random_uuid()
) returns boolean
language sql security definer set search_path = '' as $$
  insert into indexing.actions (action_id, actor, action, event_id, user_id, note, touched)
  values (id, left(actor, 200), action, event, attendee, left(note, 200), touched)
  on conflict (action_id) do nothing;
  select true
$$;

-- The actions about an event and those about everything, or all of them for a null: the latest first, a page at a time.
-- Returns [{"id", "at", "actor", "action", "event_id", "user_id", "note", "touched"}, …].
create or replace function public.indexing_actions(
  event uuid default null, before bigint default null, page integer default 100
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(a) order by a.id desc), '[]') from (
    select * from indexing.actions o
    where (event is null or o.event_id is null or o.event_id = event) and (before is null or o.id < before)
    order by o.id desc limit page
  ) a
$$;

-- ── outbox.sql 240574099838d9da

-- Confirms the send batch that a scheduler has just sent, and hands it the next one, in the order of the outbox.
--   page         how many jobs at most
--   work_cap     how many messages may lie in the work queue
--   urgent_cap   how many may lie in the urgent queue; erasures are sent past it
--   sent         the id of the send batch just sent; null at the start
--   unsent       the jobs of that batch that SQS did not take: [{"event_id", "user_id"}, …]; queued again
-- Callers take turns, so the caps hold however many schedulers run. The urgent queue takes what must overtake the work queue:
-- erasures, repeated and late jobs, and those of an event that starts sooner than another whose jobs lie in the work queue.
-- Returns {"send_batch", "jobs": [{"event_id", "user_id", "version", "urgent"}, …], "left": queued for later, if no jobs}.
create or replace function public.indexing_take_send_batch(
  page integer, work_cap integer, urgent_cap integer, sent bigint default null, unsent jsonb default '[]'
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  batch bigint;
  jobs jsonb;
begin
  if sent is not null then
    delete from indexing.send_batches b where b.id = sent;
    if unsent <> '[]' then
      perform indexing.requeue_unsent(sent, array(
        select (x ->> 'user_id')::uuid from jsonb_array_elements(unsent) x
      ));
    end if;
  end if;
  if page = 0 then
    return jsonb_build_object('send_batch', null, 'jobs', '[]'::jsonb, 'left', indexing.queued_jobs());
  end if;

  perform pg_advisory_xact_lock(hashtext('indexing.outbox'));
  insert into indexing.send_batches default values returning id into batch;
  jobs := indexing.hand_out(batch, true, true, 0, 'infinity', page); -- erasures
  jobs := jobs || indexing.hand_out(batch, true, true, 1, 'infinity', least(page - jsonb_array_length(jobs), urgent_cap - indexing.lying(true, urgent_cap)));
  jobs := jobs || indexing.hand_out(batch, false, true, 1, (
    select max(j.starts_at) from indexing.face_jobs j where j.state = 'sent' and not j.urgent
  ), least(page - jsonb_array_length(jobs), urgent_cap - indexing.lying(true, urgent_cap)));
  for priority in 1 .. 2 loop
    exit when jsonb_array_length(jobs) >= page;
    jobs := jobs || indexing.hand_out(batch, false, false, priority, 'infinity',
      least(page - jsonb_array_length(jobs), work_cap - indexing.lying(false, work_cap)));
  end loop;
  if jobs = '[]' then
    delete from indexing.send_batches b where b.id = batch;
    return jsonb_build_object('send_batch', null, 'jobs', jobs, 'left', indexing.queued_jobs());
  end if;
  return jsonb_build_object('send_batch', batch, 'jobs', jobs, 'left', 0);
end
$$;

-- How many jobs wait for their turn: those of a pause wait for its end.
create or replace function indexing.queued_jobs() returns bigint
language sql stable set search_path = '' as $$
  select count(*) from indexing.face_jobs j
  where j.state = 'queued'
    and (j.priority = 0 or not exists (select from indexing.pauses p where p.event_id is null or p.event_id = j.event_id))
$$;

-- How many messages lie in the urgent or in the work queue; counts no further than `enough`.
create or replace function indexing.lying(in_urgent boolean, enough integer) returns integer
language sql stable set search_path = '' as $$
  select count(*)::integer from (
    select from indexing.face_jobs j where j.state = 'sent' and j.urgent = in_urgent and j.priority > 0 limit enough
  ) lying
$$;

-- Marks up to `page` queued jobs as sent with a send batch, in the order of the outbox. Jobs whose collection is not there
-- yet, or whose event is paused, stay queued; erasures know no pause. Returns the jobs as take_send_batch does.
--   queued_as_urgent  which jobs: those queued for the urgent queue or the others …
--   of_priority       … of this priority …
--   before            … and of events that start before this
--   through_urgent    the queue that they go through
create or replace function indexing.hand_out(
  batch bigint, queued_as_urgent boolean, through_urgent boolean, of_priority integer, before timestamptz, page integer
) returns jsonb
language plpgsql set search_path = '' set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$ -- in the index's order and by key, whatever the statistics say
declare
  waiting constant uuid[] := array(
    select r.event_id from indexing.event_runs r where r.collection = 'missing'
    union all
    select p.event_id from indexing.pauses p where of_priority > 0 and p.event_id is not null
  );
  jobs jsonb;
begin
  if of_priority > 0 and exists (select from indexing.pauses p where p.event_id is null) then
    return '[]';
  end if;
  with picked as (
    select j.event_id, j.user_id
    from indexing.face_jobs j
    where j.state = 'queued' and j.urgent = queued_as_urgent and j.priority = of_priority and j.starts_at < before
      and j.event_id <> all (waiting)
    order by j.starts_at, j.repeated, j.queued_at, j.event_id, j.user_id
    limit greatest(page, 0)
    for update skip locked
  ), handed as (
    update indexing.face_jobs j
    set state = 'sent', sent_at = clock_timestamp(), send_batch = batch, urgent = through_urgent
    from picked where j.event_id = picked.event_id and j.user_id = picked.user_id
    returning j.event_id, j.user_id, j.version, j.urgent, j.starts_at, j.repeated, j.queued_at
  )
  select jsonb_agg(
    jsonb_build_object('event_id', event_id, 'user_id', user_id, 'version', version, 'urgent', handed.urgent)
    order by starts_at, repeated, queued_at, event_id, user_id
  ) into jobs from handed;
  return coalesce(jobs, '[]');
end
$$;

-- Queues jobs of a send batch again: all that are still waiting for their message, or those of the given attendees. Their
-- messages may have been sent all the same, so they get a new version.
create or replace function indexing.requeue_unsent(batch bigint, users uuid[] default null) returns void
language plpgsql set search_path = '' as $$
begin
  with unsent as (
    select j.event_id, j.user_id from indexing.face_jobs j
    where j.send_batch = batch and j.state = 'sent' and (users is null or j.user_id = any (users))
    for update skip locked
  )
  update indexing.face_jobs j set state = 'queued', version = j.version + 1, send_batch = null
  from unsent u where j.event_id = u.event_id and j.user_id = u.user_id;
end
$$;

-- ── lease.sql 46bb40b6d231b03d

-- Leases the jobs of a batch of messages to a worker, and says what each needs.
--   messages       [{"event_id", "user_id", "version"}, …]
--   token          of the lease; asked again with the same token (the answer was lost), the answer is the same
--   lease_seconds  longer than any call of this worker can take
-- Returns {"pace": see take_slots, with a slot for each job that seems to need a call of IndexFaces, "jobs": [{
--   "event_id", "user_id", "version",
--   "action": "act" | "none" (the job has ended, or a newer message comes: acknowledge) | "wait" (leased by another worker),
--   "wait_seconds":      until that lease ends,
--   "photo_key":         what to index; null: nothing, for this "reason",
--   "face_id":           the face in the collection, as far as we know; "face_key", "face_etag": the photo that was looked at last,
--   "may_stay":          whether that face may stay although nothing is to be indexed,
--   "refused":           why that photo, with that ETag, has no face in the collection; or null,
--   "obsolete_face_ids": other faces to be deleted,
--   "needs_listing":     whether the collection may hold faces that are not named here,
--   "missing_seconds":   how long the object of photo_key has been missing; null: not so far as we know,
--   "unanswered":        calls of IndexFaces for this photo that were not answered
-- }, …]}, one for each attendee asked for.
create or replace function public.indexing_lease(messages jsonb, token uuid, lease_seconds double precision) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  jobs jsonb;
begin
  perform from indexing.face_jobs j
  join (
    select distinct m.event_id, m.user_id from jsonb_to_recordset(messages) as m(event_id uuid, user_id uuid)
  ) asked using (event_id, user_id)
  order by j.event_id, j.user_id for update of j;

  with asked as (
    select m.event_id, m.user_id, max(m.version) as version
    from jsonb_to_recordset(messages) as m(event_id uuid, user_id uuid, version integer)
    group by m.event_id, m.user_id
  ), found as materialized ( -- by their keys, whatever the statistics say of their states
    select
      j.*, asked.version as asked_version, j.lease_token = token as repeated_call,
      j.state = 'running' and j.lease_until > now as leased
    from asked join indexing.face_jobs j using (event_id, user_id)
  ), free as (
    select f.event_id, f.user_id, d.photo_key, d.reason, d.profile_key
    from found f cross join lateral indexing.desired(f.event_id, f.user_id) d
    where (f.state in ('queued', 'sent', 'running') and not f.leased and f.asked_version >= f.version) or f.repeated_call
  ), leased as (
    update indexing.face_jobs j set
      state = 'running', attempts = j.attempts + case when j.lease_token = token then 0 else 1 end,
      needs_listing = j.needs_listing or (j.state = 'running' and j.lease_token <> token), -- its last worker was lost
      lease_token = token, lease_until = now + make_interval(secs => lease_seconds), leased_version = j.version,
      -- Known from now on, so that an event of the bucket about this object finds the job.
      photo_etag = case when j.face_id is null and j.photo_key <> free.photo_key then null else j.photo_etag end,
      refused = case when j.face_id is null and j.photo_key <> free.photo_key then null else j.refused end,
      unanswered = case when j.photo_key <> free.photo_key then 0 else j.unanswered end,
      photo_key = case when j.face_id is null then coalesce(free.photo_key, j.photo_key) else j.photo_key end
    from free
    where j.event_id = free.event_id and j.user_id = free.user_id
    returning j.*, free.photo_key as wanted_key, free.reason as against, free.profile_key
  ), told as (
    select
      a.event_id, a.user_id, coalesce(l.version, a.version) as version,
      case when l.event_id is not null then 'act' when f.leased and f.asked_version >= f.version then 'wait' else 'none' end as action,
      case when f.leased and not f.repeated_call then extract(epoch from f.lease_until - now) end as wait_seconds,
      l.wanted_key as photo_key, l.against as reason, l.face_id, l.photo_key as face_key, l.photo_etag as face_etag,
      indexing.may_stay(l.against, l.profile_key, l.photo_key) as may_stay,
      l.refused,
      coalesce(l.obsolete_face_ids, '{}') as obsolete_face_ids, coalesce(l.needs_listing, false) as needs_listing,
      case when l.wanted_key = l.missing_key then extract(epoch from now - l.missing_since) end as missing_seconds,
      coalesce(l.unanswered, 0) as unanswered
    from asked a left join found f using (event_id, user_id) left join leased l using (event_id, user_id)
  )
  select coalesce(jsonb_agg(to_jsonb(told)), '[]') into jobs from told;

  return jsonb_build_object(
    'jobs', jobs,
    'pace', indexing.take_slots(( -- last, since all workers wait for one another here
      select count(*)::integer from jsonb_array_elements(jobs) job
      where job ->> 'action' = 'act' and job ->> 'photo_key' is not null
        and (job ->> 'face_etag' is null or job ->> 'face_key' is distinct from job ->> 'photo_key')
    ))
  );
end
$$;

-- For a worker that has waited for its slots: reads the desired state of its jobs again, and hands out new slots.
--   jobs       [{"event_id", "user_id"}, …], leased by the worker
--   slots      how many it wants
--   throttled  whether Rekognition throttled one of its calls
-- Returns {"pace", "jobs": [{"event_id", "user_id", "photo_key"}, …]}
create or replace function public.indexing_refresh(jobs jsonb, slots integer, throttled boolean) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  if throttled then
    perform indexing.slow_down();
  end if;
  return jsonb_build_object(
    'jobs', (
      select coalesce(jsonb_agg(jsonb_build_object('event_id', x.event_id, 'user_id', x.user_id, 'photo_key', d.photo_key)), '[]')
      from jsonb_to_recordset(jobs) as x(event_id uuid, user_id uuid)
      cross join lateral indexing.desired(x.event_id, x.user_id) d
    ),
    'pace', indexing.take_slots(slots)
  );
end
$$;

-- ── complete.sql 7ea3197cec5b21fa

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

-- ── dead-letters.sql b8fc570ca24d9518

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

-- ── rescue.sql d906304b5ea9ba71

-- Queues what was lost, looks again at what is due, and settles what its last worker could not. Part of every scheduler run;
-- all it reads are rows that are not at rest. Each kind is limited to 1,000 jobs a call.
--   lost_after_seconds  a message of this age is taken for lost: twice as old the second time, and so on
--   batch_seconds       a send batch of this age is given up: its scheduler died
-- A job is queued with a new version, so that its message, should it still exist, is stale. Its error is kept. A worker that
-- is lost five times, or a message ten times, fails the job. Returns {"jobs": rescued, "failed": of these, "looked_again": n}.
create or replace function public.indexing_rescue(lost_after_seconds double precision, batch_seconds double precision) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  batch bigint;
  rescued integer;
  lost integer;
  looked_again integer;
begin
  for batch in
    delete from indexing.send_batches b where b.id = any (array(
      select o.id from indexing.send_batches o
      where o.handed_at < now - make_interval(secs => batch_seconds) or o.handed_at > now + interval '1 minute' -- a clock set back
      order by o.id limit 10 for update skip locked
    )) returning b.id
  loop
    perform indexing.requeue_unsent(batch);
  end loop;

  with orphaned as (
    select j.event_id, j.user_id, j.attempts >= 5 as finally, 'worker_lost' as reason,
      'its worker died or lost the database, five times' as error
    from indexing.face_jobs j
    where j.state = 'running' and j.lease_until < now - interval '2 seconds' -- its message, which comes again, may be first
    limit 1000 for update skip locked
  ), overdue as (
    select j.event_id, j.user_id, j.rescues >= 9 as finally, 'message_lost' as reason,
      'its message was lost or waited too long, ten times' as error
    from indexing.face_jobs j
    where j.state = 'sent' and j.sent_at < now - make_interval(secs => lost_after_seconds) -- by the index
      and j.sent_at < now - make_interval(secs => lost_after_seconds * (j.rescues + 1))
    limit 1000 for update skip locked
  ), lost as (
    select * from orphaned union all select * from overdue
  ), requeued as (
    update indexing.face_jobs j set
      state = case when finally then 'failed' else 'queued' end,
      reason = case when finally then coalesce(j.reason, lost.reason) else j.reason end,
      error = case when finally then coalesce(j.error, lost.error) else j.error end,
      needs_listing = j.needs_listing or lost.reason = 'worker_lost',
      version = j.version + 1,
      rescues = j.rescues + 1,
      queued_at = case when finally then j.queued_at else now end,
      lease_token = null, lease_until = null, leased_version = null,
      failures = j.failures + case when finally then 1 else 0 end,
      ended_at = case when finally then now end,
      look_again_at = case when finally and now < r.ends_at then indexing.next_try(now, j.failures + 1) end
    from lost join indexing.event_runs r using (event_id)
    where j.event_id = lost.event_id and j.user_id = lost.user_id
    returning j.state
  )
  select count(*), count(*) filter (where state = 'failed') into rescued, lost from requeued;

  -- Jobs of events whose collection could not be created.
  with waiting as (
    select o.event_id, o.user_id from indexing.face_jobs o
    where o.state = 'queued' and o.event_id = any (array(
      select f.event_id from indexing.event_runs f where f.reason = 'collection_failed' and f.collection = 'missing'
    ))
    limit 1000 for update skip locked
  )
  update indexing.face_jobs j set
    state = 'failed', reason = 'collection_failed', error = r.collection_error, ended_at = now, version = j.version + 1
  from waiting join indexing.event_runs r using (event_id)
  where j.event_id = waiting.event_id and j.user_id = waiting.user_id;

  select indexing.queue_jobs(array_agg(event_id), array_agg(user_id)) into looked_again from (
    select j.event_id, j.user_id from indexing.face_jobs j
    where j.look_again_at <= now order by j.look_again_at limit 1000 for update skip locked
  ) due;

  perform indexing.settle(array(
    select r.event_id from indexing.event_runs r
    where r.state in ('in_progress', 'failed') and r.fanned_out_at is not null and not indexing.has_open_jobs(r.event_id)
      and (r.state = 'in_progress' or r.ends_at > now)
  ));
  return jsonb_build_object('jobs', rescued, 'failed', lost, 'looked_again', coalesce(looked_again, 0));
end
$$;

-- ── changes.sql 3e8e12eb8f435000

-- Turns noted changes into jobs: for each attendee of a claimed event whom a change concerns, the job that looks at them again.
-- A change that concerns no claimed event is dropped, for the claim will see it.
--   erasing  the changes by which faces may have to go, or the others
--   page     how many jobs may be written
-- Returns {"jobs": written, "more": whether to call again}.
create or replace function public.indexing_process_changes(erasing boolean, page integer default 5000) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  done record;
begin
  perform indexing.lock_ledger();
  -- One source a call: jobs are locked before event runs, and so those of the next source cannot be locked after them.
  done := indexing.process_consents(erasing, page);
  if done.used = 0 then
    done := indexing.process_events(erasing, page);
  end if;
  if done.used = 0 then
    done := indexing.process_photos(erasing, page);
  end if;
  if done.used = 0 and erasing then
    perform indexing.process_everything();
  end if;
  return jsonb_build_object(
    'jobs', done.jobs,
    'more', exists (select from indexing.changes c where c.erases = erasing)
  );
end
$$;

-- An app that acts on the collection by itself does so around its change: the event is reconciled a minute later.
create or replace function indexing.touch_runs(events uuid[]) returns void
language sql set search_path = '' as $$
  update indexing.event_runs r set
    changed_at = clock_timestamp(), reconcile_due = least(r.reconcile_due, clock_timestamp() + interval '1 minute')
  from (
    select o.event_id from indexing.event_runs o
    where o.event_id in (select unnest(events)) and (
      o.changed_at is null or o.changed_at < clock_timestamp() - interval '5 seconds'
      or o.reconcile_due > clock_timestamp() + interval '1 minute')
    order by o.event_id for update
  ) touched
  where r.event_id = touched.event_id
$$;

-- Consents given and taken back: one job each. Returns how much of the page was used, and how many jobs were queued; the other
-- two, below, likewise.
create or replace function indexing.process_consents(erasing boolean, page integer, out used integer, out jobs integer)
language plpgsql set search_path = '' as $$
declare
  taken bigint[];
  events uuid[];
  users uuid[];
  noted timestamptz[];
  written integer;
begin
  used := 0;
  jobs := 0;
  select array_agg(c.id), array_agg(c.event_id) filter (where r.event_id is not null),
    array_agg(c.user_id) filter (where r.event_id is not null), array_agg(c.noted_at) filter (where r.event_id is not null)
  into taken, events, users, noted
  from (
    select c.id, c.event_id, c.user_id, c.noted_at from indexing.changes c
    where c.source = 'consents' and c.erases = erasing order by c.id limit page
  ) c
  left join indexing.event_runs r on r.event_id = c.event_id and c.user_id is not null and r.collection in ('missing', 'ready')
    and exists (select from indexing.app_events() e where e.event_id = c.event_id); -- else its collection goes as a whole
  if taken is null then
    return;
  end if;

  select indexing.queue_jobs(array_agg(j.event_id), array_agg(j.user_id), erases => erasing, listing => erasing) into jobs
  from (select distinct * from unnest(events, users) as u(event_id, user_id)) changed
  join indexing.face_jobs j using (event_id, user_id);
  insert into indexing.face_jobs (event_id, user_id, priority, urgent, starts_at, needs_listing)
  select r.event_id, changed.user_id, indexing.job_priority(erasing, r.ends_at), r.ends_at > now(), r.starts_at, erasing
  from (select distinct * from unnest(events, users) as u(event_id, user_id)) changed
  join indexing.event_runs r using (event_id)
  order by r.event_id, changed.user_id
  on conflict (event_id, user_id) do nothing;
  get diagnostics written = row_count;
  perform indexing.touch_runs(events);
  if erasing then
    perform indexing.note_erasures(events, users, noted, 'consent');
  end if;
  delete from indexing.changes c where c.source = 'consents' and c.erases = erasing and c.id = any (taken);
  used := cardinality(taken);
  jobs := jobs + written;
end
$$;

-- Changed profiles, and objects that changed in the bucket: a job for each event of the user, or of the users who have that
-- photo. A change of more jobs than the page holds is resumed by the next call.
create or replace function indexing.process_photos(erasing boolean, page integer, out used integer, out jobs integer)
language plpgsql set search_path = '' as $$
declare
  taken constant bigint[] := array(
    select c.id from indexing.changes c
    where c.source in ('profiles', 'photos') and c.erases = erasing order by c.id limit page
  );
  ids bigint[]; -- of the change that each job comes from
  events uuid[];
  users uuid[];
  noted timestamptz[];
  resumed bigint; -- the change of which more is left
begin
  select array_agg(x.id order by x.id, x.event_id, x.user_id), array_agg(x.event_id order by x.id, x.event_id, x.user_id),
    array_agg(x.user_id order by x.id, x.event_id, x.user_id), array_agg(x.noted_at order by x.id, x.event_id, x.user_id)
  into ids, events, users, noted
  from (
    select c.id, c.noted_at, j.event_id, j.user_id
    from indexing.changes c
    cross join lateral (
      select k.event_id, k.user_id from (
        select o.event_id, o.user_id from indexing.face_jobs o where c.source = 'profiles' and o.user_id = c.user_id
        union all
        select o.event_id, o.user_id from indexing.face_jobs o where c.source = 'photos' and o.photo_key = c.photo_key
        union
        select o.event_id, o.user_id from indexing.face_jobs o where c.source = 'photos' and o.missing_key = c.photo_key
      ) k
      join indexing.event_runs r on r.event_id = k.event_id and r.collection in ('missing', 'ready')
      where c.resume_event is null or (k.event_id, k.user_id) > (c.resume_event, c.resume_user)
      order by k.event_id, k.user_id limit page
    ) j
    where c.id = any (taken)
    order by c.id, j.event_id, j.user_id limit page
  ) x;

  jobs := indexing.queue_jobs(events, users, erases => erasing, listing => erasing);
  perform indexing.touch_runs(events);
  if erasing then
    perform indexing.note_erasures(events, users, noted, 'profile');
  end if;
  if cardinality(ids) = page then
    resumed := ids[page];
    update indexing.changes c set resume_event = events[page], resume_user = users[page]
    where c.source in ('profiles', 'photos') and c.erases = erasing and c.id = resumed;
  end if;
  delete from indexing.changes c
  where c.source in ('profiles', 'photos') and c.erases = erasing and c.id = any (taken) and (resumed is null or c.id < resumed);
  used := greatest(cardinality(taken), coalesce(cardinality(ids), 0));
end
$$;

-- Changed events: those that change nothing, and then one more.
create or replace function indexing.process_events(erasing boolean, page integer, out used integer, out jobs integer)
language plpgsql set search_path = '' as $$
declare
  change record;
  app record;
  finished boolean;
  changed integer; -- jobs, of this event
  touched boolean; -- locks may have been taken for it
begin
  used := 0;
  jobs := 0;
  for change in
    select c.event_id, array_agg(c.id) as ids from (
      select o.id, o.event_id from indexing.changes o
      where o.source = 'events' and o.erases = erasing order by o.id limit page
    ) c group by c.event_id order by c.event_id
  loop
    finished := true;
    changed := 0;
    touched := false;
    if exists (select from indexing.event_runs r where r.event_id = change.event_id) then
      select * into app from indexing.app_events() e where e.event_id = change.event_id;
      touched := true;
      if not found then
        changed := indexing.close_run(change.event_id, 'event_deleted', interval '0', page);
      elsif app.closed then
        -- The app deletes the collection itself; ours, later, is for what a worker may have put there meanwhile.
        changed := indexing.close_run(change.event_id, 'event_closed', interval '2 minutes', page);
      elsif not exists (
        select from indexing.event_runs r where r.event_id = change.event_id and r.collection in ('missing', 'ready')
      ) then
        finished := indexing.reopen_event(change.event_id);
        touched := finished;
      else
        changed := indexing.follow_event(change.event_id, app.starts_at, app.ends_at, app.active, page);
      end if;
      finished := finished and changed < page;
    end if;
    if finished then
      delete from indexing.changes c where c.source = 'events' and c.erases = erasing and c.id = any (change.ids);
    end if;
    used := used + case when finished or touched then 1 else 0 end;
    jobs := changed;
    exit when touched;
  end loop;
end
$$;

-- An event that was deleted or cleaned up takes no face any more: its collection is deleted after the delay, and its jobs
-- end. What a worker still does for it meets a newer version when it completes. Returns how many jobs were changed, at most a
-- page: as many as that, and it is to be called again.
create or replace function indexing.close_run(event uuid, why text, delay interval, page integer) returns integer
language plpgsql set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  users uuid[];
begin
  users := array(
    select j.user_id from indexing.face_jobs j
    where j.event_id = event and (
      j.state in ('queued', 'sent') or j.face_id is not null or cardinality(j.obsolete_face_ids) > 0
      or (j.state = 'running' and j.version = j.leased_version) or j.look_again_at is not null)
    order by j.user_id limit page for update
  );
  update indexing.face_jobs j set
    version = j.version + 1,
    state = case when j.state = 'running' then 'running' else indexing.state_without_face(why) end,
    reason = why, error = null, face_id = null, photo_etag = null, refused = null, obsolete_face_ids = '{}',
    needs_listing = false, look_again_at = null,
    ended_at = case when j.state <> 'running' then now end
  where j.event_id = event and j.user_id = any (users);

  if exists (select from indexing.event_runs r where r.event_id = event and r.collection in ('missing', 'ready')) then
    perform indexing.note_closing(event);
  end if;
  update indexing.event_runs r set
    reason = why, fanned_out_at = coalesce(r.fanned_out_at, now),
    collection = case when r.collection in ('missing', 'ready') then 'closing' else r.collection end,
    collection_attempts = 0,
    collection_due = case when r.collection in ('missing', 'ready') then now + delay else r.collection_due end,
    closed_at = coalesce(r.closed_at, now)
  where r.event_id = event;
  perform indexing.settle(array[event]);
  return cardinality(users);
end
$$;

-- An event that had been closed takes faces again: it is set back to pending, to be claimed anew. Returns false when the app
-- holds its row at this moment.
create or replace function indexing.reopen_event(event uuid) returns boolean
language plpgsql set search_path = '' as $$
begin
  if event <> all (indexing.app_lock_events(array[event])) then
    return false;
  end if;
  perform indexing.app_set_status(array[event], array['in_progress', 'completed', 'failed'], 'pending');
  return true;
end
$$;

-- Another start is another place in the outbox; an event that is active again gets the faces that it was denied. Returns as
-- close_run does.
create or replace function indexing.follow_event(
  event uuid, starts timestamptz, ends timestamptz, active boolean, page integer
) returns integer
language plpgsql set search_path = '' as $$
declare
  users uuid[];
  moved integer := 0;
begin
  if starts is not null then
    update indexing.face_jobs j set starts_at = starts, priority = indexing.job_priority(j.priority = 0, ends)
    where j.event_id = event and j.user_id = any (array(
      select o.user_id from indexing.face_jobs o
      where o.event_id = event and o.state = 'queued'
        and (o.starts_at <> starts or o.priority <> indexing.job_priority(o.priority = 0, ends))
      order by o.user_id limit page for update
    ));
    get diagnostics moved = row_count;
  end if;
  if active then
    users := array(
      select j.user_id from indexing.face_jobs j
      where j.event_id = event and j.ended_at is not null and j.reason = 'event_inactive'
      order by j.user_id limit page - moved for update
    );
  end if;
  if starts is not null then
    update indexing.event_runs r set starts_at = starts, ends_at = ends, reconcile_due = least(r.reconcile_due, starts - interval '5 minutes')
    where r.event_id = event and (r.starts_at, r.ends_at) is distinct from (starts, ends);
  end if;
  perform indexing.touch_runs(array[event]); -- a worker that saw the event inactive may end its job after this
  if users is not null then
    perform indexing.queue_jobs(array_fill(event, array[cardinality(users)]), users);
  end if;
  return moved + coalesce(cardinality(users), 0);
end
$$;

-- A table was emptied by TRUNCATE, which names no rows: every event is reconciled.
create or replace function indexing.process_everything() returns void
language plpgsql set search_path = '' as $$
begin
  delete from indexing.changes c where c.source = 'everything';
  if found then
    update indexing.event_runs r set reconcile_due = clock_timestamp()
    where r.collection = 'ready' and r.reconcile_due > clock_timestamp();
  end if;
end
$$;

-- Notes that these objects of the photo bucket were created or deleted, and nudges. Returns how many are photos that we know.
create or replace function public.indexing_note_photos(photo_keys text[]) returns integer
language plpgsql security definer set search_path = '' as $$
declare
  noted integer;
begin
  insert into indexing.changes (source, photo_key)
  select 'photos', k from (select distinct unnest(photo_keys)) keys(k)
  where exists (select from indexing.face_jobs j where j.photo_key = k or j.missing_key = k);
  get diagnostics noted = row_count;
  if noted > 0 then
    perform indexing.nudge('photos');
  end if;
  return noted;
end
$$;

-- ── reconcile.sql c2b98cbcd5200198

-- Reconcile compares three things for each attendee of an event: the desired state, the ledger and the collection. It finds
-- what did not pass through our triggers: the app acting on the collection by itself, a collection that existed before the
-- claim, a restored backup, manual changes.

-- Hands out events to be reconciled, each to one caller for two minutes; the longest due first.
--   event  this event, due or not; null: those that are due
--   look   to look alone: nothing is handed out, and nothing changed
-- Returns [{"event_id", "as_of": the time by which the listing is not older}, …].
create or replace function public.indexing_reconcile_due(page integer, event uuid default null, look boolean default false) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  picked uuid[];
begin
  -- Two statements, so that the usual one goes by the index on reconcile_due.
  if event is null then
    picked := array(
      select r.event_id from indexing.event_runs r
      where r.collection = 'ready' and r.reconcile_due <= now
      order by r.reconcile_due, r.event_id limit page for update skip locked
    );
  else
    picked := array(
      select r.event_id from indexing.event_runs r
      where r.collection = 'ready' and r.event_id = event for update skip locked
    );
  end if;
  if not look then
    update indexing.event_runs r set reconcile_due = now + interval '2 minutes' where r.event_id = any (picked);
  end if;
  return (select coalesce(jsonb_agg(jsonb_build_object('event_id', id, 'as_of', now)), '[]') from unnest(picked) id);
end
$$;

-- Compares a range of attendees, and queues a job for each difference. Of a range with more attendees than a page has places, it
-- compares the first ones.
--   as_of       as reconcile_due gave it
--   after, through  the range of user ids: greater than `after` (null: from the first), up to `through` (null: to the last)
--   faces       what the collection holds of them: [{"user_id", "face_ids": […]}, …]
--   lag_seconds by which a listing may lag behind: a face indexed since then is not concluded missing
--   repair      whether to queue; otherwise the differences are only counted
--   page        how many attendees of the ledger and the app at most
-- Returns {
--   "through": the last user id that was compared; null: all of the range up to the last
--   "extra":   faces of attendees who should have none, "missing": attendees whose face is gone, "doubled": with several faces or
--              another than the ledger's, "unnoticed": whose desired state the ledger has not followed,
--   "photos":  [{"user_id", "photo_key", "photo_etag"}, …]: the looked-at photos of ended jobs, to be compared with the bucket;
--              an object that the ledger knows to be missing has no ETag
--   "who":     [{"user_id", "difference"}, …], a thousand of them at most
-- }
create or replace function public.indexing_reconcile(
  event uuid, as_of timestamptz, after uuid, through uuid, faces jsonb, lag_seconds double precision, repair boolean default true,
  page integer default 5000
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  answer jsonb;
  differing jsonb;
  attendees uuid[];
  lag constant timestamptz := as_of - make_interval(secs => lag_seconds);
begin
  if repair then
    perform indexing.lock_ledger();
  end if;
  attendees := array(
    (select j.user_id from indexing.face_jobs j
     where j.event_id = event and (after is null or j.user_id > after) and (through is null or j.user_id <= through)
     order by j.user_id limit page)
    union
    (select c.user_id from indexing.app_consents() c
     where c.event_id = event and (after is null or c.user_id > after) and (through is null or c.user_id <= through)
     order by c.user_id limit page)
    order by user_id limit page
  );
  if cardinality(attendees) = page then
    through := attendees[page];
  end if;

  with listed as materialized (
    select f.user_id, f.face_ids from jsonb_to_recordset(faces) as f(user_id uuid, face_ids text[])
    where through is null or f.user_id <= through
  ), known as materialized (
    select j.* from indexing.face_jobs j
    where j.event_id = event and (after is null or j.user_id > after) and (through is null or j.user_id <= through)
  ), consenting as materialized (
    select c.user_id from indexing.app_consents() c
    where c.event_id = event and (after is null or c.user_id > after) and (through is null or c.user_id <= through)
  ), everybody as (
    select user_id from listed union select user_id from known union select user_id from consenting
  ), compared as (
    select
      a.user_id, k.user_id is not null as has_job, k.state, k.photo_key as looked_at, k.photo_etag, k.face_id, k.missing_key, k.refused,
      k.ended_at is not null as ended, k.ended_at < lag as settled,
      coalesce(l.face_ids, '{}') as face_ids, d.photo_key, d.reason,
      indexing.may_stay(d.reason, d.profile_key, k.photo_key) as may_stay,
      k.reason as job_reason
    from everybody a
    left join known k using (user_id)
    left join listed l using (user_id)
    cross join lateral indexing.desired(event, a.user_id) d
  ), judged as (
    select c.*, case
      when not has_job and photo_key is null and face_ids = '{}' then null
      when not has_job and photo_key is null then 'extra'
      when not has_job then 'unnoticed'
      when not ended then case when not face_ids <@ array_remove(array[face_id], null) then 'open' end
      when photo_key is null and not may_stay and face_ids <> '{}' then 'extra'
      when photo_key is null and not may_stay and face_id is not null then 'unnoticed'
      when photo_key is not null and looked_at is distinct from photo_key and missing_key is distinct from photo_key then 'unnoticed'
      when photo_key is not null and state in ('erased', 'skipped') and refused is null and missing_key is distinct from photo_key then 'unnoticed'
      when face_id is null and face_ids <> '{}' then 'extra'
      when face_id is not null and face_id <> all (face_ids) and settled then 'missing'
      when not face_ids <@ array_remove(array[face_id], null) then 'doubled'
    end as difference
    from compared c
  )
  select
    jsonb_build_object(
      'through', through,
      'extra', count(*) filter (where difference = 'extra'), 'missing', count(*) filter (where difference = 'missing'),
      'doubled', count(*) filter (where difference = 'doubled'), 'unnoticed', count(*) filter (where difference = 'unnoticed'),
      'photos', coalesce(jsonb_agg(jsonb_build_object('user_id', user_id, 'photo_key', photo_key,
          'photo_etag', case when looked_at = photo_key and missing_key is distinct from photo_key then photo_etag end))
        filter (where difference is null and ended and photo_key is not null and state in ('indexed', 'skipped')), '[]'),
      'who', (select coalesce(jsonb_agg(jsonb_build_object('user_id', w.user_id, 'difference', w.difference) order by w.user_id), '[]')
        from (select j.user_id, j.difference from judged j where j.difference <> 'open' order by j.user_id limit 1000) w)
    ),
    coalesce(jsonb_agg(jsonb_build_object(
      'user_id', user_id, 'has_job', has_job, 'difference', difference, 'face_ids', face_ids, 'erases', photo_key is null
    )) filter (where difference is not null), '[]')
  into answer, differing
  from judged;

  if repair and differing <> '[]' then
    perform indexing.queue_differences(event, differing);
  end if;
  if repair then
    perform indexing.note_erasures(array_agg(event), array_agg(d.user_id), array_agg(clock_timestamp()), 'found')
    from jsonb_to_recordset(differing) as d(user_id uuid, difference text, erases boolean)
    where d.erases and d.difference in ('extra', 'unnoticed');
    perform indexing.verify_erasures(event, as_of, after, through, faces, lag_seconds);
  end if;
  return answer;
end
$$;

create or replace function indexing.queue_differences(event uuid, differing jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  erasing boolean;
begin
  perform from indexing.face_jobs j
  where j.event_id = event and j.user_id in (select d.user_id from jsonb_to_recordset(differing) as d(user_id uuid))
  order by j.user_id for update;

  insert into indexing.face_jobs (event_id, user_id, priority, urgent, starts_at, needs_listing)
  select r.event_id, d.user_id, indexing.job_priority(d.erases, r.ends_at), d.erases or r.ends_at > now(), r.starts_at, d.face_ids <> '{}'
  from jsonb_to_recordset(differing) as d(user_id uuid, has_job boolean, erases boolean, face_ids text[])
  join indexing.event_runs r on r.event_id = event
  where not d.has_job
  order by d.user_id
  on conflict (event_id, user_id) do nothing;

  foreach erasing in array array[true, false] loop
    perform indexing.queue_jobs(array_agg(event), array_agg(d.user_id), erases => erasing, listing => true)
    from jsonb_to_recordset(differing) as d(user_id uuid, has_job boolean, difference text, erases boolean)
    where d.has_job and d.difference <> 'open' and d.erases = erasing;
  end loop;

  update indexing.face_jobs j set
    -- Its worker, if it has one, finds a newer version when it completes, and lists.
    version = j.version + case when d.difference = 'open' and j.state = 'running' and not j.needs_listing then 1 else 0 end,
    needs_listing = true,
    face_id = case when d.difference = 'missing' then null else j.face_id end,
    photo_etag = case when d.difference = 'missing' then null else j.photo_etag end,
    obsolete_face_ids = array(
      select unnest(j.obsolete_face_ids) union
      select unnest(d.face_ids) where d.difference in ('extra', 'doubled') except select j.face_id
    )
  from jsonb_to_recordset(differing) as d(user_id uuid, has_job boolean, difference text, face_ids text[])
  where j.event_id = event and j.user_id = d.user_id and d.has_job;
end
$$;

-- Ends the reconcile of an event, and says when the next one is due: a minute after the last change, and otherwise every 15
-- minutes until the event ends, and 5 minutes before it starts. Also brings the app's status back to that of the settled run.
--   differences  what it has put right, which is noted unless it is nothing: {"extra", "missing", "doubled", "unnoticed": as
--                reconcile counted them, "stale_photos": photos whose object is another one than was indexed, "recreated":
--                whether the collection was gone}
-- Returns whether the event is still open.
create or replace function public.indexing_reconcile_done(event uuid, as_of timestamptz, differences jsonb default null) returns boolean
language plpgsql security definer set search_path = '' as $$
begin
  insert into indexing.drift (event_id, at, extra, missing, doubled, unnoticed, stale_photos, recreated)
  select event, as_of, f.extra, f.missing, f.doubled, f.unnoticed, f.stale_photos, f.recreated
  from jsonb_to_record(differences) as f(
    extra integer, missing integer, doubled integer, unnoticed integer, stale_photos integer, recreated boolean
  )
  where f.extra + f.missing + f.doubled + f.unnoticed + f.stale_photos > 0 or f.recreated
  on conflict do nothing; -- said before, and the answer was lost

  update indexing.event_runs r set
    reconciled_at = clock_timestamp(),
    reconcile_due = case
      when r.changed_at > as_of - interval '1 minute' then greatest(r.changed_at, as_of) + interval '1 minute'
      when r.ends_at < clock_timestamp() then 'infinity'
      when r.starts_at - interval '5 minutes' between clock_timestamp() and clock_timestamp() + interval '15 minutes'
        then r.starts_at - interval '5 minutes'
      else clock_timestamp() + interval '15 minutes'
    end
  where r.event_id = event and r.collection = 'ready';
  if not found then
    return false;
  end if;
  perform indexing.write_status_again(event);
  return true;
end
$$;

-- What reconciles of an event have found, the latest first: [{"at", "extra", "missing", "doubled", "unnoticed", "stale_photos",
-- "recreated"}, …]. A reconcile that found nothing is not among them.
create or replace function public.indexing_drift(event uuid, page integer default 10) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(d) order by d.at desc), '[]') from (
    select o.at, o.extra, o.missing, o.doubled, o.unnoticed, o.stale_photos, o.recreated
    from indexing.drift o where o.event_id = event order by o.at desc limit page
  ) d
$$;

-- The events whose collection is there, a page at a time in the order of their ids: those after the given one.
create or replace function public.indexing_open_collections(after uuid default null, page integer default 1000) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(event_id order by event_id), '[]') from (
    select r.event_id from indexing.event_runs r
    where r.collection = 'ready' and (after is null or r.event_id > after) order by r.event_id limit page
  ) open
$$;

-- What the deployment last said of itself: {"collection_prefix", "photo_bucket", "several_faces", "convert_photos"}; nulls before
-- its first run.
create or replace function public.indexing_deployment() returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object('collection_prefix', s.collection_prefix, 'photo_bucket', s.photo_bucket,
    'several_faces', s.several_faces, 'convert_photos', s.convert_photos)
  from indexing.settings s
$$;

-- Which of these events have no run of ours, so that a collection of theirs is an orphan: left by a restored backup, or of another
-- stage of the account.
create or replace function public.indexing_orphans(events uuid[]) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(x order by x), '[]') from unnest(events) x
  where not exists (select from indexing.event_runs r where r.event_id = x and r.collection <> 'deleted')
$$;

-- Whether it is time to look for orphans: true for one caller an hour.
create or replace function public.indexing_orphans_due() returns boolean
language plpgsql security definer set search_path = '' as $$
begin
  update indexing.settings s set orphans_due = clock_timestamp() + interval '1 hour'
  where s.only_row and s.orphans_due <= clock_timestamp();
  return found;
end
$$;

-- ── retention.sql 691c4feb3bf857fb

-- How what is stored about people ends: the clean-up of events that are over, the pruning of rows that nobody needs any more,
-- and erasures that an operator asks for.

-- How long ago an event may have ended to be claimed: its clean-up would come at once. An app that cleans up by itself is taken
-- to do so after 24 hours.
create or replace function indexing.claimable_age() returns interval
language sql stable set search_path = '' as $$
  select make_interval(secs => 3600 * coalesce(s.cleanup_after_hours, 24)) from indexing.settings s
$$;

-- Cleans up, if it is set: events that ended longer ago are marked as the app's own clean-up would, from pending to in_progress;
-- the change of that closes their runs. When the collection is gone they are completed. Besides, finds events that were closed
-- or deleted, or put back after that, without a trigger that told of it. A page of each.
-- Returns {"closing": n, "completed": n, "found": n, "more": whether to call again}.
create or replace function public.indexing_cleanup(page integer) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  before constant timestamptz := (
    select clock_timestamp() - make_interval(secs => 3600 * s.cleanup_after_hours) from indexing.settings s
  );
  chosen uuid[];
  closing uuid[];
  gone uuid[];
  held uuid[];
  found_changed integer;
begin
  chosen := array(
    select r.event_id from indexing.event_runs r join indexing.app_events() e on e.event_id = r.event_id
    where r.collection in ('missing', 'ready') and not e.closed and e.ends_at < before
    order by r.event_id limit page for update of r skip locked
  );
  held := indexing.app_lock_events(chosen);
  -- Read again: until it was locked, the app may have changed it.
  closing := indexing.app_set_cleanup(array(
    select e.event_id from indexing.app_events() e where e.event_id = any (held) and e.ends_at < before
  ), 'pending', 'in_progress');
  update indexing.event_runs r set cleaning = true where r.event_id = any (closing);

  gone := array(
    select r.event_id from indexing.event_runs r where r.cleaning and r.collection = 'deleted'
    order by r.event_id limit page for update skip locked
  );
  held := indexing.app_lock_events(gone);
  perform indexing.app_set_cleanup(held, 'in_progress', 'completed');
  update indexing.event_runs r set cleaning = false where r.event_id = any (held);

  insert into indexing.changes (source, event_id, erases)
  select 'events', changed.event_id, changed.erases
  from (
    select r.event_id, true as erases
    from indexing.event_runs r left join indexing.app_events() e on e.event_id = r.event_id
    where r.collection in ('missing', 'ready') and (e.event_id is null or e.closed)
    union all
    select r.event_id, false
    from indexing.event_runs r join indexing.app_events() e on e.event_id = r.event_id
    where r.collection in ('closing', 'deleted') and e.active and not e.closed and e.status <> 'pending'
      and e.ends_at > clock_timestamp() - indexing.claimable_age()
  ) changed
  where not exists (
    select from indexing.changes c
    where c.source = 'events' and c.erases = changed.erases and c.event_id = changed.event_id
  )
  limit page;
  get diagnostics found_changed = row_count;
  return jsonb_build_object(
    'closing', cardinality(closing), 'completed', cardinality(held), 'found', found_changed,
    'more', cardinality(closing) = page or cardinality(held) = page
  );
end
$$;

-- Deletes a page of what nobody needs any more.
--   keep_days     jobs and run of an event, so long after its collection was deleted; the job of an attendee who was erased, so
--                 long after that and after the event's end; messages of the dead-letter queue that were kept; the log of
--                 what operators have done, and of what reconciles have found
--   receipt_days  receipts; the chain begins after them then
-- Not what is not settled, nor what failed in an event that is not over, nor an erasure that is not proven. Returns {"jobs": n,
-- "runs": n, "letters": n, "receipts": n, "more": whether to call again}.
create or replace function public.indexing_prune(
  keep_days double precision, receipt_days double precision, page integer
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  cutoff constant timestamptz := now - make_interval(secs => 86400 * keep_days);
  jobs integer;
  runs integer;
  letters integer;
  receipts integer := 0;
  last_receipt indexing.receipts;
begin
  perform indexing.lock_ledger();
  with closed as (
    select o.event_id, o.ends_at from indexing.event_runs o
    where o.collection = 'deleted' and o.closed_at < cutoff
      and exists (select from indexing.face_jobs j where j.event_id = o.event_id)
    order by o.closed_at, o.event_id limit 100
  ), of_closed as (
    select k.event_id, k.user_id from closed join indexing.face_jobs k using (event_id)
    where k.ended_at is not null and not (k.state = 'failed' and closed.ends_at > now)
    limit page for update of k skip locked
  ), erased as (
    select k.event_id, k.user_id from indexing.face_jobs k join indexing.event_runs r using (event_id)
    where k.state = 'erased' and k.ended_at < cutoff and r.ends_at < cutoff and r.collection <> 'deleted'
      and not exists (select from indexing.erasures e where e.event_id = k.event_id and e.user_id = k.user_id)
    order by k.ended_at limit page for update of k skip locked
  )
  delete from indexing.face_jobs j
  using (select * from of_closed union select * from erased) old
  where j.event_id = old.event_id and j.user_id = old.user_id;
  get diagnostics jobs = row_count;

  delete from indexing.event_runs r
  where r.event_id = any (array(
    select o.event_id from indexing.event_runs o
    where o.collection = 'deleted' and o.closed_at < cutoff and o.state <> 'in_progress' and not o.cleaning
      and not exists (select from indexing.face_jobs j where j.event_id = o.event_id)
      and not exists (select from indexing.erasures e where e.event_id = o.event_id)
    order by o.closed_at, o.event_id limit page for update skip locked
  ));
  get diagnostics runs = row_count;

  delete from indexing.dead_letters d
  where d.message_id = any (array(
    select o.message_id from indexing.dead_letters o where o.received_at < cutoff order by o.received_at limit page
  ));
  get diagnostics letters = row_count;

  delete from indexing.actions a where a.at < cutoff; -- a few a day
  delete from indexing.drift d where d.at < cutoff; -- likewise: at most one in a quarter of an hour of an event that lasts

  perform pg_advisory_xact_lock(hashtext('indexing.receipts'));
  select * into last_receipt from (
    select * from indexing.receipts r order by r.position limit page
  ) oldest where oldest.sealed_at < now - make_interval(secs => 86400 * receipt_days) order by oldest.position desc limit 1;
  if found then
    update indexing.receipt_chain c set start_position = last_receipt.position, start_hash = last_receipt.hash where c.only_row;
    delete from indexing.receipts r where r.position <= last_receipt.position;
    get diagnostics receipts = row_count;
  end if;
  return jsonb_build_object(
    'jobs', jobs, 'runs', runs, 'letters', letters, 'receipts', receipts,
    'more', greatest(jobs, runs, letters, receipts) >= page
  );
end
$$;

-- Erases an attendee, of one event or of all whose collection is there, whatever the ledger believes to be in it: for a request
-- by law. Refused as long as the app still wants a face of theirs at one of them, for it would be given back.
--   act  whether to do it; otherwise it is only told
-- Returns {"events": [{"event_id", "state", "face": whether the ledger knows of one, "wanted": whether the app wants one}, …],
-- "queued": how many}.
create or replace function public.indexing_erase_attendee(attendee uuid, event uuid default null, act boolean default false) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  found_events jsonb;
  events uuid[];
  users uuid[];
begin
  if act then
    perform indexing.lock_ledger();
  end if;
  select
    coalesce(jsonb_agg(jsonb_build_object('event_id', k.event_id, 'state', k.state,
      'face', k.face_id is not null or cardinality(k.obsolete_face_ids) > 0,
      'wanted', d.photo_key is not null or d.reason = 'event_inactive') order by k.event_id), '[]'),
    coalesce(array_agg(k.event_id) filter (where act), '{}')
  into found_events, events
  from (
    select j.* from indexing.face_jobs j join indexing.event_runs r using (event_id)
    where j.user_id = attendee and (indexing_erase_attendee.event is null or j.event_id = indexing_erase_attendee.event)
      and r.collection in ('missing', 'ready')
    order by j.event_id limit 10000
  ) k
  cross join lateral indexing.desired(k.event_id, k.user_id) d;
  if jsonb_path_exists(found_events, '$[*] ? (@.wanted == true)') then
    events := '{}';
  end if;
  users := array_fill(attendee, array[cardinality(events)]);
  perform indexing.queue_jobs(events, users, erases => true, listing => true);
  perform indexing.touch_runs(events);
  perform indexing.note_erasures(events, users, array_fill(now, array[cardinality(events)]), 'request');
  return jsonb_build_object('events', found_events, 'queued', cardinality(events));
end
$$;

-- Closes an event at once, as its clean-up would: its collection is deleted with all faces.
--   act   whether to do it; otherwise it is only told
-- Returns {"collection", "attendees": jobs, "faces": that the ledger knows of, "held": whether the app holds the event's row at
-- this moment; then nothing is done, "more": whether to call again}; null for an event that was never claimed.
create or replace function public.indexing_erase_event(event uuid, act boolean default false) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  page constant integer := 5000;
  run indexing.event_runs;
  app record;
  faces bigint;
  jobs bigint;
  held boolean := false;
  changed integer := 0;
begin
  if act then
    perform indexing.lock_ledger();
  end if;
  select * into run from indexing.event_runs r where r.event_id = event;
  if not found then
    return null;
  end if;
  select count(*), count(*) filter (where j.face_id is not null or cardinality(j.obsolete_face_ids) > 0) into jobs, faces
  from indexing.face_jobs j where j.event_id = event;

  if act and run.collection in ('missing', 'ready', 'closing') then
    held := event <> all (indexing.app_lock_events(array[event]));
    if not held then
      select * into app from indexing.app_events() e where e.event_id = event;
      changed := indexing.close_run(event, case when app.event_id is null then 'event_deleted' else 'event_closed' end, interval '0', page);
      if app.event_id is not null and not app.closed then
        perform indexing.app_set_cleanup(array[event], 'pending', 'in_progress');
        update indexing.event_runs r set cleaning = true where r.event_id = event;
      end if;
    end if;
  end if;
  return jsonb_build_object(
    'collection', run.collection, 'attendees', jobs, 'faces', faces, 'held', held, 'more', changed >= page
  );
end
$$;

-- ── replay.sql 180a0c8e77f6f7d3

-- Queues jobs again that have failed, or that were skipped for the given reason, and puts their failed events back in progress.
--   event     of this event; null: of all
--   attendee  of this attendee alone; null: of all
--   why       the reason that the ledger gives, of failed and of skipped jobs; null: every failed job
--   dry_run   whether to say only what would be done, for all pages at once
--   after     what the call before returned as last; null: from the beginning
--   page      how many jobs may be queued
-- An event whose collection could not be made is tried anew as a whole. A completed event stays completed. Returns {"jobs": n,
-- "events": [event_id, …], "held": [event_id, …], "last": {"event_id", "user_id"}}: held are those whose row the app holds locked;
-- they are left as they are; last is null when nothing is left.
create or replace function public.indexing_replay(
  event uuid default null, attendee uuid default null, why text default null, dry_run boolean default false,
  after jsonb default null, page integer default 5000
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  chosen uuid[];
  free uuid[];
  events uuid[];
  users uuid[];
begin
  perform indexing.lock_ledger();
  select coalesce(array_agg(j.event_id), '{}'), coalesce(array_agg(j.user_id), '{}') into events, users from (
    select j.event_id, j.user_id from indexing.face_jobs j
    where (event is null or j.event_id = event) and (attendee is null or j.user_id = attendee)
      and (j.state = 'failed' and (why is null or j.reason = why) or j.state = 'skipped' and j.reason = why)
      and (after is null or (j.event_id, j.user_id) > ((after ->> 'event_id')::uuid, (after ->> 'user_id')::uuid))
    order by j.event_id, j.user_id limit case when not dry_run then page end for update
  ) j;
  chosen := array(
    select unnest(events)
    union
    select r.event_id from indexing.event_runs r
    where (event is null or r.event_id = event) and attendee is null and after is null
      and r.state = 'failed' and r.reason = 'collection_failed' and (why is null or why = 'collection_failed')
    order by 1
  );
  perform from indexing.event_runs r where r.event_id = any (chosen) order by r.event_id for update;
  free := indexing.app_lock_events(chosen);

  if not dry_run then
    perform indexing.queue_jobs(array_agg(u.event_id), array_agg(u.user_id), forget_photo => true, urgent => false)
    from unnest(events, users) as u(event_id, user_id) where u.event_id = any (free);
    update indexing.event_runs r set
      state = 'in_progress', reason = null, settled_at = null,
      collection_attempts = 0, collection_error = null, collection_due = clock_timestamp()
    where r.event_id = any (free) and r.state = 'failed';
    perform indexing.app_set_status(free, array['failed'], 'in_progress');
  end if;
  return jsonb_build_object(
    'jobs', (select count(*) from unnest(events) e where e = any (free)), 'events', to_jsonb(free),
    'held', coalesce((select jsonb_agg(id) from unnest(chosen) id where id <> all (free)), '[]'),
    'last', case when not dry_run and cardinality(events) = page
      then jsonb_build_object('event_id', events[page], 'user_id', users[page]) end
  );
end
$$;

-- ── report.sql 6539cbb5a36ef81e

-- What operators and alarms read.

-- How the claimed events stand, the soonest first: of the given ones, or of all that are in progress, or start later than a day
-- ago.
-- Returns [{"event_id", "name", "status" (the app's), "starts_at", "ends_at", "state", "reason", "collection",
-- "collection_error", "claimed_at", "settled_at", "reconciled_at", "jobs": {"queued": n, …}, "skipped": {reason: n},
-- "failed": {reason: n}, "open": {error of the last attempt, or "": n}, "index_calls", "oldest_open", "last_ended",
-- "ended_lately": jobs ended in the last two minutes, "paused": see paused_by}, …].
create or replace function public.indexing_progress(events uuid[] default null) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(progress) order by progress.starts_at, progress.event_id), '[]')
  from (
    select
      r.event_id, left(e.name, 200) as name, e.status, r.starts_at, r.ends_at, r.state, r.reason,
      r.collection, r.collection_error, r.claimed_at, r.settled_at, r.reconciled_at,
      coalesce(totals.jobs, '{}') as jobs, coalesce(totals.skipped, '{}') as skipped,
      coalesce(totals.failed, '{}') as failed, coalesce(totals.open, '{}') as open,
      totals.index_calls, totals.oldest_open, totals.last_ended, totals.ended_lately, indexing.paused_by(r.event_id) as paused
    from indexing.event_runs r
    left join indexing.app_events() e using (event_id)
    cross join lateral (
      with mine as materialized (
        select state, reason, left(error, 200) as error, index_calls, queued_at, ended_at
        from indexing.face_jobs j where j.event_id = r.event_id
      ), jobs as (select state, count(*) as n from mine group by state),
      skipped as (select coalesce(reason, 'unknown') as reason, count(*) as n from mine where state = 'skipped' group by 1),
      failed as (select coalesce(reason, 'unknown') as reason, count(*) as n from mine where state = 'failed' group by 1),
      open as (
        select coalesce(error, '') as error, count(*) as n from mine where ended_at is null group by 1 order by n desc limit 20
      )
      select
        (select jsonb_object_agg(state, n) from jobs) as jobs,
        (select jsonb_object_agg(reason, n) from skipped) as skipped,
        (select jsonb_object_agg(reason, n) from failed) as failed,
        (select jsonb_object_agg(error, n) from open) as open,
        coalesce(sum(index_calls), 0) as index_calls,
        min(queued_at) filter (where ended_at is null) as oldest_open,
        max(ended_at) as last_ended,
        count(*) filter (where ended_at > clock_timestamp() - interval '2 minutes') as ended_lately
      from mine
    ) totals
    where case when events is null then r.state = 'in_progress' or r.starts_at > now() - interval '1 day'
      else r.event_id = any (events) end
  ) progress
$$;

-- The jobs of an event, a page at a time in the order of user_id: those after the given one, of the given states or of all.
-- Returns [{"user_id", "state", "reason", "error", "attempts", "index_calls", "face_id", "photo_key": the one that was looked at
-- last, or that is missing in the bucket}, …].
create or replace function public.indexing_jobs(
  event uuid, states text[] default null, after uuid default null, page integer default 1000
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(job) order by job.user_id), '[]') from (
    select
      j.user_id, j.state, j.reason, j.error, j.attempts, j.index_calls, j.face_id,
      coalesce(j.missing_key, j.photo_key) as photo_key
    from indexing.face_jobs j
    where j.event_id = event and (states is null or j.state = any (states)) and (after is null or j.user_id > after)
    order by j.user_id limit page
  ) job
$$;

-- What the app wants of those who consent to an event, claimed or not, as if it were active; a page at a time in the order of
-- user_id. Returns [{"user_id", "photo_key", "reason": why there is no photo to be indexed, or null}, …].
create or replace function public.indexing_rehearsal(event uuid, after uuid default null, page integer default 1000) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(wanted) order by wanted.user_id), '[]') from (
    select
      c.user_id, nullif(d.reason, 'event_inactive') as reason,
      case when d.reason = 'event_inactive' then d.profile_key else d.photo_key end as photo_key
    from (
      select c.user_id from indexing.app_consents() c
      where c.event_id = event and (after is null or c.user_id > after)
      order by c.user_id limit page
    ) c cross join lateral indexing.desired(event, c.user_id) d
  ) wanted
$$;

-- The jobs of one attendee, with their last attempts: of one event, or of all.
-- Returns [{"event_id", "state", "reason", "error", "version", "queued_at", "ended_at", "attempts", "index_calls", "photo_key",
-- "face_id", "look_again_at", "desired_reason", "history": [{"at", "outcome", "reason", "error"}, …]}, …].
create or replace function public.indexing_attendee(attendee uuid, event uuid default null) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(job) order by job.starts_at desc, job.event_id), '[]') from (
    select
      j.event_id, j.starts_at, j.state, j.reason, j.error, j.version, j.queued_at, j.ended_at, j.attempts, j.index_calls,
      coalesce(j.missing_key, j.photo_key) as photo_key, j.face_id, j.look_again_at, d.reason as desired_reason, j.history
    from indexing.face_jobs j cross join lateral indexing.desired(j.event_id, j.user_id) d
    where j.user_id = attendee and (indexing_attendee.event is null or j.event_id = indexing_attendee.event)
    limit 1000
  ) job
$$;

-- When each event in progress will be done, at the present pace and in this order: the soonest start first, events that are over
-- last; an event that is over is never late. A paused event delays no other; its own time is that of resuming it now.
-- Returns {"tps": the quota, "rate": calls a second at this moment, fewer for a while after Rekognition has throttled,
-- "events": [{"event_id", "starts_at", "open": jobs to do, "done_at", "late": whether that is after its start, "paused"}, …]}.
create or replace function public.indexing_forecast() returns jsonb
language sql stable security definer set search_path = '' as $$
  with open as (
    select j.event_id, count(*) as jobs from indexing.face_jobs j where j.ended_at is null group by j.event_id
  ), in_order as (
    select
      r.event_id, r.starts_at, r.ends_at <= now() as over, coalesce(open.jobs, 0) as jobs, paused.paused,
      clock_timestamp() + make_interval(secs => (
        sum(case when paused.paused then 0 else coalesce(open.jobs, 0) end) over (order by r.ends_at <= now(), r.starts_at, r.event_id)
        + case when paused.paused then coalesce(open.jobs, 0) else 0 end
      ) / indexing.current_rate()) as done_at
    from indexing.event_runs r
    cross join lateral (select indexing.paused_by(r.event_id) is not null as paused) paused
    left join open using (event_id)
    where r.state = 'in_progress'
  )
  select jsonb_build_object(
    'tps', s.index_faces_tps,
    'rate', indexing.current_rate(),
    'events', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'event_id', event_id, 'starts_at', starts_at, 'open', jobs, 'done_at', done_at, 'late', not over and done_at > starts_at,
        'paused', paused
      ) order by over, starts_at, event_id), '[]')
      from in_order
    )
  )
  from indexing.settings s
$$;

-- Events of the app that are not claimed, the soonest first: of the given ones, or of all that wait for it and start within
-- a day or should have started within the last one.
-- Returns [{"event_id", "name", "status" (the app's), "starts_at", "active", "paused", "attendees" (who consent), "held_by": of an
-- event that is due, who holds its row locked, as app_event_holder has it}, …].
create or replace function public.indexing_unclaimed(events uuid[] default null) returns jsonb
language sql volatile security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(unclaimed) order by unclaimed.starts_at, unclaimed.event_id), '[]')
  from (
    select
      e.event_id, left(e.name, 200) as name, e.status, e.starts_at, e.active, indexing.paused_by(e.event_id) as paused,
      (select count(*) from indexing.app_consents() c where c.event_id = e.event_id) as attendees,
      case when e.active and e.status = 'pending' and e.starts_at < now() + interval '20 minutes'
        then indexing.app_event_holder(e.event_id) end as held_by
    from indexing.app_events() e
    where not exists (select from indexing.event_runs r where r.event_id = e.event_id and r.state = 'in_progress')
      and case when events is null
        then e.status = 'pending' and not e.closed
          and e.starts_at between case when e.active then now() - interval '1 day' else now() end and now() + interval '1 day'
        else e.event_id = any (events) and not exists (select from indexing.event_runs r where r.event_id = e.event_id) end
  ) unclaimed
$$;

-- Messages from the dead-letter queue that we could not read and that nobody has acknowledged, the latest first, a page at a
-- time.
--   before_at, before_id  of the last one of the page before; nulls at the start
-- Returns {"total": how many are kept, "letters": [{"message_id", "received_at", "problem", "body", "attributes"}, …]}.
create or replace function public.indexing_dead_letters(
  before_at timestamptz default null, before_id text default null, page integer default 50
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'total', (select count(*) from indexing.dead_letters d where d.acknowledged_at is null),
    'letters', coalesce(jsonb_agg(to_jsonb(letter) order by letter.received_at desc, letter.message_id desc), '[]')
  )
  from (
    select d.message_id, d.received_at, d.problem, d.body, d.attributes
    from indexing.dead_letters d
    where d.acknowledged_at is null and (before_at is null or (d.received_at, d.message_id) < (before_at, before_id))
    order by d.received_at desc, d.message_id desc
    limit page
  ) letter
$$;

-- Acknowledges such messages: these, or for a null all of them. They stay in the table and are listed no more. Returns how many.
create or replace function public.indexing_acknowledge_dead_letters(messages text[] default null) returns integer
language plpgsql security definer set search_path = '' as $$
declare
  acknowledged integer;
begin
  update indexing.dead_letters d set acknowledged_at = clock_timestamp()
  where d.acknowledged_at is null and (messages is null or d.message_id = any (messages));
  get diagnostics acknowledged = row_count;
  return acknowledged;
end
$$;

-- The jobs of an event whose attendee's id begins with the given text, or whose name contains it: at most 50, as jobs has them.
--   name_column  the column of the app's profiles that holds names; null: names are not looked at
create or replace function public.indexing_find_jobs(event uuid, wanted text, name_column text default null) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(job) order by job.user_id), '[]') from (
    select
      j.user_id, j.state, j.reason, j.error, j.attempts, j.index_calls, j.face_id,
      coalesce(j.missing_key, j.photo_key) as photo_key
    from indexing.face_jobs j
    where j.event_id = event and (
      starts_with(j.user_id::text, lower(wanted))
      or name_column is not null and exists (
        select from indexing.app_names_of(array[j.user_id], name_column) n where position(lower(wanted) in lower(n.name)) > 0
      )
    )
    order by j.user_id limit 50
  ) job
$$;

-- The names of attendees in that column of the app's profiles, cut to 200 characters: {user_id: name}. Read on an operator's
-- wish alone; never logged.
create or replace function public.indexing_names(attendees uuid[], name_column text) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_object_agg(n.user_id, left(n.name, 200)), '{}') from indexing.app_names_of(attendees, name_column) n
$$;

-- What alarms are made of, as the ledger has it now. Ages in seconds, 0 where nothing waits.
--   failed_jobs         of events that are not over
--   failed_events       that are not over
--   collections_failing whose last attempt failed
--   overdue_events      due by the window, active, and not claimed
--   erasure_age         of the oldest erasure that is not done
--   unproven_age        of the oldest erasure that no later listing has shown to be done
--   change_age          of the oldest change that is not processed
--   full_changes        1 when changes are no longer noted: see indexing.note
create or replace function public.indexing_health(window_minutes double precision) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'failed_jobs', (
      select count(*) from indexing.face_jobs j join indexing.event_runs r using (event_id)
      where j.state = 'failed' and r.ends_at > now()
    ),
    'failed_events', (select count(*) from indexing.event_runs r where r.state = 'failed' and r.ends_at > now()),
    'collections_failing', (
      select count(*) from indexing.event_runs r where r.collection in ('missing', 'closing') and r.collection_attempts > 0
    ),
    'overdue_events', (
      select count(*) from indexing.app_events() e
      where e.active and not e.closed and e.status = 'pending' and e.ends_at > now() - indexing.claimable_age()
        and e.starts_at <= now() + make_interval(secs => window_minutes * 60)
    ),
    'erasure_age', (
      select coalesce(extract(epoch from clock_timestamp() - min(j.queued_at)), 0) from indexing.face_jobs j
      where j.priority = 0 and j.ended_at is null
    ),
    'unproven_age', (
      select coalesce(extract(epoch from clock_timestamp() - min(e.noted_at)), 0) from indexing.erasures e
      where e.verified_at is null and e.wanted_again_at is null
    ),
    'change_age', (
      select coalesce(extract(epoch from clock_timestamp() - min(oldest.noted_at)), 0)
      from unnest(enum_range(null::indexing.change_source)) s(source)
      cross join (values (true), (false)) e(erases)
      cross join lateral (
        select c.noted_at from indexing.changes c where c.erases = e.erases and c.source = s.source order by c.id limit 1
      ) oldest
    ),
    'full_changes', (pg_catalog.pg_relation_size('indexing.changes') > indexing.most_bytes_of_changes())::integer
  )
$$;

-- How many of an event's jobs had their outcome by when: at up to `points` moments between its claim and its last outcome.
-- Returns [{"at", "ended": n}, …]. A job that is repeated counts by its last outcome.
create or replace function public.indexing_curve(event uuid, points integer default 100) returns jsonb
language sql stable security definer set search_path = '' as $$
  with ended as (
    select j.ended_at, greatest(0, extract(epoch from j.ended_at - r.claimed_at)) as second
    from indexing.event_runs r join indexing.face_jobs j using (event_id)
    where r.event_id = event and j.ended_at is not null
  ), steps as (
    select ended_at, ceil(second * points / nullif((select max(second) from ended), 0)) as step from ended
  )
  select coalesce(jsonb_agg(jsonb_build_object('at', at, 'ended', n) order by at), '[]') from (
    select max(ended_at) as at, sum(count(*)) over (order by step)::integer as n from steps group by step
  ) curve
$$;

-- ── fit.sql 4828708af9747491

-- Whether the app's tables are such that the adapter can work with them. `migrate` asks this before it changes anything: it makes this
-- function as a temporary one. `doctor` asks it of a database at work. No row is read.

-- Returns each misfit in words, with its table, column and type; none: everything fits.
create or replace function indexing.app_misfits() returns text[]
language plpgsql set search_path = '' as $$
declare
  misfits text[] := '{}';
  app_table record;
  fact record;
  found regtype;
  lacking text;
begin
  for app_table in select * from (values
    ('events', /*='events.table'*/'public.events'/*=*/, 'SELECT, UPDATE, TRIGGER'),
    ('consents', /*='consents.table'*/'public.event_consents'/*=*/, 'SELECT, TRIGGER'),
    ('profiles', /*='profiles.table'*/'public.profiles'/*=*/, 'SELECT, TRIGGER')
  ) t (topic, name, privileges) loop
    if to_regclass(app_table.name) is null then
      misfits := misfits || format('there is no table %s (%s.table)', app_table.name, app_table.topic);
      continue;
    end if;
    for lacking in
      select p from unnest(string_to_array(app_table.privileges, ', ')) p where not has_table_privilege(app_table.name, p)
    loop
      misfits := misfits || format('%s: the role %s has no right to %s', app_table.name, current_user, lacking);
    end loop;
    if row_security_active(app_table.name) then
      misfits := misfits || format('%s: row-level security hides rows from the role %s, which must own the table or have BYPASSRLS',
        app_table.name, current_user);
    end if;

    for fact in select * from (values
      ('events', 'event_id', /*='events.event_id'*/'event_id'/*=*/, 'uuid'),
      ('events', 'name', /*='events.name'*/'name'/*=*/, 'text'),
      ('events', 'starts_at', /*='events.starts_at'*/'starts_at'/*=*/, 'timestamp with time zone'),
      ('events', 'ends_at', /*='events.ends_at'*/'ends_at'/*=*/, 'timestamp with time zone'),
      ('events', 'active', /*='events.active'*/'is_active'/*=*/, 'boolean'),
      ('events', 'closed', /*='events.closed'*/'cleanup_status::text <> ''pending'''/*=*/, 'boolean'),
      ('events', 'status', /*='events.status'*/'indexing_status'/*=*/, 'text, or an enum'),
      ('events', 'cleanup', /*='events.cleanup'*/'cleanup_status'/*=*/, 'text, or an enum'),
      ('consents', 'event_id', /*='consents.event_id'*/'event_id'/*=*/, 'uuid'),
      ('consents', 'user_id', /*='consents.user_id'*/'user_id'/*=*/, 'uuid'),
      ('consents', 'allows', /*='consents.allows'*/'allow_recognition'/*=*/, 'boolean'),
      ('profiles', 'user_id', /*='profiles.user_id'*/'user_id'/*=*/, 'uuid'),
      ('profiles', 'photo', /*='profiles.photo'*/'photo_path'/*=*/, 'text')
    ) f (topic, name, expression, type) where topic = app_table.topic loop
      begin
        execute format('select pg_catalog.pg_typeof((select %s from %s limit 0))', fact.expression, app_table.name) into found;
        if not (case fact.type
          when 'text' then (select t.typcategory in ('S', 'X') from pg_catalog.pg_type t where t.oid = found) or found = 'unknown'::regtype
          when 'text, or an enum' then (select t.typcategory in ('S', 'E') from pg_catalog.pg_type t where t.oid = found)
          when 'timestamp with time zone' then found in ('timestamptz'::regtype, 'timestamp'::regtype, 'text'::regtype)
            and (found <> 'text'::regtype or fact.expression = 'null') -- an app without such a time
          else found = fact.type::regtype
        end) then
          misfits := misfits || format('%s: %s is of type %s, and must be %s (%s.%s)',
            app_table.name, fact.expression, found, fact.type, fact.topic, fact.name);
        end if;
        for lacking in
          select word from unnest(array['pending', 'in_progress', 'completed', 'failed']) word
          where fact.name in ('status', 'cleanup') and exists (select from pg_catalog.pg_type t where t.oid = found and t.typtype = 'e')
            and not exists (select from pg_catalog.pg_enum e where e.enumtypid = found and e.enumlabel = word)
        loop
          misfits := misfits || format('%s: the enum %s of %s has no value %L (events.%s)',
            app_table.name, found, fact.expression, lacking, fact.name);
        end loop;
      exception when others then
        misfits := misfits || format('%s: %s; it must be %s (%s.%s)', app_table.name, sqlerrm, fact.type, fact.topic, fact.name);
      end;
    end loop;
  end loop;
  return misfits;
end
$$;

-- ── doctor.sql bb9a18182560f1db

-- What `doctor` asks of the database: what is there, not how the events stand. Changes nothing, and tells no secret.
--   now           of the database's clock
--   misfits       see app_misfits
--   triggers      [{"table", "trigger", "state": enabled, disabled or missing}, …], those that the adapter needs
--   exposed       what of ours others than service_role may execute, or anybody through the API may read or write
--   withheld      functions of the API that service_role may not execute
--   pg_net        whether requests can be sent
--   nudge_url     where nudges go, or null
--   nudge_secret  whether the secret of the nudges has this SHA-256, in hexadecimal; null without one to compare
--   nudged_at     when the last nudge arrived; null if none has since it was configured
--   last_run_tps  IndexFaces calls a second, as the scheduler's last run had it
create or replace function public.indexing_doctor(nudge_digest text default null) returns jsonb
language sql volatile security definer set search_path = '' as $$
  select jsonb_build_object(
    'now', clock_timestamp(),
    'misfits', to_jsonb(indexing.app_misfits()),
    'triggers', (
      select jsonb_agg(jsonb_build_object('table', needed.app_table, 'trigger', needed.name, 'state',
        case when t.tgenabled is null then 'missing' when t.tgenabled in ('O', 'A') then 'enabled' else 'disabled' end
      ) order by needed.app_table, needed.name)
      from (values
        (/*='consents.table'*/'public.event_consents'/*=*/, 'indexing_consents_inserted'),
        (/*='consents.table'*/'public.event_consents'/*=*/, 'indexing_consents_updated'),
        (/*='consents.table'*/'public.event_consents'/*=*/, 'indexing_consents_deleted'),
        (/*='consents.table'*/'public.event_consents'/*=*/, 'indexing_truncated'),
        (/*='profiles.table'*/'public.profiles'/*=*/, 'indexing_profiles_inserted'),
        (/*='profiles.table'*/'public.profiles'/*=*/, 'indexing_photo_named'),
        (/*='profiles.table'*/'public.profiles'/*=*/, 'indexing_profiles_updated'),
        (/*='profiles.table'*/'public.profiles'/*=*/, 'indexing_profiles_deleted'),
        (/*='profiles.table'*/'public.profiles'/*=*/, 'indexing_truncated'),
        (/*='events.table'*/'public.events'/*=*/, 'indexing_events_updated'),
        (/*='events.table'*/'public.events'/*=*/, 'indexing_events_deleted'),
        (/*='events.table'*/'public.events'/*=*/, 'indexing_truncated')
      ) needed (app_table, name)
      left join pg_catalog.pg_trigger t on t.tgrelid = to_regclass(needed.app_table) and t.tgname = needed.name
    ),
    'exposed', (
      select coalesce(jsonb_agg(what || ' to ' || role order by what, role), '[]') from (
        select p.oid::regprocedure::text as what, r.rolname as role
        from pg_catalog.pg_proc p, pg_catalog.pg_roles r
        where (p.pronamespace = 'indexing'::regnamespace or (p.pronamespace = 'public'::regnamespace and p.proname like 'indexing\_%'))
          and r.rolname in ('anon', 'authenticated') and has_function_privilege(r.oid, p.oid, 'EXECUTE')
        union all
        select c.oid::regclass::text, r.rolname
        from pg_catalog.pg_class c, pg_catalog.pg_roles r
        where c.relnamespace = 'indexing'::regnamespace and c.relkind in ('r', 'v', 'm')
          and r.rolname in ('anon', 'authenticated', 'service_role')
          and has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE')
      ) open
    ),
    'withheld', (
      select coalesce(jsonb_agg(p.oid::regprocedure::text order by 1), '[]') from pg_catalog.pg_proc p
      where p.pronamespace = 'public'::regnamespace and p.proname like 'indexing\_%'
        and not has_function_privilege('service_role', p.oid, 'EXECUTE')
    ),
    'pg_net', exists (
      select from pg_catalog.pg_proc p where p.pronamespace = to_regnamespace('net') and p.proname = 'http_post'
    ),
    'nudge_url', (select n.url from indexing.nudging n),
    'nudge_secret', (
      select encode(sha256(convert_to(n.secret, 'UTF8')), 'hex') = nudge_digest from indexing.nudging n
    ),
    'nudged_at', (select n.arrived_at from indexing.nudging n),
    'last_run_tps', (select s.index_faces_tps from indexing.settings s)
  )
$$;

-- ── rights.sql 50daf13626311756

-- The version of the schema that the functions of the deployment ask for. Raised with each migration that they rest on.
create or replace function public.indexing_schema_version() returns integer
language sql immutable security definer set search_path = '' as $$ select 1 $$;

-- The one place where rights are given: the API's functions (public.indexing_…) to service_role alone, everything else to
-- nobody. Supabase grants every new function of schema public to anon and authenticated.
--
-- And how they are planned. A connection keeps its plans: those that it made while the ledger was small would read all of it,
-- for each row even, when 100,000 jobs have come, until autovacuum sees them. So a call plans anew, by the tables' present size;
-- and what workers call for every batch, where planning would cost too much, looks its few rows up by index in any case.
do $$
declare
  of_each_batch constant text[] := array['indexing_lease', 'indexing_refresh', 'indexing_complete', 'indexing_fail_dead_letters'];
  f record;
  setting text;
begin
  for f in
    select p.oid::regprocedure as signature, n.nspname = 'public' as served, p.proname = any (of_each_batch) as by_key
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'indexing' or (n.nspname = 'public' and p.proname like 'indexing\_%')
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', f.signature);
    if f.served then
      execute format('grant execute on function %s to service_role', f.signature);
      foreach setting in array case when f.by_key then array['enable_seqscan = off', 'enable_hashjoin = off', 'enable_mergejoin = off']
        else array['plan_cache_mode = force_custom_plan'] end
      loop
        execute format('alter function %s set %s', f.signature, setting);
      end loop;
    end if;
  end loop;
end
$$;
