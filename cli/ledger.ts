import * as z from 'zod'
import { connectApi, connectDatabase, forecastAnswer } from '../src/core/database.ts'

const time = z.string()
const counts = z.record(z.string(), z.number())

const progress = z.object({
  event_id: z.string(),
  name: z.string().nullable(),
  status: z.string().nullable(),
  starts_at: time,
  state: z.enum(['in_progress', 'completed', 'failed']),
  reason: z.string().nullable(),
  collection: z.enum(['missing', 'ready', 'closing', 'closing_again', 'deleted']),
  collection_error: z.string().nullable(),
  claimed_at: time,
  settled_at: time.nullable(),
  jobs: counts,
  skipped: counts,
  failed: counts,
  index_calls: z.number(),
  oldest_open: time.nullable(),
})

const unclaimed = z.object({
  event_id: z.string(),
  name: z.string().nullable(),
  status: z.string().nullable(),
  starts_at: time.nullable(),
  active: z.boolean(),
  attendees: z.number(),
})

const job = z.object({
  user_id: z.string(),
  state: z.enum(['queued', 'sent', 'running', 'indexed', 'erased', 'skipped', 'failed']),
  reason: z.string().nullable(),
  error: z.string().nullable(),
  attempts: z.number(),
  index_calls: z.number(),
  face_id: z.string().nullable(),
})

const replayed = z.object({ jobs: z.number(), events: z.array(z.string()), held: z.array(z.string()) })

const deadLetter = z.object({
  message_id: z.string(),
  received_at: time,
  problem: z.string(),
  body: z.string(),
  attributes: z.record(z.string(), z.unknown()),
})
const deadLetters = z.object({ total: z.number(), letters: z.array(deadLetter) })

/** See the functions in supabase/migrations for what each field means. */
export type Progress = z.output<typeof progress>
export type Unclaimed = z.output<typeof unclaimed>
export type Job = z.output<typeof job>
export type DeadLetter = z.output<typeof deadLetter>

/** What is to be replayed: of this event, of this attendee, for this reason; nulls: of all. */
export interface ReplayRequest {
  event: string | null
  attendee: string | null
  why: string | null
}

const PAGE = 1000

/** The ledger as an operator sees it. All throw `DatabaseError`. */
export function connectLedger(url: string, serviceRoleKey: string) {
  const call = connectApi(url, serviceRoleKey)
  const { nextPage } = connectDatabase(url, serviceRoleKey)

  return {
    /** How claimed events stand: these, or all that are in progress or start later than a day ago. */
    progress: (events: string[] | null) => call('indexing_progress', { events }, z.array(progress)),

    /** Events that are not claimed: these, or all that wait for it around now. */
    unclaimed: (events: string[] | null) => call('indexing_unclaimed', { events }, z.array(unclaimed)),

    /** All jobs of an event that are in one of these states, or in any. */
    async jobs(event: string, states: Job['state'][] | null): Promise<Job[]> {
      const jobs: Job[] = []
      for (;;) {
        const after = jobs.at(-1)?.user_id ?? null
        const next = await call('indexing_jobs', { event, states, after, page: PAGE }, z.array(job))
        jobs.push(...next)
        if (next.length < PAGE) return jobs
      }
    },

    replay: (request: ReplayRequest) => call('indexing_replay', request, replayed),

    /** The messages kept by the finalizer, the latest first: at most so many, and how many there are in all. */
    async deadLetters(limit: number): Promise<{ total: number; letters: DeadLetter[] }> {
      const letters: DeadLetter[] = []
      for (;;) {
        const last = letters.at(-1)
        const before = { before_at: last?.received_at ?? null, before_id: last?.message_id ?? null }
        const next = await call('indexing_dead_letters', before, deadLetters)
        letters.push(...next.letters)
        if (next.letters.length === 0 || letters.length >= limit)
          return { total: next.total, letters: letters.slice(0, limit) }
      }
    },

    /** When events will be ready, at so many IndexFaces calls a second; null: at as many as the scheduler said last. */
    forecast: (tps: number | null) => call('indexing_forecast', { tps }, forecastAnswer),

    nextPage,
  }
}

export type Ledger = ReturnType<typeof connectLedger>
