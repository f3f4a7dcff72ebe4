import * as z from 'zod'
import type { Attendee, JobRef } from './message.ts'

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
const jobRef = attendee.extend({ version: z.number() })
const pace = z.object({ first_ms: z.number(), every_ms: z.number() })

/** Slots for IndexFaces calls: the first begins in `first_ms`, the others follow every `every_ms`. */
export type Slots = z.output<typeof pace>

const leasedJob = jobRef.extend({
  action: z.enum(['act', 'none', 'wait']),
  wait_seconds: z.number().nullable(),
  photo_key: z.string().nullable(),
  reason: z.string().nullable(),
  face_id: z.string().nullable(),
  face_key: z.string().nullable(),
  face_etag: z.string().nullable(),
  may_stay: z.boolean(),
  refused: z.string().nullable(),
  obsolete_face_ids: z.array(z.string()),
  needs_listing: z.boolean(),
  missing_seconds: z.number().nullable(),
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
}

const next = jobRef.extend({ next: z.enum(['done', 'retry', 'again']) })
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
  send_batch: z.number().nullable(),
  jobs: z.array(jobRef.extend({ urgent: z.boolean() })),
  left: z.number(),
})
export type SendBatch = z.output<typeof sendBatch>

const reconciled = z.object({
  extra: z.number(),
  missing: z.number(),
  doubled: z.number(),
  unnoticed: z.number(),
  photos: z.array(z.object({ user_id: id, photo_key: z.string(), photo_etag: z.string().nullable() })),
})
export type Reconciled = z.output<typeof reconciled>

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
    name: z.string().nullable(),
    status: z.string().nullable(),
    starts_at: z.string(),
    ends_at: z.string(),
    state: z.enum(RUN_STATES),
    reason: z.string().nullable(),
    collection: z.enum(COLLECTION_STATES),
    collection_error: z.string().nullable(),
    claimed_at: z.string(),
    settled_at: z.string().nullable(),
    reconciled_at: z.string().nullable(),
    jobs: z.partialRecord(z.enum(JOB_STATES), z.number()),
    skipped: counts,
    failed: counts,
    open: counts,
    index_calls: z.number(),
    oldest_open: z.string().nullable(),
    last_ended: z.string().nullable(),
    ended_lately: z.number(),
    paused: z.enum(['event', 'everything']).nullable(),
  }),
)
export type Progress = z.output<typeof progress>[number]

const unclaimed = z.array(
  z.object({
    event_id: id,
    name: z.string().nullable(),
    status: z.string().nullable(),
    starts_at: z.string().nullable(),
    active: z.boolean(),
    paused: z.enum(['event', 'everything']).nullable(),
    attendees: z.number(),
  }),
)
export type Unclaimed = z.output<typeof unclaimed>[number]

const job = z.object({
  user_id: id,
  state: z.enum(JOB_STATES),
  reason: z.string().nullable(),
  error: z.string().nullable(),
  attempts: z.number(),
  index_calls: z.number(),
  face_id: z.string().nullable(),
  photo_key: z.string().nullable(),
})
export type Job = z.output<typeof job>

const attempt = z.object({
  at: z.string(),
  outcome: z.string(),
  reason: z.string().optional(),
  error: z.string().optional(),
})
const attendeeJob = job
  .extend({
    event_id: id,
    starts_at: z.string(),
    version: z.number(),
    queued_at: z.string(),
    ended_at: z.string().nullable(),
    look_again_at: z.string().nullable(),
    desired_reason: z.string().nullable(),
    history: z.array(attempt),
  })
  .omit({ user_id: true })
export type AttendeeJob = z.output<typeof attendeeJob>

const keptLetter = z.object({
  message_id: z.string(),
  received_at: z.string(),
  problem: z.string(),
  body: z.string(),
  attributes: z.record(z.string(), z.unknown()),
})
export type KeptLetter = z.output<typeof keptLetter>

const pauses = z.array(z.object({ event_id: id.nullable(), since: z.string() }))

const health = z.object({
  failed_jobs: z.number(),
  failed_events: z.number(),
  collections_failing: z.number(),
  overdue_events: z.number(),
  erasure_age: z.number(),
  change_age: z.number(),
  full_changes: z.number(),
})
export type Health = z.output<typeof health>

/** The functions by their names without the prefix `indexing_`. */
export const CONTRACT = {
  schema_version: { args: {}, answer: z.number() },
  start_run: {
    args: { tps: number, max_failed_share: number },
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
    answer: z.object({ jobs: z.array(attendee.extend({ photo_key: z.string().nullable() })), pace }),
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
    args: { page: integer, event: optional(uuid) },
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
    },
    answer: reconciled,
  },
  reconcile_done: { args: { event: uuid, as_of: timestamp }, answer: z.boolean() },
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
  health: { args: { window_minutes: number }, answer: health },
  begin_nudged_run: { args: { run_seconds: number }, answer: z.boolean() },
  end_nudged_run: { args: {}, answer: z.boolean() },
} as const satisfies Record<string, { args: Record<string, Argument<unknown>>; answer: z.ZodType }>

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
