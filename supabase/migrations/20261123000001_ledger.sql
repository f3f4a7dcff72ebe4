-- The ledger: what we know about each event's collection, and what has still to be done about it.
-- It outlives the app's rows (a deleted account's face must still be erased), hence no foreign keys to them.

create schema if not exists indexing;
revoke all on schema indexing from public;

-- One row per claimed event. Finishers lock it to settle the event, so that the app's own row is only
-- touched to change its indexing_status.
create table if not exists indexing.event_runs (
  event_id            uuid primary key,
  state               text not null default 'in_progress',
  reason              text,                 -- why it was settled so, where its jobs do not say it
  starts_at           timestamptz not null, -- the order of claims and of the outbox
  claimed_at          timestamptz not null default clock_timestamp(),
  expanded_through    uuid,                 -- jobs are written for attendees up to here …
  expanded_at         timestamptz,          -- … and since then for all
  settled_at          timestamptz,
  collection          text not null default 'missing',
  collection_attempts integer not null default 0,
  collection_error    text,
  collection_due      timestamptz not null default clock_timestamp(), -- no attempt before this
  hopeless            boolean not null        -- its collection could not be made: it cannot be indexed
    generated always as (collection = 'missing' and collection_attempts >= 10) stored,
  constraint event_runs_state check (state in ('in_progress', 'completed', 'failed')),
  constraint event_runs_collection check (collection in ('missing', 'ready', 'closing', 'closing_again', 'deleted')),
  constraint event_runs_settled check ((state = 'in_progress') = (settled_at is null))
);

create index if not exists event_runs_in_progress on indexing.event_runs (starts_at, event_id)
  where state = 'in_progress';
create index if not exists event_runs_collection_work on indexing.event_runs (collection_due)
  where collection in ('missing', 'closing', 'closing_again');

-- One row per attendee of an event who is, or was to be, in its collection: ledger and outbox in one.
create table if not exists indexing.face_jobs (
  event_id        uuid not null,
  user_id         uuid not null,
  version         integer not null default 1,    -- up whenever what the app wants may have changed
  state           text not null default 'queued',
  reason          text,                          -- why it ended as erased, skipped or failed, in one word
  error           text,                          -- of the last attempt that went wrong
  attempts        integer not null default 0,    -- leases taken at this version
  dead_letters    integer not null default 0,    -- messages of this version that ended in the dead-letter queue
  index_calls     integer not null default 0,    -- IndexFaces calls spent, over all versions
  due             timestamptz not null,          -- the order of the outbox: -infinity erases, else the event's start
  queued_at       timestamptz not null default clock_timestamp(),
  sent_at         timestamptz,                   -- handed to a scheduler to be sent: see pages
  lease_token     uuid,                          -- a worker is acting on it …
  lease_until     timestamptz,                   -- … and no call of it can still land after this
  leased_version  integer,
  finished_token  uuid,                          -- of the last lease that was ended by its worker's report
  face_id         text,                          -- in the collection, the face of face_photo
  face_photo      text,
  stray_face_ids  text[] not null default '{}',  -- in the collection too, to be erased
  unconfirmed     boolean not null default false,-- there may be faces in the collection that are not named here
  ended_at        timestamptz,
  primary key (event_id, user_id),
  constraint face_jobs_state check (state in ('queued', 'sent', 'running', 'indexed', 'erased', 'skipped', 'failed')),
  constraint face_jobs_lease check ((state = 'running') = (lease_token is not null)),
  constraint face_jobs_ended check ((state in ('queued', 'sent', 'running')) = (ended_at is null)),
  constraint face_jobs_face check ((face_id is null) = (face_photo is null)),
  constraint face_jobs_indexed check (state <> 'indexed' or face_id is not null),
  constraint face_jobs_erased check (state not in ('erased', 'skipped') or face_id is null)
);

-- Since the first version.
alter table indexing.face_jobs
  drop column if exists send_token,
  drop column if exists sending_until,
  add column if not exists second_look_at timestamptz, -- to be looked at once more then; see indexing_absorb
  add column if not exists refused_photo  text,        -- Rekognition has found no use for this one …
  add column if not exists refused_for    text;        -- … for this reason: no second call for it

create index if not exists face_jobs_outbox on indexing.face_jobs (due, event_id, user_id) where state = 'queued';
-- What a worker may take before what its messages say: in the queue, and not waiting for another try.
create index if not exists face_jobs_in_queue on indexing.face_jobs (due, event_id, user_id)
  where state = 'sent' and error is null;
create index if not exists face_jobs_sent on indexing.face_jobs (sent_at) where state = 'sent';
create index if not exists face_jobs_running on indexing.face_jobs (lease_until) where state = 'running';
create index if not exists face_jobs_second_look on indexing.face_jobs (second_look_at) where second_look_at is not null;
create index if not exists face_jobs_open on indexing.face_jobs (event_id) where ended_at is null;
create index if not exists face_jobs_failed on indexing.face_jobs (event_id) where state = 'failed';
create index if not exists face_jobs_by_user on indexing.face_jobs (user_id, event_id);

-- The pages of jobs that schedulers are sending at this moment. A page's jobs bear its sent_at, so that one row confirms them all.
create table if not exists indexing.pages (
  token   uuid primary key default gen_random_uuid(),
  sent_at timestamptz not null,
  jobs    integer not null,
  until   timestamptz not null default clock_timestamp() + interval '1 minute' -- its scheduler is given up after this
);

-- What lay in the dead-letter queue and is no message of ours, as it came.
create table if not exists indexing.dead_letters (
  message_id  text primary key,
  body        text not null,
  attributes  jsonb not null,
  problem     text not null,
  received_at timestamptz not null default clock_timestamp()
);

-- Row-level security without a policy and no grants: the tables are reached through the functions alone.
alter table indexing.event_runs enable row level security;
alter table indexing.face_jobs enable row level security;
alter table indexing.pages enable row level security;
alter table indexing.dead_letters enable row level security;
revoke all on all tables in schema indexing from public, anon, authenticated, service_role;

-- The one place where rights are given: the API's functions (public.indexing_…) to service_role alone, everything else to
-- nobody. Supabase grants every new function of schema public to anon and authenticated, so each migration that makes
-- functions ends with a call of this.
create or replace function indexing.close_functions() returns void
language plpgsql set search_path = '' as $$
declare
  f record;
begin
  for f in
    select p.oid::regprocedure as signature, n.nspname = 'public' as served
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'indexing' or (n.nspname = 'public' and p.proname like 'indexing\_%')
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', f.signature);
    if f.served then
      execute format('grant execute on function %s to service_role', f.signature);
    end if;
  end loop;
end
$$;

select indexing.close_functions();
