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

-- The names of attendees, by the column that the operator says holds them; nobody where there is no such column.
create or replace function indexing.app_names(attendees uuid[], name_column text)
returns table (user_id uuid, name text) language sql stable as $$
  select p.user_id, to_jsonb(p) ->> name_column from public.profiles p
  where p.user_id = any (attendees) and to_jsonb(p) ->> name_column is not null
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
-- tables look like. Each reads the changed rows in a block of its own, which catches a column that is gone or of another type;
-- a subtransaction that writes nothing costs no id. What cannot be read is noted as "everything".
--
-- EXCEPT and not an anti-join: a plan is kept for the session, and a nested loop that suits one row would not suit 50,000.

create or replace function indexing.on_consents() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  given_events uuid[];
  given_users uuid[];
  taken_events uuid[];
  taken_users uuid[];
begin
  if not indexing.can_note() then
    return null;
  end if;
  begin
    if tg_op = 'INSERT' then
      select array_agg(n.event_id), array_agg(n.user_id) into given_events, given_users from new_rows n where n.allow_recognition;
    elsif tg_op = 'DELETE' then
      select array_agg(o.event_id), array_agg(o.user_id) into taken_events, taken_users from old_rows o where o.allow_recognition;
    else
      select array_agg(c.event_id), array_agg(c.user_id) into given_events, given_users from (
        select n.event_id, n.user_id from new_rows n where n.allow_recognition
        except select o.event_id, o.user_id from old_rows o where o.allow_recognition
      ) c;
      select array_agg(c.event_id), array_agg(c.user_id) into taken_events, taken_users from (
        select o.event_id, o.user_id from old_rows o where o.allow_recognition
        except select n.event_id, n.user_id from new_rows n where n.allow_recognition
      ) c;
    end if;
  exception when others then
    perform indexing.note_everything(sqlerrm);
    return null;
  end;
  perform indexing.note_consents(given_events, given_users, false);
  perform indexing.note_consents(taken_events, taken_users, true);
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
declare
  named constant boolean := coalesce(current_setting('indexing.photo_named', true), '') = 'yes';
  changed uuid[];
  erased uuid[];
begin
  if not indexing.can_note() then
    return null;
  end if;
  begin
    if tg_op = 'INSERT' then
      select array_agg(n.user_id) into changed from new_rows n where n.photo_path is not null;
    elsif tg_op = 'DELETE' then
      select array_agg(o.user_id) into erased from old_rows o;
    else
      select array_agg(c.user_id) filter (where c.photo_path is not null), array_agg(c.user_id) filter (where c.photo_path is null)
      into changed, erased from (
        select n.user_id, n.photo_path from new_rows n
        except select o.user_id, o.photo_path from old_rows o where not named
      ) c;
    end if;
  exception when others then
    perform indexing.note_everything(sqlerrm);
    return null;
  end;
  perform indexing.note_profiles(changed, false);
  perform indexing.note_profiles(erased, true);
  return null;
end
$$;

-- Every column but indexing_status, which is ours (an event that is set back to pending is claimed anew), and the name.
create or replace function indexing.on_events() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  changed uuid[];
  closed uuid[];
begin
  if not indexing.can_note() then
    return null;
  end if;
  begin
    if tg_op = 'DELETE' then
      select array_agg(o.event_id) into closed from old_rows o;
    else
      select array_agg(distinct c.event_id) filter (where not c.closed), array_agg(distinct c.event_id) filter (where c.closed)
      into changed, closed from (
        select n.event_id, coalesce(n.cleanup_status::text, 'pending') <> 'pending', to_jsonb(n) - array['indexing_status', 'name']
        from new_rows n
        except
        select o.event_id, coalesce(o.cleanup_status::text, 'pending') <> 'pending', to_jsonb(o) - array['indexing_status', 'name']
        from old_rows o
      ) c (event_id, closed, facts);
    end if;
  exception when others then
    perform indexing.note_everything(sqlerrm);
    return null;
  end;
  perform indexing.note_events(changed, false);
  perform indexing.note_events(closed, true);
  return null;
end
$$;

create or replace function indexing.on_truncate() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if indexing.can_note() then
    perform indexing.note_everything('TRUNCATE of ' || tg_table_name);
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
    referencing new table as new_rows for each statement execute function indexing.on_profiles();
  create or replace trigger indexing_photo_named before update of photo_path on public.profiles
    for each statement execute function indexing.on_photo_named();
  create or replace trigger indexing_profiles_updated after update on public.profiles
    referencing old table as old_rows new table as new_rows for each statement execute function indexing.on_profiles();
  create or replace trigger indexing_profiles_deleted after delete on public.profiles
    referencing old table as old_rows for each statement execute function indexing.on_profiles();

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
