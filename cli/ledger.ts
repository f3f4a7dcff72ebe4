import type { AttendeeJob, Job, JobState, KeptLetter } from '../src/core/contract.ts'
import { type ApiKey, connectDatabase, requireSchemaVersion } from '../src/core/database.ts'

/** What is to be replayed: of this event, of this attendee, for this reason; nulls: of all. */
export interface ReplayRequest {
  event: string | null
  attendee: string | null
  why: string | null
}

const PAGE = 1000

/** The ledger as an operator sees it. All throw `DatabaseError`. */
export function connectLedger(url: string, apiKey: ApiKey) {
  const database = connectDatabase(url, apiKey)

  return {
    /** All functions, for what works on collections by itself. */
    database,

    /** @throws {SchemaVersionError} when the database is of another release than this program */
    requireSchemaVersion: async () => requireSchemaVersion(await database.schema_version({})),

    /** How claimed events stand: these, or all that are in progress or start later than a day ago. */
    progress: (events: string[] | null) => database.progress({ events }),

    /** Events that are not claimed: these, or all that wait for it around now. */
    unclaimed: (events: string[] | null) => database.unclaimed({ events }),

    /** When events will be ready, at the pace of this moment. */
    forecast: () => database.forecast({}),

    /** All jobs of an event that are in one of these states, or in any. */
    async jobs(event: string, states: JobState[] | null): Promise<Job[]> {
      const jobs: Job[] = []
      for (;;) {
        const after = jobs.at(-1)?.user_id ?? null
        const next = await database.jobs({ event, states, after, page: PAGE })
        jobs.push(...next)
        if (next.length < PAGE) return jobs
      }
    },

    /** The jobs of one attendee with their last attempts: of one event, or of all; the latest start first. */
    attendee: (attendee: string, event: string | null): Promise<AttendeeJob[]> =>
      database.attendee({ attendee, event }),

    replay: (request: ReplayRequest) => database.replay(request),

    /** The messages kept by the finalizer, the latest first: at most so many, and how many there are in all. */
    async deadLetters(limit: number): Promise<{ total: number; letters: KeptLetter[] }> {
      const letters: KeptLetter[] = []
      for (;;) {
        const last = letters.at(-1)
        const before = { before_at: last?.received_at ?? null, before_id: last?.message_id ?? null }
        const next = await database.dead_letters(before)
        letters.push(...next.letters)
        if (next.letters.length === 0 || letters.length >= limit)
          return { total: next.total, letters: letters.slice(0, limit) }
      }
    },

    take_send_batch: database.take_send_batch,
  }
}

export type Ledger = ReturnType<typeof connectLedger>
