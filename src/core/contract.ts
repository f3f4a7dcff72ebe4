import type { Attendee, JobRef } from './message.ts'
import * as z from './zod.ts'

/**
 * The contract with the database: each function that the API serves, with its arguments and its answer. It is written once,
 * here; a test compares it with the catalog of a migrated database. What the fields mean is said in supabase/source.
 */

/** The schema version that this code needs: see `indexing_schema_version`. */
export const SCHEMA_VERSION = 1

export const JOB_STATES = ['queued', 'sent', 'running', 'indexed', 'erased', 'skipped', 'failed'] as const
export const OPEN_STATES: readonly JobState[] = ['queued', 'sent', 'running']
export const RUN_STATES = ['in_progress', 'completed', 'failed'] as const
export const COLLECTION_STATES = ['missing', 'ready', 'closing', 'deleted'] as const

export type JobState = (typeof JOB_STATES)[number]
export type RunState = (typeof RUN_STATES)[number]
export type CollectionState = (typeof COLLECTION_STATES)[number]

/** An argument: its Postgres type, and the type of the values that it takes. */
export interface Argument<T> {
  readonly type: string
  readonly optional: boolean
  /** Carries the type; never there. */
  readonly value?: T
}

const of = <T>(type: string): Argument<T> => ({ type, optional: false })
const optional = <T>({ type }: Argument<T>): Argument<T | null | undefined> => ({ type, optional: true })
const json = <T>() => of<T>('jsonb')
const uuid = of<string>('uuid')
const uuids = of<string[]>('uuid[]')
const text = of<string>('text')
const texts = of<string[]>('text[]')
const integer = of<number>('integer')
const number = of<number>('double precision')
const boolean = of<boolean>('boolean')
const timestamp = of<string>('timestamp with time zone')

// Each schema costs time in a cold start. So those without members are made once; and what only the operator's commands read, when it
// is first read (z.lazy).
const string = z.string()
const strings = z.array(string)
const stringOrNull = z.nullable(string)
const figure = z.number()
const figureOrNull = z.nullable(figure)
const flag = z.boolean()
const jobState = z.enum(JOB_STATES)
const collectionState = z.enum(COLLECTION_STATES)
const id = string
const counts = z.record(string, figure)
const attendee = z.object({ event_id: id, user_id: id })
const jobRef = z.extend(attendee, { version: figure })
const pace = z.object({ first_ms: figure, every_ms: figure })

/** Slots for IndexFaces calls: the first begins in `first_ms`, the others follow every `every_ms`. */
export type Slots = z.output<typeof pace>

const leasedJob = z.extend(jobRef, {
  action: z.enum(['act', 'none', 'wait']),
  wait_seconds: figureOrNull,
  photo_key: stringOrNull,
  reason: stringOrNull,
  face_id: stringOrNull,
  face_key: stringOrNull,
  face_etag: stringOrNull,
  may_stay: flag,
  refused: stringOrNull,
  obsolete_face_ids: strings,
  needs_listing: flag,
  missing_seconds: figureOrNull,
  unanswered: figure,
})

/** What one attendee needs now. */
export type LeasedJob = z.output<typeof leasedJob>

/** What a worker did for one attendee. */
export interface Result extends Attendee {
  outcome: 'indexed' | 'erased' | 'skipped' | 'retry' | 'later' | 'unclear' | 'photo_missing'
  photo_key: string | null
  photo_etag: string | null
  face_id: string | null
  obsolete_face_ids: string[]
  needs_listing: boolean
  refused: string | null
  reason: string | null
  error: string | null
  index_calls: number
  /** Faces that DeleteFaces has deleted, or found gone. */
  faces_deleted: number
}

const next = z.extend(jobRef, { next: z.enum(['done', 'retry', 'again']) })
export type Next = z.output<typeof next>

export interface CollectionResult {
  event_id: string
  result: 'created' | 'exists' | 'deleted' | 'failed'
  error?: string
}

export interface DeadLetter {
  message_id: string
  body: string
  /** SQS's own attributes of the message. */
  attributes: Record<string, string | undefined>
  problem: string
}

/** The faces that a collection holds of one attendee. */
export interface ListedFaces {
  user_id: string
  face_ids: string[]
}

const sendBatch = z.object({
  send_batch: figureOrNull,
  jobs: z.array(z.extend(jobRef, { urgent: flag })),
  left: figure,
})
export type SendBatch = z.output<typeof sendBatch>

const reconciled = z.object({
  through: stringOrNull,
  extra: figure,
  missing: figure,
  doubled: figure,
  unnoticed: figure,
  photos: z.array(z.object({ user_id: id, photo_key: string, photo_etag: stringOrNull })),
  who: z.array(z.object({ user_id: id, difference: string })),
})
export type Reconciled = z.output<typeof reconciled>

const differences = {
  extra: figure,
  missing: figure,
  doubled: figure,
  unnoticed: figure,
  stale_photos: figure,
}
/** How many attendees of an event differed from what they should be, by kind. */
export type Differences = z.output<z.ZodMiniObject<typeof differences>>

const drift = z.object({ at: string, ...differences, recreated: flag })
/** What one reconcile of an event has found and put right. */
export type Drift = z.output<typeof drift>

const forecast = z.object({
  tps: figure,
  rate: figure,
  events: z.array(
    z.object({
      event_id: id,
      starts_at: string,
      open: figure,
      done_at: string,
      late: flag,
      paused: flag,
    }),
  ),
})
export type Forecast = z.output<typeof forecast>

const progress = z.lazy(() =>
  z.array(
    z.object({
      event_id: id,
      name: stringOrNull,
      status: stringOrNull,
      starts_at: string,
      ends_at: string,
      state: z.enum(RUN_STATES),
      reason: stringOrNull,
      collection: collectionState,
      collection_error: stringOrNull,
      claimed_at: string,
      settled_at: stringOrNull,
      reconciled_at: stringOrNull,
      jobs: z.partialRecord(jobState, figure),
      skipped: counts,
      failed: counts,
      open: counts,
      index_calls: figure,
      oldest_open: stringOrNull,
      last_ended: stringOrNull,
      ended_lately: figure,
      paused: z.nullable(z.enum(['event', 'everything'])),
    }),
  ),
)
export type Progress = z.output<typeof progress>[number]

const unclaimed = z.lazy(() =>
  z.array(
    z.object({
      event_id: id,
      name: stringOrNull,
      status: stringOrNull,
      starts_at: stringOrNull,
      active: flag,
      paused: z.nullable(z.enum(['event', 'everything'])),
      attendees: figure,
      held_by: z.nullable(z.object({ pid: figureOrNull, role: stringOrNull, since: stringOrNull })),
    }),
  ),
)
export type Unclaimed = z.output<typeof unclaimed>[number]

const jobFields = {
  state: jobState,
  reason: stringOrNull,
  error: stringOrNull,
  attempts: figure,
  index_calls: figure,
  face_id: stringOrNull,
  photo_key: stringOrNull,
}
const job = z.lazy(() => z.object({ user_id: id, ...jobFields }))
export type Job = z.output<typeof job>

const rehearsed = z.lazy(() =>
  z.object({
    user_id: id,
    photo_key: stringOrNull,
    reason: stringOrNull,
  }),
)
/** What the app wants of an attendee who consents: the face of a photo, or the reason for none. */
export type Rehearsed = z.output<typeof rehearsed>

const attendeeJob = z.lazy(() =>
  z.object({
    ...jobFields,
    event_id: id,
    starts_at: string,
    version: figure,
    queued_at: string,
    ended_at: stringOrNull,
    look_again_at: stringOrNull,
    desired_reason: stringOrNull,
    history: z.array(
      z.object({
        at: string,
        outcome: string,
        reason: z.optional(string),
        error: z.optional(string),
      }),
    ),
  }),
)
export type AttendeeJob = z.output<typeof attendeeJob>

const keptLetter = z.lazy(() =>
  z.object({
    message_id: string,
    received_at: string,
    problem: string,
    body: string,
    attributes: z.record(string, z.unknown()),
  }),
)
export type KeptLetter = z.output<typeof keptLetter>

const erasureFields = {
  event_id: id,
  /** Null: all attendees of the event, with its collection. */
  user_id: stringOrNull,
  reason: z.enum(['consent', 'profile', 'event', 'found', 'request']),
  noted_at: string,
  faces: figure,
  deleted_at: stringOrNull,
  verified_at: stringOrNull,
  wanted_again_at: stringOrNull,
}
const openErasure = z.lazy(() =>
  z.object({
    ...erasureFields,
    state: z.nullable(jobState),
    error: stringOrNull,
  }),
)
const receipt = z.lazy(() =>
  z.object({
    ...erasureFields,
    position: figure,
    sealed_at: string,
    /** What `hash` is made of, after the bytes of `previous`. */
    text: string,
    previous: string,
    hash: string,
  }),
)
/** An erasure whose proof is not complete. */
export type OpenErasure = z.output<typeof openErasure>
/** The proof of an erasure, a link of the chain. */
export type Receipt = z.output<typeof receipt>
const pauses = z.lazy(() => z.array(z.object({ event_id: stringOrNull, since: string })))

const action = z.lazy(() =>
  z.object({
    id: figure,
    at: string,
    actor: string,
    action: string,
    event_id: stringOrNull,
    user_id: stringOrNull,
    note: stringOrNull,
    touched: figureOrNull,
  }),
)
/** What an operator has done. */
export type OperatorAction = z.output<typeof action>

const health = z.object({
  failed_jobs: figure,
  failed_events: figure,
  collections_failing: figure,
  overdue_events: figure,
  erasure_age: figure,
  unproven_age: figure,
  change_age: figure,
  full_changes: figure,
})
export type Health = z.output<typeof health>

/** What is there in the database: see `doctor.sql`. */
const doctor = z.lazy(() =>
  z.object({
    now: string,
    misfits: strings,
    triggers: z.array(
      z.object({
        table: string,
        trigger: string,
        state: z.enum(['enabled', 'disabled', 'missing']),
      }),
    ),
    exposed: strings,
    withheld: strings,
    pg_net: flag,
    nudge_url: stringOrNull,
    nudge_secret: z.nullable(flag),
    nudged_at: stringOrNull,
    last_run_tps: figure,
  }),
)
export type DoctorAnswer = z.output<typeof doctor>

/** The functions by their names without the prefix `indexing_`. */
export const CONTRACT = {
  schema_version: { args: {}, answer: figure },
  start_run: {
    args: {
      tps: number,
      max_failed_share: number,
      cleanup_after_hours: optional(number),
      collection_prefix: optional(text),
      photo_bucket: optional(text),
      several_faces: optional(text),
      convert_photos: optional(boolean),
    },
    answer: z.object({ schema_version: figure }),
  },
  claim: {
    args: { window_minutes: number },
    answer: z.object({ events: strings, locked: strings }),
  },
  fan_out: { args: { page: optional(integer) }, answer: z.object({ jobs: figure, more: flag }) },
  process_changes: {
    args: { erasing: boolean, page: optional(integer) },
    answer: z.object({ jobs: figure, more: flag }),
  },
  note_photos: { args: { photo_keys: texts }, answer: figure },
  collections_due: {
    args: { page: integer },
    answer: z.object({ create: strings, delete: strings }),
  },
  collections_done: {
    args: { results: json<CollectionResult[]>(), quiet_seconds: number },
    answer: z.record(id, collectionState),
  },
  may_create_collection: { args: { event: uuid }, answer: flag },
  take_send_batch: {
    args: {
      page: integer,
      work_cap: integer,
      urgent_cap: integer,
      sent: optional(of<number>('bigint')),
      unsent: optional(json<Attendee[]>()),
    },
    answer: sendBatch,
  },
  lease: {
    args: { messages: json<JobRef[]>(), token: uuid, lease_seconds: number },
    answer: z.object({ jobs: z.array(leasedJob), pace }),
  },
  refresh: {
    args: { jobs: json<Attendee[]>(), slots: integer, throttled: boolean },
    answer: z.object({ jobs: z.array(z.extend(attendee, { photo_key: stringOrNull })), pace }),
  },
  complete: {
    args: {
      token: uuid,
      results: json<Result[]>(),
      throttled: boolean,
      quiet_seconds: number,
      grace_seconds: number,
    },
    answer: z.array(next),
  },
  fail_dead_letters: {
    args: { letters: json<JobRef[]>() },
    answer: z.object({ failed: figure, requeued: figure }),
  },
  keep_dead_letters: { args: { letters: json<DeadLetter[]>() }, answer: figure },
  rescue: {
    args: { lost_after_seconds: number, batch_seconds: number },
    answer: z.object({ jobs: figure, failed: figure, looked_again: figure }),
  },
  reconcile_due: {
    args: { page: integer, event: optional(uuid), look: optional(boolean) },
    answer: z.array(z.object({ event_id: id, as_of: string })),
  },
  reconcile: {
    args: {
      event: uuid,
      as_of: timestamp,
      after: of<string | null>('uuid'),
      through: of<string | null>('uuid'),
      faces: json<ListedFaces[]>(),
      lag_seconds: number,
      repair: optional(boolean),
      page: optional(integer),
    },
    answer: reconciled,
  },
  reconcile_done: {
    args: { event: uuid, as_of: timestamp, differences: optional(json<Omit<Drift, 'at'>>()) },
    answer: flag,
  },
  drift: { args: { event: uuid, page: optional(integer) }, answer: z.array(drift) },
  open_collections: { args: { after: optional(uuid), page: optional(integer) }, answer: strings },
  deployment: {
    args: {},
    answer: z.object({
      collection_prefix: stringOrNull,
      photo_bucket: stringOrNull,
      several_faces: z.nullable(z.enum(['skip', 'largest'])),
      convert_photos: z.nullable(flag),
    }),
  },
  cleanup: {
    args: { page: integer },
    answer: z.object({
      closing: figure,
      completed: figure,
      found: figure,
      more: flag,
    }),
  },
  prune: {
    args: { keep_days: number, receipt_days: number, page: integer },
    answer: z.object({
      jobs: figure,
      runs: figure,
      letters: figure,
      receipts: figure,
      more: flag,
    }),
  },
  seal_receipts: {
    args: { page: integer },
    answer: z.object({
      sealed: figure,
      seconds: z.array(figure),
      position: figure,
      hash: string,
      more: flag,
    }),
  },
  verify_receipts: {
    args: { after: optional(of<number>('bigint')), previous: optional(text), page: optional(integer) },
    answer: z.lazy(() =>
      z.object({
        through: figure,
        hash: string,
        broken_at: figureOrNull,
        more: flag,
      }),
    ),
  },
  receipts: {
    args: {
      attendee: optional(uuid),
      event: optional(uuid),
      before: optional(of<number>('bigint')),
      page: optional(integer),
    },
    answer: z.lazy(() => z.object({ open: z.array(openErasure), receipts: z.array(receipt) })),
  },
  erase_attendee: {
    args: { attendee: uuid, event: optional(uuid), act: optional(boolean) },
    answer: z.lazy(() =>
      z.object({
        events: z.array(z.object({ event_id: id, state: jobState, face: flag, wanted: flag })),
        queued: figure,
      }),
    ),
  },
  erase_event: {
    args: { event: uuid, act: optional(boolean) },
    answer: z.lazy(() =>
      z.nullable(
        z.object({
          collection: collectionState,
          attendees: figure,
          faces: figure,
          held: flag,
          more: flag,
        }),
      ),
    ),
  },
  orphans_due: { args: {}, answer: flag },
  orphans: { args: { events: uuids }, answer: strings },
  replay: {
    args: {
      event: optional(uuid),
      attendee: optional(uuid),
      why: optional(text),
      dry_run: optional(boolean),
      after: optional(json<Attendee>()),
      page: optional(integer),
    },
    answer: z.lazy(() =>
      z.object({
        jobs: figure,
        events: strings,
        held: strings,
        last: z.nullable(attendee),
      }),
    ),
  },
  progress: { args: { events: optional(uuids) }, answer: progress },
  jobs: {
    args: { event: uuid, states: optional(texts), after: optional(uuid), page: optional(integer) },
    answer: z.array(job),
  },
  rehearsal: {
    args: { event: uuid, after: optional(uuid), page: optional(integer) },
    answer: z.array(rehearsed),
  },
  attendee: { args: { attendee: uuid, event: optional(uuid) }, answer: z.array(attendeeJob) },
  forecast: { args: {}, answer: forecast },
  unclaimed: { args: { events: optional(uuids) }, answer: unclaimed },
  dead_letters: {
    args: { before_at: optional(timestamp), before_id: optional(text), page: optional(integer) },
    answer: z.lazy(() => z.object({ total: figure, letters: z.array(keptLetter) })),
  },
  acknowledge_dead_letters: { args: { messages: optional(texts) }, answer: figure },
  find_jobs: { args: { event: uuid, wanted: text, name_column: optional(text) }, answer: z.array(job) },
  names: { args: { attendees: uuids, name_column: text }, answer: z.record(id, string) },
  pause: { args: { event: optional(uuid) }, answer: flag },
  resume: { args: { event: optional(uuid) }, answer: figure },
  pauses: { args: {}, answer: pauses },
  note_action: {
    args: {
      actor: text,
      action: text,
      event: optional(uuid),
      attendee: optional(uuid),
      note: optional(text),
      touched: optional(integer),
      id: optional(uuid),
    },
    answer: flag,
  },
  actions: {
    args: { event: optional(uuid), before: optional(of<number>('bigint')), page: optional(integer) },
    answer: z.array(action),
  },
  curve: {
    args: { event: uuid, points: optional(integer) },
    answer: z.lazy(() => z.array(z.object({ at: string, ended: figure }))),
  },
  health: { args: { window_minutes: number }, answer: health },
  doctor: { args: { nudge_digest: optional(text) }, answer: doctor },
  begin_nudged_run: { args: { run_seconds: number }, answer: flag },
  end_nudged_run: { args: {}, answer: flag },
} as const satisfies Record<string, { args: Record<string, Argument<unknown>>; answer: z.ZodMiniType }>

export type FunctionName = keyof typeof CONTRACT

type ArgumentsOf<A extends Record<string, Argument<unknown>>> = {
  [Name in keyof A as undefined extends ValueOf<A[Name]> ? never : Name]: ValueOf<A[Name]>
} & {
  [Name in keyof A as undefined extends ValueOf<A[Name]> ? Name : never]?: ValueOf<A[Name]>
}
type ValueOf<A> = A extends Argument<infer T> ? T : never

/** The arguments that a function takes. */
export type Arguments<Name extends FunctionName> = ArgumentsOf<(typeof CONTRACT)[Name]['args']>
/** What a function answers. */
export type Answer<Name extends FunctionName> = z.output<(typeof CONTRACT)[Name]['answer']>
