-- The tables of the event indexer. They outlive the app's rows (the face of a deleted account must still be erased), so
-- they have no foreign keys to the app's tables. docs/architecture.md explains the states.

create schema if not exists indexing;
revoke all on schema indexing from public;

-- What the deployment sets; written by the scheduler at each run. One row.
create table indexing.settings (
  only_row         boolean primary key default true check (only_row),
  index_faces_tps  double precision not null default 5, -- IndexFaces calls a second of the whole account
  max_failed_share double precision not null default 0, -- an event completes with up to this share of its jobs failed
  orphans_due      timestamptz not null default '-infinity', -- when to look for collections without an event
  cleanup_after_hours double precision, -- events that ended longer ago lose their collection; null: the app sees to that
  collection_prefix   text, -- for the operator's commands …
  photo_bucket        text, -- … which work on the same collections and photos
  several_faces       text, -- skip or largest; for rehearsals …
  convert_photos      boolean -- … which do what the worker would do
);
insert into indexing.settings default values;

-- One row per claimed event, from claim to settlement and beyond, until its collection is deleted.
create table indexing.event_runs (
  event_id            uuid primary key,
  state               text not null default 'in_progress',
  reason              text,                 -- why it was settled so, where its jobs do not say it
  starts_at           timestamptz not null,
  ends_at             timestamptz not null,
  claimed_at          timestamptz not null default clock_timestamp(),
  fanned_out_through  uuid,                 -- jobs are written for attendees up to this user id
  fanned_out_at       timestamptz,          -- jobs are written for all of them
  settled_at          timestamptz,
  collection          text not null default 'missing',
  collection_attempts integer not null default 0,
  collection_error    text,
  collection_due      timestamptz not null default clock_timestamp(), -- no attempt before this
  closed_at           timestamptz,          -- the event was deleted or cleaned up
  cleaning            boolean not null default false, -- by us: cleanup_status is completed when the collection is gone
  changed_at          timestamptz,          -- the last change of the app that concerned this event
  reconcile_due       timestamptz not null default clock_timestamp() + interval '1 minute',
  reconciled_at       timestamptz,
  constraint event_runs_state check (state in ('in_progress', 'completed', 'failed')),
  constraint event_runs_collection check (collection in ('missing', 'ready', 'closing', 'deleted')),
  constraint event_runs_settled check ((state = 'in_progress') = (settled_at is null)),
  constraint event_runs_closed check ((collection in ('closing', 'deleted')) = (closed_at is not null))
);
create index event_runs_unsettled on indexing.event_runs (starts_at, event_id) where state in ('in_progress', 'failed');
create index event_runs_collection_due on indexing.event_runs (collection_due) where collection in ('missing', 'closing');
create index event_runs_reconcile_due on indexing.event_runs (reconcile_due) where collection = 'ready';

-- One row per attendee of a claimed event: ledger and outbox in one.
create table indexing.face_jobs (
  event_id          uuid not null,
  user_id           uuid not null,
  version           integer not null default 1, -- raised whenever the desired state may have changed
  state             text not null default 'queued',
  reason            text,                       -- why it ended so, or what the last attempt met, in one word
  error             text,                       -- of the last attempt that went wrong, for people
  -- The outbox's order: see job_priority.
  priority          smallint not null,
  starts_at         timestamptz not null,       -- of the event
  repeated          boolean not null default false, -- it had ended before
  queued_at         timestamptz not null default clock_timestamp(),
  urgent            boolean not null default false, -- it goes through the urgent queue
  send_batch        bigint,                     -- the send batch that it was handed out with
  sent_at           timestamptz,
  -- Attempts at this version, and what went wrong at them.
  attempts          integer not null default 0, -- leases
  rescues           integer not null default 0, -- messages or workers lost
  dead_letters      integer not null default 0,
  unanswered        integer not null default 0, -- IndexFaces calls for this photo that Rekognition did not answer
  failures          integer not null default 0, -- how often it has failed since it last ended otherwise
  index_calls       integer not null default 0, -- IndexFaces calls, over all versions
  history           jsonb not null default '[]', -- the last attempts: [{"at", "outcome", "reason", "error"}, …]
  -- The lease. It outlasts every call that its worker can make.
  lease_token       uuid,
  lease_until       timestamptz,
  leased_version    integer,
  completed_token   uuid,                       -- of the last lease that its worker completed
  -- What is known of the photo and the collection.
  photo_version     integer not null default 1, -- since this version the photo is to be looked at as if for the first time
  photo_key         text,                       -- the photo that was looked at last …
  photo_etag        text,                       -- … and its content; null: not known, or the object was missing
  refused           text,                       -- the reason for which that photo has no face that can be indexed
  missing_key       text,                       -- an object that is missing in the bucket …
  missing_since     timestamptz,                -- … since it was looked at then
  face_id           text,                       -- the face of that photo in the collection
  obsolete_face_ids text[] not null default '{}', -- other faces of this attendee, to be deleted
  needs_listing     boolean not null default false, -- the collection may hold faces of this attendee that are not named here
  look_again_at     timestamptz,                -- an ended job is queued again then
  ended_at          timestamptz,
  primary key (event_id, user_id),
  constraint face_jobs_state check (state in ('queued', 'sent', 'running', 'indexed', 'erased', 'skipped', 'failed')),
  constraint face_jobs_priority check (priority between 0 and 2),
  constraint face_jobs_lease check ((state = 'running') = (lease_token is not null)),
  constraint face_jobs_ended check ((state in ('queued', 'sent', 'running')) = (ended_at is null)),
  constraint face_jobs_indexed check (state <> 'indexed' or face_id is not null),
  constraint face_jobs_without_face check (state not in ('erased', 'skipped') or face_id is null)
);
create index face_jobs_outbox on indexing.face_jobs (urgent, priority, starts_at, repeated, queued_at, event_id, user_id)
  where state = 'queued';
create index face_jobs_sent on indexing.face_jobs (urgent, sent_at) where state = 'sent';
create index face_jobs_in_send_batch on indexing.face_jobs (send_batch) where state = 'sent';
create index face_jobs_running on indexing.face_jobs (lease_until) where state = 'running';
create index face_jobs_look_again on indexing.face_jobs (look_again_at) where look_again_at is not null;
create index face_jobs_open on indexing.face_jobs (event_id) where ended_at is null;
create index face_jobs_failed on indexing.face_jobs (event_id) where state = 'failed';
create index face_jobs_of_user on indexing.face_jobs (user_id, event_id);
create index face_jobs_of_photo on indexing.face_jobs (photo_key, event_id, user_id);
create index face_jobs_erased on indexing.face_jobs (ended_at) where state = 'erased';
create index face_jobs_of_missing_object on indexing.face_jobs (missing_key) where missing_key is not null;

-- Jobs handed to a scheduler that has not confirmed yet that they are sent.
create table indexing.send_batches (
  id        bigint generated always as identity primary key,
  handed_at timestamptz not null default clock_timestamp()
);

-- What changed in the app's tables and in the bucket; see process_changes. The triggers only append here, in the app's own
-- statements, so what checks a row must be cheap: an enum is, a check constraint is read anew for each statement.
create type indexing.change_source as enum ('consents', 'events', 'profiles', 'photos', 'everything');
create table indexing.changes (
  id           bigint generated always as identity,
  source       indexing.change_source not null,
  event_id     uuid,
  user_id      uuid,
  photo_key    text,
  erases       boolean not null default false, -- faces may have to go: processed before all others
  noted_at     timestamptz not null default clock_timestamp(),
  -- A change of many jobs is processed in pages: those up to here are queued.
  resume_event uuid,
  resume_user  uuid,
  primary key (erases, source, id) -- the order of processing; a second index would double the cost of the app's bulk changes
);

-- The pace of IndexFaces calls. Rekognition's quota belongs to the account, so all workers take their slots from this row.
create table indexing.pace (
  only_row   boolean primary key default true check (only_row),
  next_slot  timestamptz not null default '-infinity', -- slots are free from here on
  rate       double precision,                         -- calls a second after a throttled call; null: the quota
  rate_since timestamptz not null default '-infinity'
);
insert into indexing.pace default values;

-- Messages from the dead-letter queue that we cannot read, raw.
create table indexing.dead_letters (
  message_id  text primary key,
  body        text not null,
  attributes  jsonb not null,
  problem     text not null,
  received_at timestamptz not null default clock_timestamp(),
  acknowledged_at timestamptz -- an operator has seen it, and wants it shown no more
);

-- What operators have paused.
create table indexing.pauses (
  event_id uuid, -- null: everything
  since    timestamptz not null default clock_timestamp(),
  constraint pauses_once unique nulls not distinct (event_id)
);

-- What operators have done, for the log that they share. `actor` is what their program says of them.
create table indexing.actions (
  id       bigint generated always as identity primary key,
  at       timestamptz not null default clock_timestamp(),
  actor    text not null,
  action   text not null,
  event_id uuid, -- null: everything, or nothing of one event
  user_id  uuid,
  note     text, -- what narrowed it, such as a reason
  touched  integer, -- how many, where they can be counted
  action_id uuid not null unique -- the caller's own, by which a repeated call is known
);
create index actions_by_time on indexing.actions (at);

-- What a reconcile has found that was not as it should be, and has put right: how many attendees by kind. None for one that found
-- nothing. What the kinds mean is said in reconcile.sql.
create table indexing.drift (
  event_id     uuid not null,
  at           timestamptz not null, -- no listing of it is older
  extra        integer not null,
  missing      integer not null,
  doubled      integer not null,
  unnoticed    integer not null,
  stale_photos integer not null,
  recreated    boolean not null, -- the collection was gone, and was made anew
  primary key (event_id, at)
);
create index drift_by_time on indexing.drift (at);

-- Erasures whose proof is not complete. Receipts are made of those that have ended; see receipts.sql.
create table indexing.erasures (
  id              bigint generated always as identity primary key,
  event_id        uuid not null,
  user_id         uuid,                       -- null: all attendees, with the collection
  reason          text not null,
  noted_at        timestamptz not null,       -- when the app's change was noted
  faces           integer not null default 0, -- that were deleted for it
  deleted_at      timestamptz,                -- when DeleteFaces or DeleteCollection had answered
  verified_at     timestamptz,                -- when a later listing was seen without a face of theirs
  wanted_again_at timestamptz,                -- the app wants a face of theirs again, before it was seen to be gone
  constraint erasures_reason check (reason in ('consent', 'profile', 'event', 'found', 'request')),
  constraint erasures_verified check (verified_at is null or deleted_at is not null)
);
create index erasures_of_attendee on indexing.erasures (event_id, user_id);
create index erasures_open on indexing.erasures (noted_at) where verified_at is null and wanted_again_at is null;
create index erasures_ended on indexing.erasures (id) where verified_at is not null or wanted_again_at is not null;

-- The receipts of erasures: appended, never changed. Each has the hash of its own content and of the receipt before it.
create table indexing.receipts (
  position        bigint primary key, -- without gaps
  event_id        uuid not null,
  user_id         uuid,
  reason          text not null,
  noted_at        timestamptz not null,
  faces           integer not null,
  deleted_at      timestamptz,
  verified_at     timestamptz,
  wanted_again_at timestamptz,
  sealed_at       timestamptz not null,
  hash            bytea not null
);
create index receipts_of_user on indexing.receipts (user_id, event_id);
create index receipts_of_event on indexing.receipts (event_id);

-- Both ends of the chain, so that a receipt missing there is found out. One row.
create table indexing.receipt_chain (
  only_row       boolean primary key default true check (only_row),
  position       bigint not null default 0, -- of the last receipt …
  hash           bytea not null default '', -- … and its hash
  start_position bigint not null default 0, -- of the last receipt that was deleted for its age …
  start_hash     bytea not null default ''  -- … and its hash
);

-- Where a nudge goes, and whether a run that a nudge began is under way. One row.
create table indexing.nudging (
  only_row      boolean primary key default true check (only_row),
  url           text,
  secret        text,
  arrived_at    timestamptz, -- when the last nudge did; null: none since it was configured
  running_until timestamptz not null default '-infinity',
  again         boolean not null default false -- another nudge came during that run
);
insert into indexing.nudging default values;

-- Row-level security without a policy and no grants: the tables are reached through the functions alone.
alter table indexing.settings enable row level security;
alter table indexing.event_runs enable row level security;
alter table indexing.face_jobs enable row level security;
alter table indexing.send_batches enable row level security;
alter table indexing.changes enable row level security;
alter table indexing.pace enable row level security;
alter table indexing.dead_letters enable row level security;
alter table indexing.nudging enable row level security;
alter table indexing.erasures enable row level security;
alter table indexing.receipts enable row level security;
alter table indexing.receipt_chain enable row level security;
alter table indexing.pauses enable row level security;
alter table indexing.actions enable row level security;
alter table indexing.drift enable row level security;
revoke all on all tables in schema indexing from public, anon, authenticated, service_role;
