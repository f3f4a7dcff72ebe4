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
  written constant text := {names};
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
  select {names}
$$;

create or replace function indexing.app_events()
returns table (
  event_id uuid, name text, starts_at timestamptz, ends_at timestamptz, active boolean, closed boolean, status text
) language sql stable as $$
  select
    {events.event_id}, {events.name}, {events.starts_at},
    coalesce({events.ends_at}, {events.starts_at} + interval '12 hours'),
    coalesce({events.active}, true),
    coalesce({events.closed}, false), -- the app removes the collection, or has done so
    coalesce({events.status}::text, 'pending')
  from {events.table}
$$;

create or replace function indexing.app_consents()
returns table (event_id uuid, user_id uuid) language sql stable as $$
  select {consents.event_id}, {consents.user_id}
  from {consents.table} where {consents.allows}
$$;

-- The photo's key without the white space around it, as the app strips it.
create or replace function indexing.app_profiles()
returns table (user_id uuid, photo_path text) language sql stable as $$
  select {profiles.user_id}, btrim({profiles.photo}, E' \t\r\n\f\u000B\u00A0')
  from {profiles.table}
$$;

-- The names of attendees, by the column that the operator says holds them; nobody where there is no such column.
create or replace function indexing.app_names_of(attendees uuid[], name_column text)
returns table (user_id uuid, name text) language sql stable as $$
  select {profiles.user_id}, to_jsonb(p) ->> app_names_of.name_column from {profiles.table} p
  where {profiles.user_id} = any (app_names_of.attendees) and to_jsonb(p) ->> app_names_of.name_column is not null
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
    select {events.event_id} from {events.table}
    where {events.event_id} = any (app_lock_events.events)
    order by {events.event_id}
    for no key update skip locked
  );
  return held || array(
    select unnest(app_lock_events.events)
    except
    select {events.event_id} from {events.table}
    where {events.event_id} = any (app_lock_events.events)
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
  from {events.table} held
  join pg_catalog.pg_locks l on l.locktype = 'transactionid' and l.transactionid = held.xmax and l.granted
  join pg_catalog.pg_stat_activity a on a.pid = l.pid
  where {events.event_id} = app_event_holder.event
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
  in_the_apps_type {events.table}.{events.status}%type := app_set_status.status;
  changed uuid[];
begin
  with changed as (
    update {events.table} set {events.status} = in_the_apps_type
    where {events.event_id} = any (app_set_status.events)
      and coalesce({events.status}::text, 'pending') = any (app_set_status.expected)
    returning {events.event_id} as event
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
  written constant text := '{events.cleanup}';
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
    '{events.table}', written, status, '{events.event_id}'
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
      select array_agg({consents.event_id}), array_agg({consents.user_id})
      into given_events, given_users from new_rows where {consents.allows};
    elsif tg_op = 'DELETE' then
      select array_agg({consents.event_id}), array_agg({consents.user_id})
      into taken_events, taken_users from old_rows where {consents.allows};
    else
      select array_agg(event) filter (where given), array_agg(attendee) filter (where given),
        array_agg(event) filter (where not given), array_agg(attendee) filter (where not given)
      into given_events, given_users, taken_events, taken_users
      from (
        select event, attendee, bool_and(is_new) as given
        from (
          select {consents.event_id}, {consents.user_id}, true from new_rows where {consents.allows}
          union all
          select {consents.event_id}, {consents.user_id}, false from old_rows where {consents.allows}
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
      select array_agg({profiles.user_id}) into changed from new_rows where {profiles.photo} is not null;
    elsif tg_op = 'DELETE' then
      select array_agg({profiles.user_id}) into erased from old_rows;
    else
      with is_now (attendee, photo) as (
        select {profiles.user_id}, {profiles.photo} from new_rows
      ), was (attendee, photo) as (
        select {profiles.user_id}, {profiles.photo} from old_rows
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
      select array_agg({events.event_id}) into closed_events from old_rows;
    else
      with is_now (event, starts_at, ends_at, active, closed) as (
        select {events.event_id}, {events.starts_at}, {events.ends_at}, {events.active}, coalesce({events.closed}, false)
        from new_rows
      ), was as (
        select {events.event_id}, {events.starts_at}, {events.ends_at}, {events.active}, coalesce({events.closed}, false)
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
  status {events.table}.{events.status}%type;
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
      lock table {events.table}, {consents.table}, {profiles.table}
        in share row exclusive mode;
      -- Of an adapter with other names.
      for old in
        select t.tgname as name, t.tgrelid::regclass as app_table from pg_trigger t join pg_proc f on f.oid = t.tgfoid
        where f.pronamespace = 'indexing'::regnamespace and t.tgrelid <> all (array[
          '{events.table}', '{consents.table}', '{profiles.table}']::regclass[])
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

  create or replace trigger indexing_consents_inserted after insert on {consents.table}
    referencing new table as new_rows for each statement execute function indexing.on_consents();
  create or replace trigger indexing_consents_updated after update on {consents.table}
    referencing old table as old_rows new table as new_rows for each statement execute function indexing.on_consents();
  create or replace trigger indexing_consents_deleted after delete on {consents.table}
    referencing old table as old_rows for each statement execute function indexing.on_consents();
  create or replace trigger indexing_truncated after truncate on {consents.table}
    for each statement execute function indexing.on_truncate();

  create or replace trigger indexing_profiles_inserted after insert on {profiles.table}
    referencing new table as new_rows for each statement execute function indexing.on_profiles();
  create or replace trigger indexing_photo_named before update of {profiles.photo_columns} on {profiles.table}
    for each statement execute function indexing.on_photo_named();
  create or replace trigger indexing_profiles_updated after update on {profiles.table}
    referencing old table as old_rows new table as new_rows for each statement execute function indexing.on_profiles();
  create or replace trigger indexing_profiles_deleted after delete on {profiles.table}
    referencing old table as old_rows for each statement execute function indexing.on_profiles();
  create or replace trigger indexing_truncated after truncate on {profiles.table}
    for each statement execute function indexing.on_truncate();

  create or replace trigger indexing_events_updated after update on {events.table}
    referencing old table as old_rows new table as new_rows for each statement execute function indexing.on_events();
  create or replace trigger indexing_events_deleted after delete on {events.table}
    referencing old table as old_rows for each statement execute function indexing.on_events();
  create or replace trigger indexing_truncated after truncate on {events.table}
    for each statement execute function indexing.on_truncate();
end
$$;
