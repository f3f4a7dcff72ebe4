import { randomUUID } from 'node:crypto'
import { hostname, userInfo } from 'node:os'
import type {
  Answer,
  Arguments,
  AttendeeJob,
  Drift,
  Job,
  JobState,
  KeptLetter,
  OperatorAction,
  Rehearsed,
} from '../src/core/contract.ts'
import { type ApiKey, connectDatabase, requireSchemaVersion } from '../src/core/database.ts'
import type { Attendee } from '../src/core/message.ts'

/** What is to be replayed: of this event, of this attendee, for this reason; nulls: of all. */
export interface ReplayRequest {
  event: string | null
  attendee: string | null
  why: string | null
}

/** What a replay has done, or would do. */
export interface Replayed {
  /** Jobs queued again. */
  jobs: number
  events: string[]
  /** Events whose row the app holds at this moment: they are left as they are. */
  held: string[]
}

const PAGE = 1000

/** What operators have paused. */
export interface Pauses {
  /** Since when everything is, or null. */
  everything: string | null
  events: { event_id: string; since: string }[]
}

/** The ledger as an operator sees it. All throw `DatabaseError`. */
export function connectLedger(url: string, apiKey: ApiKey) {
  const database = connectDatabase(url, apiKey)
  /** Notes in the log that operators share what this one has done. */
  const note = async (action: Omit<Arguments<'note_action'>, 'actor' | 'id'>): Promise<void> => {
    await database.note_action({ actor: actorOf(), id: randomUUID(), ...action })
  }

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

    /** A page of them, after this attendee. */
    jobsAfter: (
      event: string,
      states: JobState[] | null,
      after: string | null,
      page = PAGE,
    ): Promise<Job[]> => database.jobs({ event, states, after, page }),

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

    /** What the app wants of all who consent to an event, whether it is claimed or not. */
    async rehearsal(event: string): Promise<Rehearsed[]> {
      const wanted: Rehearsed[] = []
      for (;;) {
        const after = wanted.at(-1)?.user_id ?? null
        const next = await database.rehearsal({ event, after, page: PAGE })
        wanted.push(...next)
        if (next.length < PAGE) return wanted
      }
    },

    /** The jobs of one attendee with their last attempts: of one event, or of all; the latest start first. */
    attendee: (attendee: string, event: string | null): Promise<AttendeeJob[]> =>
      database.attendee({ attendee, event }),

    /** The jobs of an event whose attendee's id begins with this, or whose name contains it: at most 50. */
    find: (event: string, wanted: string, nameColumn: string | null): Promise<Job[]> =>
      database.find_jobs({ event, wanted, name_column: nameColumn }),

    /** The names of attendees, by the column of the app's profiles that holds them. */
    async names(attendees: string[], nameColumn: string): Promise<Record<string, string>> {
      const names: Record<string, string> = {}
      for (let start = 0; start < attendees.length; start += PAGE) {
        const page = attendees.slice(start, start + PAGE)
        Object.assign(names, await database.names({ attendees: page, name_column: nameColumn }))
      }
      return names
    },

    note,

    /** What operators have done about this event and about everything, or in all: the latest first, so many. */
    actions: (event: string | null, page: number): Promise<OperatorAction[]> =>
      database.actions({ event, page }),

    /** What the last reconciles of an event have found, the latest first. */
    drift: (event: string): Promise<Drift[]> => database.drift({ event }),

    /** Queues jobs again, page by page: how many, of which events, and which events the app holds and are left as they are. */
    async replay(request: ReplayRequest): Promise<Replayed> {
      const events = new Set<string>()
      const held = new Set<string>()
      let jobs = 0
      let after: Attendee | null = null
      do {
        const page: Answer<'replay'> = await database.replay({ ...request, after })
        jobs += page.jobs
        for (const event of page.events) events.add(event)
        for (const event of page.held) held.add(event)
        after = page.last
      } while (after !== null)
      const { event, attendee, why } = request
      if (events.size > 0) await note({ action: 'replay', event, attendee, note: why, touched: jobs })
      return { jobs, events: [...events], held: [...held] }
    },

    /** What a replay would do at this moment. */
    previewReplay: (request: ReplayRequest): Promise<Replayed> =>
      database.replay({ ...request, dry_run: true }),

    /** Pauses an event, or everything for a null. Returns whether it was not paused before. */
    async pause(event: string | null): Promise<boolean> {
      const isNew = await database.pause({ event })
      if (isNew) await note({ action: 'pause', event })
      return isNew
    },

    /** Lifts the pause of an event, or every pause for a null. Returns how many were lifted. */
    async resume(event: string | null): Promise<number> {
      const lifted = await database.resume({ event })
      if (lifted > 0) await note({ action: 'resume', event })
      return lifted
    },

    async pauses(): Promise<Pauses> {
      const pauses = await database.pauses({})
      return {
        everything: pauses.find(({ event_id }) => event_id === null)?.since ?? null,
        events: pauses.flatMap(({ event_id, since }) => (event_id === null ? [] : [{ event_id, since }])),
      }
    },

    /** Lists these messages no more, or none of those that are there for a null. Returns how many. */
    async acknowledge(messages: string[] | null): Promise<number> {
      const touched = await database.acknowledge_dead_letters({ messages })
      if (touched > 0) await note({ action: 'acknowledge', touched })
      return touched
    },

    /** The messages kept by the finalizer and not acknowledged, the latest first: at most so many, and how many there are in all. */
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

/** The operator, as their machine names them. */
function actorOf(): string {
  try {
    return `${userInfo().username}@${hostname()}`
  } catch {
    return `somebody@${hostname()}` // a user id without a name, as in a container
  }
}

export type Ledger = ReturnType<typeof connectLedger>
