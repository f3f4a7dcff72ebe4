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

const id = z.string()
const counts = z.record(z.string(), z.number())
const attendee = z.object({ event_id: id, user_id: id })
const jobRef = z.extend(attendee, { version: z.number() })
const pace = z.object({ first_ms: z.number(), every_ms: z.number() })

/** Slots for IndexFaces calls: the first begins in `first_ms`, the others follow every `every_ms`. */
export type Slots = z.output<typeof pace>

const leasedJob = z.extend(jobRef, {
  action: z.enum(['act', 'none', 'wait']),
  wait_seconds: z.nullable(z.number()),
  photo_key: z.nullable(z.string()),
  reason: z.nullable(z.string()),
  face_id: z.nullable(z.string()),
  face_key: z.nullable(z.string()),
  face_etag: z.nullable(z.string()),
  may_stay: z.boolean(),
  refused: z.nullable(z.string()),
  obsolete_face_ids: z.array(z.string()),
  needs_listing: z.boolean(),
  missing_seconds: z.nullable(z.number()),
  unanswered: z.number(),
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
  send_batch: z.nullable(z.number()),
  jobs: z.array(z.extend(jobRef, { urgent: z.boolean() })),
  left: z.number(),
})
export type SendBatch = z.output<typeof sendBatch>

const reconciled = z.object({
  through: z.nullable(z.string()),
  extra: z.number(),
  missing: z.number(),
  doubled: z.number(),
  unnoticed: z.number(),
  photos: z.array(z.object({ user_id: id, photo_key: z.string(), photo_etag: z.nullable(z.string()) })),
  who: z.array(z.object({ user_id: id, difference: z.string() })),
})
export type Reconciled = z.output<typeof reconciled>

const differences = {
  extra: z.number(),
  missing: z.number(),
  doubled: z.number(),
  unnoticed: z.number(),
  stale_photos: z.number(),
}
/** How many attendees of an event differed from what they should be, by kind. */
export type Differences = z.output<z.ZodMiniObject<typeof differences>>

const drift = z.object({ at: z.string(), ...differences, recreated: z.boolean() })
/** What one reconcile of an event has found and put right. */
export type Drift = z.output<typeof drift>

const forecast = z.object({
  tps: z.number(),
  rate: z.number(),
  events: z.array(
    z.object({
      event_id: id,
      starts_at: z.string(),
      open: z.number(),
      done_at: z.string(),
      late: z.boolean(),
      paused: z.boolean(),
    }),
  ),
})
export type Forecast = z.output<typeof forecast>

const progress = z.array(
  z.object({
    event_id: id,
    name: z.nullable(z.string()),
    status: z.nullable(z.string()),
    starts_at: z.string(),
    ends_at: z.string(),
    state: z.enum(RUN_STATES),
    reason: z.nullable(z.string()),
    collection: z.enum(COLLECTION_STATES),
    collection_error: z.nullable(z.string()),
    claimed_at: z.string(),
    settled_at: z.nullable(z.string()),
    reconciled_at: z.nullable(z.string()),
    jobs: z.partialRecord(z.enum(JOB_STATES), z.number()),
    skipped: counts,
    failed: counts,
    open: counts,
    index_calls: z.number(),
    oldest_open: z.nullable(z.string()),
    last_ended: z.nullable(z.string()),
    ended_lately: z.number(),
    paused: z.nullable(z.enum(['event', 'everything'])),
  }),
)
export type Progress = z.output<typeof progress>[number]

const unclaimed = z.array(
  z.object({
    event_id: id,
    name: z.nullable(z.string()),
    status: z.nullable(z.string()),
    starts_at: z.nullable(z.string()),
    active: z.boolean(),
    paused: z.nullable(z.enum(['event', 'everything'])),
    attendees: z.number(),
    held_by: z.nullable(
      z.object({ pid: z.nullable(z.number()), role: z.nullable(z.string()), since: z.nullable(z.string()) }),
    ),
  }),
)
export type Unclaimed = z.output<typeof unclaimed>[number]

const job = z.object({
  user_id: id,
  state: z.enum(JOB_STATES),
  reason: z.nullable(z.string()),
  error: z.nullable(z.string()),
  attempts: z.number(),
  index_calls: z.number(),
  face_id: z.nullable(z.string()),
  photo_key: z.nullable(z.string()),
})
export type Job = z.output<typeof job>

const rehearsed = z.object({
  user_id: id,
  photo_key: z.nullable(z.string()),
  reason: z.nullable(z.string()),
})
/** What the app wants of an attendee who consents: the face of a photo, or the reason for none. */
export type Rehearsed = z.output<typeof rehearsed>

const attempt = z.object({
  at: z.string(),
  outcome: z.string(),
  reason: z.optional(z.string()),
  error: z.optional(z.string()),
})
const attendeeJob = z.extend(z.omit(job, { user_id: true }), {
  event_id: id,
  starts_at: z.string(),
  version: z.number(),
  queued_at: z.string(),
  ended_at: z.nullable(z.string()),
  look_again_at: z.nullable(z.string()),
  desired_reason: z.nullable(z.string()),
  history: z.array(attempt),
})
export type AttendeeJob = z.output<typeof attendeeJob>

const keptLetter = z.object({
  message_id: z.string(),
  received_at: z.string(),
  problem: z.string(),
  body: z.string(),
  attributes: z.record(z.string(), z.unknown()),
})
export type KeptLetter = z.output<typeof keptLetter>

const erasure = z.object({
  event_id: id,
  /** Null: all attendees of the event, with its collection. */
  user_id: z.nullable(id),
  reason: z.enum(['consent', 'profile', 'event', 'found', 'request']),
  noted_at: z.string(),
  faces: z.number(),
  deleted_at: z.nullable(z.string()),
  verified_at: z.nullable(z.string()),
  wanted_again_at: z.nullable(z.string()),
})
const openErasure = z.extend(erasure, {
  state: z.nullable(z.enum(JOB_STATES)),
  error: z.nullable(z.string()),
})
const receipt = z.extend(erasure, {
  position: z.number(),
  sealed_at: z.string(),
  /** What `hash` is made of, after the bytes of `previous`. */
  text: z.string(),
  previous: z.string(),
  hash: z.string(),
})
/** An erasure whose proof is not complete. */
export type OpenErasure = z.output<typeof openErasure>
/** The proof of an erasure, a link of the chain. */
export type Receipt = z.output<typeof receipt>
const pauses = z.array(z.object({ event_id: z.nullable(id), since: z.string() }))

const action = z.object({
  id: z.number(),
  at: z.string(),
  actor: z.string(),
  action: z.string(),
  event_id: z.nullable(id),
  user_id: z.nullable(id),
  note: z.nullable(z.string()),
  touched: z.nullable(z.number()),
})
/** What an operator has done. */
export type OperatorAction = z.output<typeof action>

const health = z.object({
  failed_jobs: z.number(),
  failed_events: z.number(),
  collections_failing: z.number(),
  overdue_events: z.number(),
  erasure_age: z.number(),
  unproven_age: z.number(),
  change_age: z.number(),
  full_changes: z.number(),
})
export type Health = z.output<typeof health>

/** What is there in the database: see `doctor.sql`. */
const doctor = z.object({
  now: z.string(),
  misfits: z.array(z.string()),
  triggers: z.array(
    z.object({
      table: z.string(),
      trigger: z.string(),
      state: z.enum(['enabled', 'disabled', 'missing']),
    }),
  ),
  exposed: z.array(z.string()),
  withheld: z.array(z.string()),
  pg_net: z.boolean(),
  nudge_url: z.nullable(z.string()),
  nudge_secret: z.nullable(z.boolean()),
  nudged_at: z.nullable(z.string()),
  last_run_tps: z.number(),
})
export type DoctorAnswer = z.output<typeof doctor>

/** The functions by their names without the prefix `indexing_`. */
export const CONTRACT = {
  schema_version: { args: {}, answer: z.number() },
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
    answer: z.object({ schema_version: z.number() }),
  },
  claim: {
    args: { window_minutes: number },
    answer: z.object({ events: z.array(id), locked: z.array(id) }),
  },
  fan_out: { args: { page: optional(integer) }, answer: z.object({ jobs: z.number(), more: z.boolean() }) },
  process_changes: {
    args: { erasing: boolean, page: optional(integer) },
    answer: z.object({ jobs: z.number(), more: z.boolean() }),
  },
  note_photos: { args: { photo_keys: texts }, answer: z.number() },
  collections_due: {
    args: { page: integer },
    answer: z.object({ create: z.array(id), delete: z.array(id) }),
  },
  collections_done: {
    args: { results: json<CollectionResult[]>(), quiet_seconds: number },
    answer: z.record(id, z.enum(COLLECTION_STATES)),
  },
  may_create_collection: { args: { event: uuid }, answer: z.boolean() },
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
    answer: z.object({ jobs: z.array(z.extend(attendee, { photo_key: z.nullable(z.string()) })), pace }),
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
    answer: z.object({ failed: z.number(), requeued: z.number() }),
  },
  keep_dead_letters: { args: { letters: json<DeadLetter[]>() }, answer: z.number() },
  rescue: {
    args: { lost_after_seconds: number, batch_seconds: number },
    answer: z.object({ jobs: z.number(), failed: z.number(), looked_again: z.number() }),
  },
  reconcile_due: {
    args: { page: integer, event: optional(uuid), look: optional(boolean) },
    answer: z.array(z.object({ event_id: id, as_of: z.string() })),
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
    answer: z.boolean(),
  },
  drift: { args: { event: uuid, page: optional(integer) }, answer: z.array(drift) },
  open_collections: { args: { after: optional(uuid), page: optional(integer) }, answer: z.array(id) },
  deployment: {
    args: {},
    answer: z.object({
      collection_prefix: z.nullable(z.string()),
      photo_bucket: z.nullable(z.string()),
      several_faces: z.nullable(z.enum(['skip', 'largest'])),
      convert_photos: z.nullable(z.boolean()),
    }),
  },
  cleanup: {
    args: { page: integer },
    answer: z.object({
      closing: z.number(),
      completed: z.number(),
      found: z.number(),
      more: z.boolean(),
    }),
  },
  prune: {
    args: { keep_days: number, receipt_days: number, page: integer },
    answer: z.object({
      jobs: z.number(),
      runs: z.number(),
      letters: z.number(),
      receipts: z.number(),
      more: z.boolean(),
    }),
  },
  seal_receipts: {
    args: { page: integer },
    answer: z.object({
      sealed: z.number(),
      seconds: z.array(z.number()),
      position: z.number(),
      hash: z.string(),
      more: z.boolean(),
    }),
  },
  verify_receipts: {
    args: { after: optional(of<number>('bigint')), previous: optional(text), page: optional(integer) },
    answer: z.object({
      through: z.number(),
      hash: z.string(),
      broken_at: z.nullable(z.number()),
      more: z.boolean(),
    }),
  },
  receipts: {
    args: {
      attendee: optional(uuid),
      event: optional(uuid),
      before: optional(of<number>('bigint')),
      page: optional(integer),
    },
    answer: z.object({ open: z.array(openErasure), receipts: z.array(receipt) }),
  },
  erase_attendee: {
    args: { attendee: uuid, event: optional(uuid), act: optional(boolean) },
    answer: z.object({
      events: z.array(
        z.object({ event_id: id, state: z.enum(JOB_STATES), face: z.boolean(), wanted: z.boolean() }),
      ),
      queued: z.number(),
    }),
  },
  erase_event: {
    args: { event: uuid, act: optional(boolean) },
    answer: z.nullable(
      z.object({
        collection: z.enum(COLLECTION_STATES),
        attendees: z.number(),
        faces: z.number(),
        held: z.boolean(),
        more: z.boolean(),
      }),
    ),
  },
  orphans_due: { args: {}, answer: z.boolean() },
  orphans: { args: { events: uuids }, answer: z.array(id) },
  replay: {
    args: {
      event: optional(uuid),
      attendee: optional(uuid),
      why: optional(text),
      dry_run: optional(boolean),
    },
    answer: z.object({ jobs: z.number(), events: z.array(id), held: z.array(id) }),
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
    answer: z.object({ total: z.number(), letters: z.array(keptLetter) }),
  },
  acknowledge_dead_letters: { args: { messages: optional(texts) }, answer: z.number() },
  find_jobs: { args: { event: uuid, wanted: text, name_column: optional(text) }, answer: z.array(job) },
  names: { args: { attendees: uuids, name_column: text }, answer: z.record(id, z.string()) },
  pause: { args: { event: optional(uuid) }, answer: z.boolean() },
  resume: { args: { event: optional(uuid) }, answer: z.number() },
  pauses: { args: {}, answer: pauses },
  note_action: {
    args: {
      actor: text,
      action: text,
      event: optional(uuid),
      attendee: optional(uuid),
      note: optional(text),
      touched: optional(integer),
    },
    answer: z.boolean(),
  },
  actions: {
    args: { event: optional(uuid), before: optional(of<number>('bigint')), page: optional(integer) },
    answer: z.array(action),
  },
  curve: {
    args: { event: uuid, points: optional(integer) },
    answer: z.array(z.object({ at: z.string(), ended: z.number() })),
  },
  health: { args: { window_minutes: number }, answer: health },
  doctor: { args: { nudge_digest: optional(text) }, answer: doctor },
  begin_nudged_run: { args: { run_seconds: number }, answer: z.boolean() },
  end_nudged_run: { args: {}, answer: z.boolean() },
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
