import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, expect, onTestFinished, vi } from 'vitest'
import type { Database } from '../../local/postgres.ts'
import type {
  CollectionResult,
  DeadLetter,
  Forecast,
  Next,
  Page,
  Result,
  Task,
} from '../../src/core/database.ts'
import type { Attendee, JobRef } from '../../src/core/message.ts'
import { postgres } from './database.ts'

export type JobState = 'queued' | 'sent' | 'running' | 'indexed' | 'erased' | 'skipped' | 'failed'

/** A row of indexing.face_jobs. */
export interface Job extends JobRef {
  state: JobState
  reason: string | null
  error: string | null
  attempts: number
  dead_letters: number
  index_calls: number
  /** The order of the outbox; -Infinity for erasures. */
  due: Date | number
  queued_at: Date
  sent_at: Date | null
  lease_token: string | null
  lease_until: Date | null
  face_id: string | null
  face_photo: string | null
  stray_face_ids: string[]
  unconfirmed: boolean
  second_look_at: Date | null
  ended_at: Date | null
}

/** A row of indexing.event_runs. */
export interface Run {
  state: 'in_progress' | 'completed' | 'failed'
  reason: string | null
  starts_at: Date
  expanded_at: Date | null
  collection: 'missing' | 'ready' | 'closing' | 'closing_again' | 'deleted'
  collection_attempts: number
  collection_error: string | null
}

type Connection = Pick<pg.Pool, 'query'>

/** The first column of the first row. */
export async function one<T>(connection: Connection, sql: string, values: unknown[] = []): Promise<T> {
  const { rows } = await connection.query({ text: sql, values, rowMode: 'array' })
  return rows[0]?.[0]
}

const REST_SECONDS = { lease: 60, quiet: 30, collection: 120 }

/** The database functions, called by name and with named arguments as the API calls them. */
export function functionsOn(connection: Connection) {
  function call<T>(name: string, args: Record<string, unknown> = {}): Promise<T> {
    const named = Object.keys(args).map((key, index) => `${key} => $${index + 1}`)
    const values = Object.values(args).map((value) =>
      typeof value === 'object' && value !== null ? JSON.stringify(value) : value,
    )
    return one<T>(connection, `select public.indexing_${name}(${named})`, values)
  }

  return {
    claim: async (windowMinutes: number | null = 20, tps: number | null = null) =>
      (await call<{ events: string[] }>('claim', { window_minutes: windowMinutes, tps })).events,
    absorb: (page = 5000) => call<{ changes: number; jobs: number; more: boolean }>('absorb', { page }),
    expand: (page = 10_000) => call<{ jobs: number; more: boolean }>('expand', { page }),
    collections: (page = 500) => call<{ create: string[]; delete: string[] }>('collections', { page }),
    collectionsDone: (results: CollectionResult[]) =>
      call<Record<string, Run['collection']>>('collections_done', {
        results,
        quiet_seconds: REST_SECONDS.collection,
      }),
    nextPage: (page = 1000, inFlight = 100_000, sent: string | null = null, unsent: Attendee[] = []) =>
      call<Page>('next_page', { page, in_flight: inFlight, room: null, sent, unsent }),
    begin: async (messages: JobRef[], token = randomUUID() as string, leaseSeconds = REST_SECONDS.lease) => {
      const { jobs } = await call<{ jobs: Task[] }>('begin', {
        messages,
        token,
        lease_seconds: leaseSeconds,
        tps: 10_000,
      })
      return { token, tasks: jobs }
    },
    pace: async (messages: JobRef[], tps: number) => {
      const args = { messages, token: randomUUID(), lease_seconds: REST_SECONDS.lease, tps }
      return (await call<{ pace: { first_ms: number; every_ms: number } }>('begin', args)).pace
    },
    finish: (token: string, results: Result[], { throttled = false, tps = 10_000 } = {}) =>
      call<Next[]>('finish', { token, results, throttled, quiet_seconds: REST_SECONDS.quiet, tps }),
    bury: (letters: JobRef[]) => call<{ failed: number; requeued: number }>('bury', { letters }),
    keepDeadLetters: (letters: DeadLetter[]) => call<number>('keep_dead_letters', { letters }),
    sweep: (lostAfterSeconds = 300) =>
      call<{ jobs: number; failed: number }>('sweep', { lost_after_seconds: lostAfterSeconds }),
    replay: (of: { event?: string; attendee?: string; why?: string } = {}) =>
      call<{ jobs: number; events: string[]; held: string[] }>('replay', of),
    forecast: (tps: number | null = null) => call<Forecast>('forecast', { tps }),
    beginNudgedRun: (runSeconds = 60) => call<boolean>('begin_nudged_run', { run_seconds: runSeconds }),
    endNudgedRun: () => call<boolean>('end_nudged_run'),
  }
}

export type Functions = ReturnType<typeof functionsOn>

/** The id that a well-behaved Rekognition gives the face of this photo. */
export const faceOf = (photo: string) => `face of ${photo}`

/** What a worker reports to whom every call was answered well; `said` says what was different. */
export function resultOf(task: Task, said: Partial<Result> = {}): Result {
  const { event_id, user_id, photo, keep } = task
  return {
    event_id,
    user_id,
    outcome: photo ? 'indexed' : 'erased',
    photo,
    face_id: keep ?? (photo ? faceOf(photo) : null),
    faces: [],
    certain: true,
    reason: null,
    error: null,
    calls: photo && !keep ? 1 : 0,
    ...said,
  }
}

/** Steps of several calls each, as the scheduler and the worker take them. */
export function stepsOn(functions: Functions) {
  const { absorb, claim, collections, collectionsDone, expand, nextPage, begin, finish } = functions
  const made = new Set<string>() // collections

  /** Absorbs what has changed, claims what is due, makes the collections and writes all jobs. Returns the events claimed. */
  async function prepare(): Promise<string[]> {
    while ((await absorb()).changes > 0) {}
    const claimed = await claim()
    const { create } = await collections()
    await collectionsDone(
      create.map((event_id) => ({ event_id, result: made.has(event_id) ? 'exists' : 'created' })),
    )
    for (const event of create) made.add(event)
    while ((await expand()).more) {}
    return claimed
  }

  /** Sends all that is queued, page after page. Returns the messages. */
  async function sendAll(): Promise<JobRef[]> {
    const messages: JobRef[] = []
    for (let page = await nextPage(); page.jobs.length > 0; ) {
      messages.push(...page.jobs)
      page = await nextPage(1000, 100_000, page.token)
    }
    return messages
  }

  /** Works on messages as a worker does to whom every call is answered well. */
  async function work(messages: JobRef[], said: Partial<Result> = {}): Promise<Next[]> {
    const { token, tasks } = await begin(messages)
    const toDo = tasks.filter((task) => task.action !== 'none')
    return finish(
      token,
      toDo.map((task) => resultOf(task, said)),
    )
  }

  return { prepare, sendAll, work }
}

/** What the app does, and what lies in its tables. */
export function appOn(connection: Connection) {
  return {
    /** Creates an event that is due unless told otherwise. */
    event: async ({
      startsAt = "now() + interval '10 minutes'",
      active = true,
      status = 'pending',
    }: {
      startsAt?: string
      active?: boolean
      status?: string
    } = {}) =>
      one<string>(
        connection,
        `insert into public.events (name, starts_at, is_active, indexing_status)
         values ('A concert', ${startsAt}, $1, $2) returning event_id`,
        [active, status],
      ),

    /** Creates so many events that are due, the soonest first. */
    events: (count: number) =>
      one<string[]>(
        connection,
        `with made as (
           insert into public.events (name, starts_at)
           select 'A concert', now() + n * interval '1 second' from generate_series(1, $1::int) n
           returning event_id, starts_at
         ) select array_agg(event_id order by starts_at) from made`,
        [count],
      ),

    /** Creates accounts, each with a profile and a photo at `photos/{user_id}`. Returns their ids in order. */
    users: (count: number) =>
      one<string[]>(
        connection,
        `with accounts as (
           insert into auth.users select from generate_series(1, $1::int) returning id
         ), made as (
           insert into public.profiles (user_id, full_name, photo_path)
           select id, 'Somebody', 'photos/' || id from accounts returning user_id
         ) select coalesce(array_agg(user_id order by user_id), '{}') from made`,
        [count],
      ),

    /** Gives or takes back the consent of attendees of an event, in one statement. */
    consent: async (event: string, users: string[], allow = true) => {
      await connection.query(
        `insert into public.event_consents (event_id, user_id, allow_recognition)
         select $1, id, $3 from unnest($2::uuid[]) id
         on conflict (event_id, user_id) do update set allow_recognition = excluded.allow_recognition`,
        [event, users, allow],
      )
    },

    /** Has attendees leave an event. */
    leave: async (event: string, users: string[]) => {
      await connection.query('delete from public.event_consents where event_id = $1 and user_id = any ($2)', [
        event,
        users,
      ])
    },

    photo: async (user: string, path: string | null) => {
      await connection.query('update public.profiles set photo_path = $2 where user_id = $1', [user, path])
    },

    deleteAccounts: async (users: string[]) => {
      await connection.query('delete from auth.users where id = any ($1)', [users])
    },

    deleteEvent: async (event: string) => {
      await connection.query('delete from public.events where event_id = $1', [event])
    },

    /** Sets columns of an event; the values are SQL. */
    change: async (event: string, columns: Record<string, string>) => {
      const sets = Object.entries(columns).map(([name, value]) => `${name} = ${value}`)
      await connection.query(`update public.events set ${sets} where event_id = $1`, [event])
    },

    status: (event: string) =>
      one<string>(connection, 'select indexing_status from public.events where event_id = $1', [event]),
  }
}

/** What lies in the ledger's own tables. */
function insideOf(connection: Connection) {
  return {
    jobs: async (event: string): Promise<Job[]> =>
      (
        await connection.query<Job>('select * from indexing.face_jobs where event_id = $1 order by user_id', [
          event,
        ])
      ).rows,

    /** How many jobs of the event are in each state. */
    states: (event: string) =>
      one<Partial<Record<JobState, number>>>(
        connection,
        `select coalesce(jsonb_object_agg(state, n), '{}') from (
           select state, count(*) as n from indexing.face_jobs where event_id = $1 group by state) by_state`,
        [event],
      ),

    /** @throws {Error} where the attendee has no job */
    job: async (event: string, user: string): Promise<Job> => {
      const { rows } = await connection.query<Job>(
        'select * from indexing.face_jobs where event_id = $1 and user_id = $2',
        [event, user],
      )
      if (!rows[0]) throw new Error(`no job of attendee ${user} of event ${event}`)
      return rows[0]
    },

    /** @throws {Error} where the event was never claimed */
    run: async (event: string): Promise<Run> => {
      const { rows } = await connection.query<Run>('select * from indexing.event_runs where event_id = $1', [
        event,
      ])
      if (!rows[0]) throw new Error(`event ${event} was never claimed`)
      return rows[0]
    },

    /** How many changes of the app are noted and not yet looked at. */
    changes: () => one<number>(connection, 'select count(*)::int from indexing.changes'),

    /** Lets the leases of workers run out. */
    expireLeases: () =>
      connection.query(
        "update indexing.face_jobs set lease_until = now() - interval '1 s' where state = 'running'",
      ),

    /** Lets the leases of pages that schedulers are sending run out. */
    expirePages: () => connection.query("update indexing.pages set until = now() - interval '1 s'"),

    /** Lets every message that was sent be so many seconds old. */
    ageMessages: (seconds: number) =>
      connection.query(
        "update indexing.face_jobs set sent_at = now() - make_interval(secs => $1) where state = 'sent'",
        [seconds],
      ),
  }
}

/** A connection of its own, for a transaction that is held open. */
export interface Session extends Connection {
  pid: number
}

interface Place {
  database: Database
  /** Connected as the API is: role service_role, with its timeouts. */
  service: pg.Pool
  owner: pg.Pool
  close: () => Promise<void>
}

const asService = ({ authenticatorUrl }: Database) => ({
  connectionString: authenticatorUrl,
  options: '-c role=service_role',
})

async function openPlace(): Promise<Place> {
  const database = await postgres.createDatabase()
  const service = new pg.Pool({ ...asService(database), max: 25 })
  const owner = new pg.Pool({ connectionString: database.url, max: 10 })
  for (const pool of [service, owner]) pool.on('error', () => {}) // the database was dropped
  const close = async () => {
    await Promise.all([service.end(), owner.end()])
    await database.drop()
  }
  return { database, service, owner, close }
}

// One for the tests of a file: making one takes longer than most of them.
let shared: Promise<Place> | undefined
afterAll(async () => (await shared)?.close())

async function emptiedPlace(): Promise<Place> {
  shared ??= openPlace()
  const { owner } = await shared
  const tables = await one<string>(
    owner,
    `select string_agg(oid::regclass::text, ', ') from pg_class
     where relkind = 'r' and relnamespace in (
       select oid from pg_namespace where nspname in ('public', 'auth', 'indexing', 'net'))`,
  )
  await owner.query(`
    truncate ${tables};
    insert into indexing.pace default values;
    insert into indexing.nudging default values`)
  return shared
}

/**
 * An empty ledger for the length of a test, with many connections at once: the functions as the API calls them (role
 * service_role, with its timeouts), the app's tables, and a look inside.
 * @param options.ofItsOwn whether the test alters the database itself, which then is no other test's
 */
export async function openLedger({ ofItsOwn = false } = {}) {
  const { database, owner, service, close } = await (ofItsOwn ? openPlace() : emptiedPlace())
  if (ofItsOwn) onTestFinished(close)

  async function session(settings: pg.ClientConfig): Promise<Session> {
    const client = new pg.Client(settings)
    client.on('error', () => {})
    await client.connect()
    onTestFinished(() => client.end())
    const pid = await one<number>(client, 'select pg_backend_pid()')
    return Object.assign(client, { pid })
  }

  const functions = functionsOn(service)
  return {
    database,
    owner,
    ...functions,
    ...stepsOn(functions),
    app: appOn(owner),
    inside: insideOf(owner),
    /** A session of the app's owner, to hold transactions open. */
    appSession: () => session({ connectionString: database.url }),
    /** A session of the API, to hold a call of ours open before its commit. */
    serviceSession: () => session(asService(database)),
    /** Resolves when the session waits for a lock; fails where it never does. */
    untilWaiting: ({ pid }: Session) =>
      vi.waitFor(
        async () =>
          expect(await one(owner, 'select true from pg_locks where pid = $1 and not granted', [pid])).toBe(
            true,
          ),
        { timeout: 5_000, interval: 20 },
      ),
  }
}

/** An empty ledger with an event whose jobs are all sent; users and messages in the same order. */
export async function sentEvent(attendees: number, options?: Parameters<typeof openLedger>[0]) {
  const ledger = await openLedger(options)
  const event = await ledger.app.event()
  const users = await ledger.app.users(attendees)
  await ledger.app.consent(event, users)
  await ledger.prepare()
  const messages = await ledger.sendAll()
  return { ...ledger, event, users, messages }
}

/** Does the same so many times at once. */
export const atOnce = <T>(times: number, act: (index: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: times }, (_, index) => act(index)))

/** The only item of a list. */
export function only<T>(items: T[]): T {
  expect(items).toHaveLength(1)
  return items[0] as T
}
