-- What changes in the app's tables after an event was claimed.
--
-- The triggers only append here, in the app's own transaction: no row of ours is ever updated or waited for by a write of
-- the app, so two of its transactions cannot meet in our tables. A change is noted whether or not its event is claimed, so
-- that none can fall between a claim that does not see it yet and a trigger that does not see the claim yet: it becomes
-- visible when its transaction commits, however late, and is looked at then.
create table if not exists indexing.changes (
  id       bigint generated always as identity primary key,
  event_id uuid,       -- null: all events of this user (a profile)
  user_id  uuid,       -- null: the event itself
  noted_at timestamptz not null default clock_timestamp(),
  replaces boolean not null default false, -- something that the app may have acted on by itself: a photo, a consent
  constraint changes_name_something check (num_nonnulls(event_id, user_id) > 0)
);
alter table indexing.changes add column if not exists replaces boolean not null default false;
alter table indexing.changes enable row level security;
revoke all on indexing.changes from public, anon, authenticated, service_role;

-- Those of the last minute that concerned no claimed event: should one be claimed now, what the app does late about what was
-- replaced lands in its new collection. See indexing_expand.
create table if not exists indexing.recent_changes (
  event_id uuid, -- null: all events of this user
  user_id  uuid not null,
  noted_at timestamptz not null
);
create index if not exists recent_changes_by_user on indexing.recent_changes (user_id);
create index if not exists recent_changes_by_event on indexing.recent_changes (event_id);
alter table indexing.recent_changes enable row level security;
revoke all on indexing.recent_changes from public, anon, authenticated, service_role;

create or replace function indexing.note_consents() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  events uuid[]; -- of the changes that were noted
begin
  if tg_op = 'INSERT' then
    with noted as (
      insert into indexing.changes (event_id, user_id)
      select event_id, user_id from new_rows where allow_recognition
      returning event_id
    ) select array_agg(distinct event_id) into events from noted;
  elsif tg_op = 'DELETE' then
    with noted as (
      insert into indexing.changes (event_id, user_id, replaces)
      select event_id, user_id, true from old_rows where allow_recognition
      returning event_id
    ) select array_agg(distinct event_id) into events from noted;
  else
    with was as (select event_id, user_id from old_rows where allow_recognition),
    is_now as (select event_id, user_id from new_rows where allow_recognition),
    noted as (
      insert into indexing.changes (event_id, user_id, replaces)
      select *, true from (select * from was except select * from is_now) taken
      union all select *, false from (select * from is_now except select * from was) given
      returning event_id
    ) select array_agg(distinct event_id) into events from noted;
  end if;
  if exists (select from indexing.event_runs r where r.event_id = any (events)) then
    perform indexing.nudge();
  end if;
  return null;
end
$$;

create or replace function indexing.note_profiles() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  users uuid[];
begin
  if tg_op = 'INSERT' then
    with noted as (
      insert into indexing.changes (user_id) select user_id from new_rows where photo_path is not null
      returning user_id
    ) select array_agg(user_id) into users from noted;
  elsif tg_op = 'DELETE' then
    with noted as (
      insert into indexing.changes (user_id, replaces) select user_id, true from old_rows
      returning user_id
    ) select array_agg(user_id) into users from noted;
  else
    with was as (select user_id, photo_path from old_rows), is_now as (select user_id, photo_path from new_rows),
    noted as (
      insert into indexing.changes (user_id, replaces)
      select user_id, bool_or(replaces) from (
        select user_id, photo_path is not null as replaces from (select * from was except select * from is_now) before
        union all
        select user_id, false from (select * from is_now except select * from was) after
      ) changed
      group by user_id
      returning user_id
    ) select array_agg(user_id) into users from noted;
  end if;
  if exists (select from indexing.face_jobs j where j.user_id = any (users)) then
    perform indexing.nudge();
  end if;
  return null;
end
$$;

create or replace function indexing.note_events() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  events uuid[];
begin
  if tg_op = 'DELETE' then
    with noted as (
      insert into indexing.changes (event_id) select event_id from old_rows
      returning event_id
    ) select array_agg(event_id) into events from noted;
  else
    -- Not indexing_status: who sets an event back to pending has it claimed anew.
    with was as (select event_id, is_active, starts_at, cleanup_status from old_rows),
    is_now as (select event_id, is_active, starts_at, cleanup_status from new_rows),
    noted as (
      insert into indexing.changes (event_id)
      select event_id from (select * from was except select * from is_now) before
      union
      select event_id from (select * from is_now except select * from was) after
      returning event_id
    ) select array_agg(event_id) into events from noted;
  end if;
  if exists (select from indexing.event_runs r where r.event_id = any (events)) then
    perform indexing.nudge();
  end if;
  return null;
end
$$;

create or replace trigger indexing_consents_inserted after insert on public.event_consents
  referencing new table as new_rows for each statement execute function indexing.note_consents();
create or replace trigger indexing_consents_updated after update on public.event_consents
  referencing old table as old_rows new table as new_rows for each statement execute function indexing.note_consents();
create or replace trigger indexing_consents_deleted after delete on public.event_consents
  referencing old table as old_rows for each statement execute function indexing.note_consents();

create or replace trigger indexing_profiles_inserted after insert on public.profiles
  referencing new table as new_rows for each statement execute function indexing.note_profiles();
create or replace trigger indexing_profiles_updated after update on public.profiles
  referencing old table as old_rows new table as new_rows for each statement execute function indexing.note_profiles();
create or replace trigger indexing_profiles_deleted after delete on public.profiles
  referencing old table as old_rows for each statement execute function indexing.note_profiles();

create or replace trigger indexing_events_updated after update on public.events
  referencing old table as old_rows new table as new_rows for each statement execute function indexing.note_events();
create or replace trigger indexing_events_deleted after delete on public.events
  referencing old table as old_rows for each statement execute function indexing.note_events();

-- The attendees of a changed event whose jobs are concerned by the change and have not followed it yet, at most so many: of a
-- deleted event all, of a moved one those that wait in the outbox, of one that takes faces again those that it denied.
create or replace function indexing.behind_event(event uuid, page integer) returns setof uuid
language sql stable set search_path = '' as $$
  select j.user_id
  from indexing.face_jobs j
  left join public.events e on e.event_id = j.event_id
  where j.event_id = event and case
    when e.event_id is null then j.reason is distinct from 'event_deleted'
    else (j.state = 'queued' and j.due <> '-infinity' and j.due <> e.starts_at)
      or (j.state = 'skipped' and j.reason in ('event_inactive', 'event_closed')
        and e.is_active and e.cleanup_status = 'pending')
    end
  order by j.user_id limit page
$$;

-- A deleted event takes its collection with it. What a worker still does for it meets a newer version when it reports.
create or replace function indexing.close_event(event uuid, attendees uuid[]) returns void
language plpgsql set search_path = '' as $$
begin
  update indexing.face_jobs j set
    version = j.version + 1,
    state = case when j.state = 'running' then j.state else 'erased' end,
    reason = 'event_deleted', error = null,
    face_id = null, face_photo = null, stray_face_ids = '{}', unconfirmed = true,
    second_look_at = null,
    ended_at = case when j.state <> 'running' then clock_timestamp() end
  where j.event_id = event and j.user_id = any (attendees);
  update indexing.event_runs r set
    state = case when r.state = 'in_progress' then 'completed' else r.state end,
    reason = 'event_deleted',
    settled_at = coalesce(r.settled_at, clock_timestamp()),
    collection = 'closing', collection_attempts = 0, collection_due = clock_timestamp()
  where r.event_id = event and r.collection in ('missing', 'ready');
end
$$;

-- Another start is another place in the outbox; an event that takes faces again gets those that it was denied.
create or replace function indexing.follow_event(event uuid, attendees uuid[]) returns void
language plpgsql set search_path = '' as $$
declare
  app public.events;
  run indexing.event_runs;
begin
  select * into run from indexing.event_runs r where r.event_id = event for update; -- not to be settled meanwhile
  select * into app from public.events e where e.event_id = event;
  if app.starts_at is not null and app.starts_at <> run.starts_at then
    update indexing.event_runs r set starts_at = app.starts_at where r.event_id = event;
  end if;
  update indexing.face_jobs j set due = app.starts_at
  where j.event_id = event and j.user_id = any (attendees) and j.state = 'queued' and j.due <> '-infinity'
    and app.starts_at is not null;
  if app.is_active and app.cleanup_status = 'pending' then
    update indexing.face_jobs j set
      state = 'queued', reason = null, version = j.version + 1, attempts = 0, queued_at = clock_timestamp(), ended_at = null
    where j.event_id = event and j.user_id = any (attendees)
      and j.state = 'skipped' and j.reason in ('event_inactive', 'event_closed');
    if run.reason = 'event_inactive' and app.indexing_status = 'failed' then
      -- A run that the deactivation ended is begun anew.
      update public.events e set indexing_status = 'pending' where e.event_id = (
        select f.event_id from public.events f
        where f.event_id = event and f.indexing_status = 'failed' for no key update skip locked
      );
      if not found then
        insert into indexing.changes (event_id) values (event); -- the app holds it: at the next look
      end if;
    end if;
  end if;
end
$$;

-- Turns one page of noted changes into jobs: for each attendee concerned of a claimed event, the job that looks at them
-- again. What concerns no claimed event is discarded after a minute, for the claim will see it.
-- The app may call Rekognition by itself in the request that made the change, after its commit and so after us. That is over
-- a minute later, when the attendee is looked at a second time.
-- Returns {"changes": taken, "jobs": written, "more": whether to call again}.
create or replace function public.indexing_absorb(page integer default 5000) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  taken indexing.changes[];
  events uuid[]; -- that changed themselves
  event uuid;
  attendees uuid[]; -- of that event, a page of them
  written integer;
  more boolean;
begin
  perform indexing.take_turn();
  delete from indexing.recent_changes c where c.noted_at < clock_timestamp() - interval '1 minute';
  with gone as (
    delete from indexing.changes c where c.id in (select id from indexing.changes order by id limit page)
    returning c.*
  )
  select array_agg(gone::indexing.changes) into taken from gone;
  if taken is null then
    return jsonb_build_object('changes', 0, 'jobs', 0, 'more', false);
  end if;

  more := cardinality(taken) = page;

  insert into indexing.recent_changes (event_id, user_id, noted_at)
  select c.event_id, c.user_id, c.noted_at from unnest(taken) c
  where c.replaces and not exists (select from indexing.event_runs r where r.event_id = c.event_id);

  events := array(
    select distinct c.event_id from unnest(taken) c join indexing.event_runs r using (event_id)
    where c.user_id is null order by c.event_id
  );

  -- Jobs are locked before runs and in their order, here as everywhere: the event's own change may concern all its jobs,
  -- a profile's those of all its events. A worker that has read the app's tables before the change is waited for.
  perform from indexing.face_jobs j join (
    select o.event_id, o.user_id from indexing.face_jobs o where o.event_id = any (events) and o.ended_at is null
    union
    select e, indexing.behind_event(e, page) from unnest(events) e
    union
    select u.event_id, u.user_id from unnest(taken) c join indexing.face_jobs u using (user_id) where c.event_id is null
    union
    select c.event_id, c.user_id from unnest(taken) c where c.event_id is not null and c.user_id is not null
  ) concerned using (event_id, user_id)
  order by j.event_id, j.user_id for update of j;

  foreach event in array events loop
    attendees := array(select indexing.behind_event(event, page)); -- of those that are locked
    if exists (select from public.events e where e.event_id = event) then
      perform indexing.follow_event(event, attendees);
    else
      perform indexing.close_event(event, attendees);
    end if;
    if cardinality(attendees) = page then
      insert into indexing.changes (event_id) values (event); -- for the others
      more := true;
    end if;
  end loop;

  with concerned as (
    select c.event_id, c.user_id,
      c.user_id in (select p.user_id from unnest(taken) p where p.event_id is null) as of_photo
    from unnest(taken) c where c.event_id is not null and c.user_id is not null
    union all
    -- A profile: whoever consents to a claimed event has a job there, with a photo or without …
    select j.event_id, j.user_id, true from unnest(taken) c join indexing.face_jobs j using (user_id) where c.event_id is null
    union all
    -- … or is still to have one.
    select a.event_id, a.user_id, true
    from indexing.event_runs r
    cross join unnest(taken) c
    join public.event_consents a on a.event_id = r.event_id and a.user_id = c.user_id
    where r.state = 'in_progress' and r.expanded_at is null and c.event_id is null and a.allow_recognition
  ), looked_at as (
    select
      c.event_id, c.user_id, count(*) as changes, bool_or(c.of_photo) as of_photo, r.starts_at,
      bool_or(a.allow_recognition) is true as consents
    from concerned c
    join indexing.event_runs r on r.event_id = c.event_id and r.collection in ('missing', 'ready')
    left join public.event_consents a on a.event_id = c.event_id and a.user_id = c.user_id
    group by c.event_id, c.user_id, r.starts_at
  )
  insert into indexing.face_jobs as j (event_id, user_id, due, unconfirmed, second_look_at)
  select
    event_id, user_id, case when consents then starts_at else '-infinity' end,
    -- The app may have indexed by itself, and it is a face of somebody, or of a photo, that it no longer wants.
    not consents or changes > 1 or of_photo,
    clock_timestamp() + interval '1 minute'
  from looked_at
  order by event_id, user_id
  on conflict (event_id, user_id) do update set
    version = j.version + 1,
    state = case when j.state = 'running' then j.state else 'queued' end,
    unconfirmed = true, due = excluded.due, second_look_at = excluded.second_look_at,
    attempts = 0, dead_letters = 0, error = null, reason = null, queued_at = clock_timestamp(),
    ended_at = null;
  get diagnostics written = row_count;
  return jsonb_build_object('changes', cardinality(taken), 'jobs', written, 'more', more);
end
$$;

select indexing.close_functions();
