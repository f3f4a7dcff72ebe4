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
    perform indexing.nudge();
  end if;
  return noted;
end
$$;
