-- The adapter to the app: the only file that knows its tables and columns.
--
-- The app's tables are read through functions and not through views. Postgres refuses to drop or retype a column that a view
-- uses, so a view would make the app's own migrations fail. These functions are inlined into the statements that use them.

create or replace function indexing.app_events()
returns table (
  event_id uuid, name text, starts_at timestamptz, ends_at timestamptz, active boolean, closed boolean, status text
) language sql stable as $$
  select
    e.event_id, e.name, e.starts_at, coalesce(e.ends_at, e.starts_at + interval '12 hours'),
    coalesce(e.is_active, true),
    coalesce(e.cleanup_status::text, 'pending') <> 'pending', -- the app removes the collection, or has done so
    coalesce(e.indexing_status::text, 'pending')
  from public.events e
$$;

create or replace function indexing.app_consents()
returns table (event_id uuid, user_id uuid) language sql stable as $$
  select c.event_id, c.user_id from public.event_consents c where c.allow_recognition
$$;

-- photo_path without the white space around it, as the app strips it.
create or replace function indexing.app_profiles()
returns table (user_id uuid, photo_path text) language sql stable as $$
  select p.user_id, btrim(p.photo_path, E' \t\r\n\f\u000B\u00A0') from public.profiles p
$$;

-- Locks the rows of these events. Returns those that we hold now or that no longer exist; never waits for the app, so a row
-- that it holds locked is left out.
create or replace function indexing.app_lock_events(events uuid[]) returns uuid[]
language plpgsql set search_path = '' as $$
declare
  held uuid[];
begin
  held := array(
    select e.event_id from public.events e where e.event_id = any (events) order by e.event_id
    for no key update skip locked
  );
  return held || array(
    select x from unnest(events) x where not exists (select from public.events e where e.event_id = x)
  );
end
$$;

-- The one write to the app's tables: sets the status of those of the given events whose status is one of `expected`. Their
-- rows must have been locked by app_lock_events. Returns the events that were changed.
create or replace function indexing.app_set_status(events uuid[], expected text[], status text) returns uuid[]
language sql set search_path = '' as $$
  with changed as (
    update public.events e set indexing_status = app_set_status.status::public.event_processing_status
    where e.event_id = any (events) and coalesce(e.indexing_status::text, 'pending') = any (expected)
    returning e.event_id
  )
  select coalesce(array_agg(event_id), '{}') from changed
$$;

-- The triggers. They run inside the app's transactions, so they must neither fail nor wait, whatever the app's columns or our
-- tables look like: rows are read as jsonb, where a column that is gone is null. What they cannot note, reconcile finds.

create or replace function indexing.as_uuid(value text) returns uuid
language sql immutable as $$
  select case when value ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then value::uuid end
$$;

create or replace function indexing.consent_in(app_row jsonb)
returns table (event_id uuid, user_id uuid, allows boolean) language sql immutable as $$
  select
    indexing.as_uuid(app_row ->> 'event_id'), indexing.as_uuid(app_row ->> 'user_id'),
    coalesce(app_row ->> 'allow_recognition', 'false') in ('true', 't', 'yes', '1')
$$;

create or replace function indexing.on_consents() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  events uuid[];
begin
  if not indexing.can_note() then
    return null;
  elsif tg_op = 'INSERT' then
    with noted as (
      insert into indexing.changes (source, event_id, user_id)
      select 'consents', c.event_id, c.user_id
      from new_rows n cross join lateral indexing.consent_in(to_jsonb(n)) c
      where c.allows and num_nulls(c.event_id, c.user_id) = 0
      returning event_id
    ) select array_agg(distinct event_id) into events from noted;
  elsif tg_op = 'DELETE' then
    with noted as (
      insert into indexing.changes (source, event_id, user_id, erases)
      select 'consents', c.event_id, c.user_id, true
      from old_rows o cross join lateral indexing.consent_in(to_jsonb(o)) c
      where c.allows and num_nulls(c.event_id, c.user_id) = 0
      returning event_id
    ) select array_agg(distinct event_id) into events from noted;
  else
    with was as (
      select c.event_id, c.user_id from old_rows o cross join lateral indexing.consent_in(to_jsonb(o)) c where c.allows
    ), is_now as (
      select c.event_id, c.user_id from new_rows n cross join lateral indexing.consent_in(to_jsonb(n)) c where c.allows
    ), noted as (
      insert into indexing.changes (source, event_id, user_id, erases)
      select 'consents', event_id, user_id, erases from (
        select *, true from (select * from was except select * from is_now) taken
        union all select *, false from (select * from is_now except select * from was) given
      ) changed (event_id, user_id, erases)
      where num_nulls(event_id, user_id) = 0
      returning event_id
    ) select array_agg(distinct event_id) into events from noted;
  end if;
  if events is not null and indexing.may_nudge()
    and exists (select from indexing.event_runs r where r.event_id = any (events)) then
    perform indexing.nudge();
  end if;
  return null;
end
$$;

-- Row by row, since only such a trigger fires for a statement that names photo_path with an equal value: the app does that
-- after it has replaced the object under the same key.
create or replace function indexing.on_profile() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  changed constant jsonb := to_jsonb(coalesce(new, old));
  attendee constant uuid := indexing.as_uuid(changed ->> 'user_id');
begin
  if attendee is null or not indexing.can_note() or (tg_op = 'INSERT' and changed ->> 'photo_path' is null) then
    return null;
  end if;
  insert into indexing.changes (source, user_id, erases)
  values ('profiles', attendee, tg_op = 'DELETE' or changed ->> 'photo_path' is null);
  if indexing.may_nudge() and exists (select from indexing.face_jobs j where j.user_id = attendee) then
    perform indexing.nudge();
  end if;
  return null;
end
$$;

-- Every column but indexing_status, which is ours: an event that is set back to pending is claimed anew.
create or replace function indexing.on_events() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  events uuid[];
begin
  if not indexing.can_note() then
    return null;
  elsif tg_op = 'DELETE' then
    with noted as (
      insert into indexing.changes (source, event_id, erases)
      select 'events', indexing.as_uuid(to_jsonb(o) ->> 'event_id'), true from old_rows o
      where indexing.as_uuid(to_jsonb(o) ->> 'event_id') is not null
      returning event_id
    ) select array_agg(event_id) into events from noted;
  else
    with was as (select to_jsonb(o) - array['indexing_status', 'name'] as event from old_rows o),
    is_now as (select to_jsonb(n) - array['indexing_status', 'name'] as event from new_rows n),
    noted as (
      insert into indexing.changes (source, event_id, erases)
      select 'events', indexing.as_uuid(event ->> 'event_id'),
        bool_or(coalesce(event ->> 'cleanup_status', 'pending') <> 'pending')
      from (
        (select event from is_now except select event from was)
        union all (select event from was except select event from is_now)
      ) changed
      where indexing.as_uuid(event ->> 'event_id') is not null
      group by 2
      returning event_id
    ) select array_agg(event_id) into events from noted;
  end if;
  if events is not null and indexing.may_nudge()
    and exists (select from indexing.event_runs r where r.event_id = any (events)) then
    perform indexing.nudge();
  end if;
  return null;
end
$$;

create or replace function indexing.on_truncate() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if indexing.can_note() then
    insert into indexing.changes (source, erases) values ('everything', true);
    if indexing.may_nudge() then
      perform indexing.nudge();
    end if;
  end if;
  return null;
end
$$;

-- Creating a trigger needs a lock that waits for the app's open transactions, and the app's writes would queue behind it. So
-- the locks are asked for in short tries, with rests in between.
do $$
declare
  app_table text;
  tries constant integer := 30;
begin
  for attempt in 1 .. tries loop
    begin
      set local lock_timeout = '300ms';
      lock table public.events, public.event_consents, public.profiles in share row exclusive mode;
      exit;
    exception when lock_not_available then
      if attempt = tries then
        raise exception 'a transaction of the app has held events, event_consents or profiles locked for %s seconds', tries
          using errcode = 'lock_not_available', hint = 'Nothing was changed. End that transaction (see pg_stat_activity) and run the migration again.';
      end if;
    end;
    perform pg_sleep(0.7);
  end loop;

  create or replace trigger indexing_consents_inserted after insert on public.event_consents
    referencing new table as new_rows for each statement execute function indexing.on_consents();
  create or replace trigger indexing_consents_updated after update on public.event_consents
    referencing old table as old_rows new table as new_rows for each statement execute function indexing.on_consents();
  create or replace trigger indexing_consents_deleted after delete on public.event_consents
    referencing old table as old_rows for each statement execute function indexing.on_consents();

  create or replace trigger indexing_profiles_inserted after insert on public.profiles
    for each row execute function indexing.on_profile();
  create or replace trigger indexing_profiles_updated after update of photo_path on public.profiles
    for each row execute function indexing.on_profile();
  create or replace trigger indexing_profiles_deleted after delete on public.profiles
    for each row execute function indexing.on_profile();

  create or replace trigger indexing_events_updated after update on public.events
    referencing old table as old_rows new table as new_rows for each statement execute function indexing.on_events();
  create or replace trigger indexing_events_deleted after delete on public.events
    referencing old table as old_rows for each statement execute function indexing.on_events();

  foreach app_table in array array['events', 'event_consents', 'profiles'] loop
    execute format(
      'create or replace trigger indexing_truncated after truncate on public.%I for each statement execute function indexing.on_truncate()',
      app_table
    );
  end loop;
end
$$;
