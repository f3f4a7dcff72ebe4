import type { WebSocketLikeConstructor } from '@supabase/supabase-js'
import { createClient } from '@supabase/supabase-js'
import * as z from 'zod'
import type { Attendee, JobRef } from './message.ts'
import { pause } from './time.ts'

/** A call of a database function failed. `code` is Postgres's or PostgREST's, '' when no answer came. */
export class DatabaseError extends Error {
  override name = 'DatabaseError'
  readonly code: string

  constructor(call: string, code: string, message: string) {
    super(`database function ${call}: ${message}${code ? ` (${code})` : ''}`)
    this.code = code
  }

  /** Whether the same call may succeed a moment later: no answer, overload, a conflict with another transaction. */
  get passing(): boolean {
    return /^(|5\d\d|08...|40001|40P01|53...|55P03|57...|PGRST00[0-3])$/.test(this.code)
  }
}

const id = z.string()
const jobRef = z.object({ event_id: id, user_id: id, version: z.number() })

const pageAnswer = z.object({
  token: z.string().nullable(),
  jobs: z.array(jobRef),
  room: z.number(),
  left: z.number(),
})

const task = jobRef.extend({
  action: z.enum(['index', 'erase', 'none']),
  photo: z.string().nullable(),
  faces: z.array(z.string()).nullable(),
  keep: z.string().nullable(),
  list: z.boolean(),
  refused: z.string().nullable(),
})
const slots = z.object({ first_ms: z.number(), every_ms: z.number() })
const beginAnswer = z.object({ jobs: z.array(task), pace: slots })

/** What one attendee needs now; see `indexing_begin` in supabase/migrations for each field. */
export type Task = z.output<typeof task>
export type Page = z.output<typeof pageAnswer>

/** What came of one attendee; see `indexing_finish` in supabase/migrations for each field. */
export interface Result extends Attendee {
  outcome: 'indexed' | 'erased' | 'skipped' | 'failed' | 'retry' | 'later' | 'unclear'
  photo: string | null
  face_id: string | null
  faces: string[]
  certain: boolean
  reason: string | null
  error: string | null
  calls: number
}

/** See `indexing_forecast` in supabase/migrations. */
export const forecastAnswer = z.object({
  tps: z.number(),
  rate: z.number(),
  events: z.array(
    z.object({
      event_id: id,
      starts_at: z.string(),
      open: z.number(),
      done_at: z.string(),
      late: z.boolean(),
    }),
  ),
})

export type Forecast = z.output<typeof forecastAnswer>

const next = jobRef.extend({ next: z.enum(['ended', 'retry', 'later', 'again', 'lost']) })
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

/** No call that was under way when its maker gave up can still land after this. */
export const QUIET_SECONDS = 30

const CALL_TIMEOUT_MS = 10_000 // above the API's statement timeout of 8 s
const RETRY_AFTER_MS = [100, 400, 1000]
const PERSIST_AFTER_MS = 2000

/**
 * Calls a database function by its name; its answer has been checked against the schema.
 * @param persist whether to go on trying, for as long as it says so, when a caller who gives up loses what it has done
 */
export type Call = <T>(
  name: string,
  args: object,
  answer: z.ZodType<T>,
  persist?: () => boolean,
) => Promise<T>

/**
 * Connects to the project's API as `service_role`. The functions are safe to call twice: a call that got no answer is tried
 * again, up to three times within about 1.5 s and the time that the calls themselves take. Throws {@link DatabaseError}.
 */
export function connectApi(url: string, serviceRoleKey: string): Call {
  const client = createClient(url, serviceRoleKey, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    // Node 20 has no WebSocket, without which the client refuses to be made. Realtime is not used here.
    realtime: { transport: class {} as unknown as WebSocketLikeConstructor },
    global: {
      fetch: (input, init) => fetch(input, { ...init, signal: AbortSignal.timeout(CALL_TIMEOUT_MS) }),
    },
  })

  return async (name, args, answer, persist = () => false) => {
    for (let attempt = 0; ; attempt++) {
      const { data, error, status } = await client.rpc(name, args)
      if (!error) return answer.parse(data)
      const failure = new DatabaseError(name, error.code || (status ? String(status) : ''), error.message)
      const wait = RETRY_AFTER_MS[attempt] ?? (persist() ? PERSIST_AFTER_MS : undefined)
      if (!failure.passing || wait === undefined) throw failure
      await pause(wait * (0.5 + Math.random()))
    }
  }
}

/** The functions that the scheduler, the worker and the finalizer call, each an atomic step of its own. */
export function connectDatabase(url: string, serviceRoleKey: string) {
  const call = connectApi(url, serviceRoleKey)
  return {
    claim: (windowMinutes: number, tps: number) =>
      call('indexing_claim', { window_minutes: windowMinutes, tps }, z.object({ events: z.array(id) })),

    absorb: (page: number) =>
      call(
        'indexing_absorb',
        { page },
        z.object({ changes: z.number(), jobs: z.number(), more: z.boolean() }),
      ),

    expand: (page: number) =>
      call('indexing_expand', { page }, z.object({ jobs: z.number(), more: z.boolean() })),

    collections: (page: number) =>
      call('indexing_collections', { page }, z.object({ create: z.array(id), delete: z.array(id) })),

    foundFaces: (event: string, users: string[]) =>
      call('indexing_found_faces', { event, users }, z.unknown()),

    /** Returns how each run's collection stands now: an event may have been deleted while its collection was made. */
    collectionsDone: (results: CollectionResult[]) =>
      call(
        'indexing_collections_done',
        { results, quiet_seconds: QUIET_SECONDS * 4 },
        z.record(id, z.enum(['missing', 'ready', 'closing', 'closing_again', 'deleted'])),
      ),

    nextPage: (
      page: number,
      inFlight: number,
      room: number | null = null,
      sent: string | null = null,
      unsent: Attendee[] = [],
    ) => call('indexing_next_page', { page, in_flight: inFlight, room, sent, unsent }, pageAnswer),

    begin: (messages: JobRef[], token: string, leaseSeconds: number, tps: number) =>
      call('indexing_begin', { messages, token, lease_seconds: leaseSeconds, tps }, beginAnswer),

    finish: (token: string, results: Result[], throttled: boolean, tps: number, persist?: () => boolean) =>
      call(
        'indexing_finish',
        { token, results, throttled, quiet_seconds: QUIET_SECONDS, tps },
        z.array(next),
        persist,
      ),

    /** Says that Rekognition throttled, and asks for new slots. */
    throttled: (count: number, tps: number) => call('indexing_throttled', { slots: count, tps }, slots),

    forecast: async (tps: number) => (await call('indexing_forecast', { tps }, forecastAnswer)).events,

    bury: (letters: JobRef[]) =>
      call('indexing_bury', { letters }, z.object({ failed: z.number(), requeued: z.number() })),

    keepDeadLetters: (letters: DeadLetter[]) => call('indexing_keep_dead_letters', { letters }, z.number()),

    /** Whether to run now; if not, a run is under way and looks again when it ends. */
    beginNudgedRun: (runSeconds: number) =>
      call('indexing_begin_nudged_run', { run_seconds: runSeconds }, z.boolean()),

    /** Whether a nudge came during the run, which then goes on. */
    endNudgedRun: () => call('indexing_end_nudged_run', {}, z.boolean()),

    sweep: (lostAfterSeconds: number) =>
      call(
        'indexing_sweep',
        { lost_after_seconds: lostAfterSeconds },
        z.object({ jobs: z.number(), failed: z.number() }),
      ),
  }
}

export type Database = ReturnType<typeof connectDatabase>
