import { EXIT, EXIT_CODES } from './exit.ts'
import { REPLAYABLE, reasonOf } from './reasons.ts'
import { wrap } from './terminal.ts'

// What --help says, command by command.

export const DESCRIPTION =
  'Shows the state of events and why attendees are not indexed; tries failed attendees again; audits, erases, and proves erasures.'

export const AFTER_HELP = `
Which system:
  --stage NAME      a deployed stage, with SUPABASE_URL and the AWS credentials
                    and region in the environment. The key comes from its SSM
                    parameter, unless SUPABASE_SERVICE_ROLE_KEY or
                    SUPABASE_SERVICE_ROLE_KEY_PARAMETER is set.
  SUPABASE_URL      otherwise, if it is set: what the environment names, with
                    SUPABASE_SERVICE_ROLE_KEY, WORK_QUEUE_URL and
                    URGENT_QUEUE_URL
  npm run dev       otherwise, while it runs: the local system, by itself

  ATTENDEE_NAME_COLUMN  the column of profiles that holds names: they are shown
                    by status --state, attendee and export, and in no log
  NO_COLOR          no colours
  TZ                the time zone of all times, such as Europe/Berlin; otherwise
                    this machine's

Exit codes:
${exitCodes()}

Examples:
  npx event-indexer status --stage prod --watch
  npx event-indexer status --event 8c1e7a52-5c0d-4c55-9d8e-6b1e6d1b9a11
  npx event-indexer replay --event 8c1e7a52-5c0d-4c55-9d8e-6b1e6d1b9a11
  npx event-indexer replay --all-failed --yes --no-wait
`

export const STATUS_JSON = `
--json prints one object; with --watch one a line, every two seconds. Fields may
be added, never changed. Times are ISO 8601.
  at, system, url
  index_faces_tps       IndexFaces calls a second that the account allows, as
                        the scheduler goes by
  index_faces_rate      those of this moment, fewer for a while after Rekognition
                        has throttled: what ready_at and late assume
  dead_letters          messages that are not ours and that nobody has
                        acknowledged; null with --event
  events[]              the soonest start first
    event_id, name, starts_at
    status              the app's indexing_status; null: the event was deleted
    state               in_progress, completed, failed; or unclaimed

    if it is claimed:
    attendees           { indexed, skipped, failed, erased, queued, in_flight }
    skipped, failed     { REASON: how many }
    open                { ERROR: how many }: those without an outcome by the
                        error of their last attempt, "" where there was none
    ahead               attendees of other events whose turn comes first
    index_calls         IndexFaces calls spent
    oldest_open         since when the oldest without an outcome waits, or null
    last_ended          when an attendee last had an outcome, or null
    ended_lately        how many had one in the last two minutes
    ready_at            when the last one is expected to be done, or null
    late                whether that is after the start
    missing_at_start    how many will then have no outcome
    paused              what an operator has paused: event, everything, or null
    ends_at, claimed_at, settled_at
    reconciled_at       when the collection was last compared with the ledger
    reason              why it was settled so, where its attendees do not say it
    collection          missing, ready, closing, deleted
    collection_error    why it could not be made, or null

    if it is unclaimed:
    active, paused
    attendees           how many consent

    with --event, if it is claimed:
    failures[]          { user_id, reason, error, attempts }
    skips[]             { user_id, reason, photo_key, to_attendee }, the last in
                        words that can be passed on, or null
    drift[]             what reconciles have found and put right, the latest
                        first: { at, extra, missing, doubled, unnoticed,
                        stale_photos, recreated }; see audit --help
    attendee_list[]     with --state: { user_id, name, state, reason, error,
                        to_attendee, photo_key, face_id, attempts, index_calls }
`

export const CHECK_HELP = `
GO, exit code 0: the app recognises the attendees of the event, and no change
has waited for more than two minutes. NO GO, exit code 2: the line says why.
Failed attendees of a completed event do not make it NO GO; the line counts them.
`

export const ATTENDEE_JSON = `
--json prints one object. Fields may be added, never changed. Times are ISO 8601.
  at, system, url, user_id
  attendee_name         null unless ATTENDEE_NAME_COLUMN is set
  events[]              the latest start first
    event_id, name, starts_at, version
    state               queued, sent, running, indexed, erased, skipped, failed
    reason, error       why, and of the last attempt that went wrong, or null
    to_attendee         the reason in words that can be passed on, or null
    desired_reason      why the app wants no face of them; null: it wants one
    photo_key, face_id  what was looked at last, and its face, or null
    attempts            at this version
    index_calls         IndexFaces calls spent
    queued_at, ended_at, look_again_at
    history[]           { at, outcome, reason, error }, the last ten attempts
`

export const REPLAY_HELP = `
What is queued is sent at once, with your own rights to the queues; without them
the scheduler sends it within a minute. Ctrl-C leaves it running.

Reasons:
${REPLAYABLE.map((code) => `  ${code.padEnd(22)}${reasonOf(code).title}`).join('\n')}
`

export const DASHBOARD_HELP = `
Prints a link that opens the page once, in one browser. The page works with your
own rights, which stay in this program; nothing is deployed, and the browser
keeps nothing but a cookie. Every button says first how many it touches. Ctrl-C
ends it.
`

export const AUDIT_HELP = `
Lists each collection, with your own rights to Rekognition and the photo bucket,
and compares it with the ledger, the app's tables and the photos. Without
--repair nothing is changed. With it a job is queued for each difference, as the
scheduler does by itself, and followed until it has ended; then the collection
is compared once more. Exit code 0: nothing differs.

  extra          attendees with a face in the collection who should have none
  missing        attendees whose face is not in the collection
  doubled        attendees with several faces, or with another face than the
                 ledger has
  unnoticed      attendees whose consent or photo has changed since, and the
                 ledger does not know it yet
  stale_photos   attendees whose photo was replaced after it was indexed
  foreign        faces whose ExternalImageId is no user id: never touched

Without --event it looks for collections with our prefix that belong to no event
of ours. They are deleted one by one, by their id: stages may share an account.

After a restored backup: audit --all --repair

--json prints one object. Fields may be added, never changed.
  at, system, url
  events[]    { event_id, differences: { KIND: attendees }, foreign, faces,
              recreated, who: [{ user_id, difference }] }
  left        with --repair: those that still differed afterwards, or null
  orphans     ids of collections, or null with --event
`

export const REHEARSE_HELP = `
Does what the worker would do with each photo, on this machine, with the face
engine of the local system in place of Rekognition: no photo is sent anywhere,
and nothing is written. Photos are read with your own rights to the bucket. Half
a second to a second a photo on two cores. The engine is another one than
Rekognition's, so a face at the limit may be judged otherwise there. It goes by
the settings SEVERAL_FACES and CONVERT_PHOTOS that are deployed.

Exit code 0: everybody who consents will be recognised; 2: somebody will not be,
or nobody could look.

--json prints one object. Fields may be added, never changed. Times are ISO 8601.
  at, system, url, event_id, name, starts_at
  consenting, recognised, share   share is 0 to 1, or null where nobody consents
  several_faces     skip or largest: the setting that it went by
  convert_photos    true or false: likewise
  not_recognised[]  { user_id, name, photo_key, outcome: skipped or failed,
                    reason, error, to_attendee }, the last in words that can be
                    passed on, or null; name needs ATTENDEE_NAME_COLUMN
  alike[]           { user_ids: [ID, ID], similarity }: faces so similar that
                    each may be taken for the other
`

export const ERASE_HELP = `
For a request by law. Without --yes it lists what it would delete, exit code 1.

An attendee: every face of theirs is deleted, those that the ledger does not
know included, through the urgent queue. Refused as long as the app still wants
a face of theirs, for it would be indexed again at once: take the consent back
in the app first.

An event: its collection is deleted with all faces; cleanup_status is moved to
in_progress and, when the collection is gone for good, to completed.

Then it waits for the proof, two to four minutes: exit code 0 when a later
listing has shown that the faces are gone, 2 when it has failed.
`

export const PROVE_HELP = `
Each revocation has a receipt: when the app's change was noted, when DeleteFaces
had answered, when a later listing was seen without a face of theirs. Receipts
are a chain: each has the hash of the one before, so that none can be changed or
removed without a trace. Exit code 0: all is proven; 2: an erasure is still open,
or the chain is broken; 1: no erasure is known.

--json prints one object. Fields may be added, never changed. Times are ISO 8601.
  at, system, url
  proven      whether the exit code is 0 or 1
  chain       { through, hash, broken_at }
  open[]      { event_id, user_id, reason, noted_at, faces, deleted_at,
              verified_at, wanted_again_at, state, error }
  receipts[]  the same without the last two, and { position, sealed_at, text,
              previous, hash }: sha256 of the bytes of previous and of the text
  standing[]  events with a face of theirs at this moment
user_id is null where the whole collection of an event was deleted.
`

export const PAUSE_HELP = `
Erasures go on, and the ledger is kept up to date. Messages that are in the
queues already, up to a minute or two of work, are still handled. status lists
what is paused.
`

export const REDRIVE_HELP = `
The finalizer moves dead letters into the ledger, where replay finds them. A
message that stays in the queue could not be moved, most likely because the
database did not answer: redrive has it tried again. It needs no database.
`

export const DEAD_LETTERS_JSON = `
--json prints one object. Fields may be added, never changed. Times are ISO 8601.
  at, system, url
  queue     { waiting, in_flight }, at this moment in the dead-letter queue
  kept[]    { message_id, received_at, problem, body, attributes }, the last
            being SQS's own, the latest message first
`

export const LOG_HELP = `
The latest first, at most 200. The name is that of the user and the machine which
ran the program.

--json prints one object. Fields may be added, never changed. Times are ISO 8601.
  at, system, url
  actions[]   { id, at, actor, action, event_id, user_id, note, touched }
`

export const DOCTOR_HELP = `
Asks the database, the queues, the photo bucket and Rekognition, with your own
rights; with --stage also the deployed functions, rules, alarms and quotas. It
changes nothing, and sends one request without a secret to the nudge's URL.

  ok        as it should be
  problem   the system does not work as it should, or will not: exit code 2
  note      it works, and could do better
  unknown   you may not look at it; the line names the right that you need

--json prints one object. Fields may be added, never changed.
  at, system, url
  healthy     whether there is no problem
  checks[]    { check, verdict, found, todo }, the last null where there is
              nothing to do
`

export const MIGRATE_HELP = `
Each migration is applied once, in one transaction together with its entry in
supabase_migrations.schema_migrations, as the Supabase CLI records it. The first
one that fails ends it, exit code 2; those before it stay. Before anything is
changed it looks whether the app's tables have the columns and types that are
read. Several may run at once. The database first, then the functions.

--again brings back functions and triggers that were dropped, replaced or
disabled by hand, and applies an app-tables.yml that has changed, then with
--other-names.
`

export const UNINSTALL_HELP = `
Removes triggers, functions, the schema indexing with its tables, and their
entries in the history of migrations. The app's tables stay, with the status of
their events. Without --yes it only lists what it would remove, exit code 1.
Before it: npx serverless remove. Afterwards migrate installs anew.
`

function exitCodes(): string {
  return Object.entries(EXIT)
    .map(([name, code]) => {
      const lines = wrap(EXIT_CODES[name as keyof typeof EXIT], 80, 7)
      return `  ${String(code).padEnd(5)}${lines.trimStart()}`
    })
    .join('\n')
}
