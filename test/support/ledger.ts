import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, expect, onTestFinished, vi } from 'vitest'
import type { Database } from '../../local/postgres.ts'
import type {
  Answer,
  Arguments,
  CollectionResult,
  CollectionState,
  DeadLetter,
  Forecast,
  Health,
  JobState,
  LeasedJob,
  ListedFaces,
  Next,
  Reconciled,
  Result,
  RunState,
  SendBatch,
} from '../../src/core/contract.ts'
import { type Attendee, attendeeKey, type JobRef } from '../../src/core/message.ts'
import { postgres } from './database.ts'

/** A row of indexing.face_jobs. */
export interface Job extends JobRef {
  state: JobState
  reason: string | null
  error: string | null
  priority: 0 | 1 | 2
  starts_at: Date
  repeated: boolean
  queued_at: Date
  urgent: boolean
  send_batch: string | null
  sent_at: Date | null
  attempts: number
  rescues: number
  dead_letters: number
  unanswered: number
  failures: number
  index_calls: number
  history: { at: string; outcome: string; reason?: string; error?: string }[]
  lease_token: string | null
  lease_until: Date | null
  photo_key: string | null
  photo_etag: string | null
  refused: string | null
  missing_key: string | null
  missing_since: Date | null
  face_id: string | null
  obsolete_face_ids: string[]
  needs_listing: boolean
  look_again_at: Date | null
  ended_at: Date | null
}

/** A row of indexing.event_runs. */
export interface Run {
  state: RunState
  reason: string | null
  starts_at: Date
  ends_at: Date
  fanned_out_at: Date | null
  settled_at: Date | null
  collection: CollectionState
  collection_attempts: number
  collection_error: string | null
  collection_due: Date
  closed_at: Date | null
  reconcile_due: Date | number
}

type Connection = Pick<pg.Pool, 'query'>

/** The first column of the first row. */
export async function one<T>(connection: Connection, sql: string, values: unknown[] = []): Promise<T> {
  const { rows } = await connection.query({ text: sql, values, rowMode: 'array' })
  return rows[0]?.[0]
}

const LEASE_SECONDS = 60
const QUIET_SECONDS = 30
const CLOSING_QUIET_SECONDS = 120
const GRACE_SECONDS = 600
const PLENTY = 100_000

/** The database functions, called by name and with named arguments as the API calls them. */
export function functionsOn(connection: Connection) {
  function call<T>(name: string, args: Record<string, unknown> = {}): Promise<T> {
    const given = Object.entries(args).filter(([, value]) => value !== undefined)
    const named = given.map(([key], index) => `${key} => $${index + 1}`)
    const values = given.map(([, value]) =>
      typeof value === 'object' && value !== null && !isTextArray(value) ? JSON.stringify(value) : value,
    )
    return one<T>(connection, `select public.indexing_${name}(${named})`, values)
  }
  const isTextArray = (value: unknown) =>
    Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === 'string')

  return {
    startRun: (tps = 10_000, maxFailedShare = 0, cleanupAfterHours: number | null = null) =>
      call<{ schema_version: number }>('start_run', {
        tps,
        max_failed_share: maxFailedShare,
        cleanup_after_hours: cleanupAfterHours,
        collection_prefix: 'memento_event_',
        photo_bucket: 'photos',
      }),
    cleanup: (page = 1000) => call<Answer<'cleanup'>>('cleanup', { page }),
    prune: ({ keepDays = 30, receiptDays = 1095, page = 1000 } = {}) =>
      call<Answer<'prune'>>('prune', { keep_days: keepDays, receipt_days: receiptDays, page }),
    sealReceipts: (page = 1000) => call<Answer<'seal_receipts'>>('seal_receipts', { page }),
    verifyReceipts: (page = 5000, after?: number, previous?: string) =>
      call<Answer<'verify_receipts'>>('verify_receipts', { page, after, previous }),
    receipts: (of: Arguments<'receipts'> = {}) => call<Answer<'receipts'>>('receipts', of),
    eraseAttendee: (attendee: string, event?: string, act = true) =>
      call<Answer<'erase_attendee'>>('erase_attendee', { attendee, event, act }),
    eraseEvent: (event: string, act = true) => call<Answer<'erase_event'>>('erase_event', { event, act }),
    /** The events claimed. */
    claim: async (windowMinutes: number | null = 20) =>
      (await call<{ events: string[] }>('claim', { window_minutes: windowMinutes })).events,
    claimReport: (windowMinutes: number | null = 20) =>
      call<{ events: string[]; locked: string[] }>('claim', { window_minutes: windowMinutes }),
    /** Processes one page of the changes that may erase, or of the others. */
    processSome: (erasing: boolean, page = 5000) =>
      call<{ jobs: number; more: boolean }>('process_changes', { erasing, page }),
    /** Processes all changes. Returns how many jobs were queued. */
    processChanges: async (page = 5000) => {
      let jobs = 0
      for (const erasing of [true, false])
        for (let more = true; more; ) {
          const done = await call<{ jobs: number; more: boolean }>('process_changes', { erasing, page })
          jobs += done.jobs
          more = done.more
        }
      return jobs
    },
    notePhotos: (keys: string[]) => call<number>('note_photos', { photo_keys: keys }),
    fanOut: (page = 10_000) => call<{ jobs: number; more: boolean }>('fan_out', { page }),
    collectionsDue: (page = 500) => call<{ create: string[]; delete: string[] }>('collections_due', { page }),
    collectionsDone: (results: CollectionResult[], quietSeconds = CLOSING_QUIET_SECONDS) =>
      call<Record<string, CollectionState>>('collections_done', { results, quiet_seconds: quietSeconds }),
    mayCreateCollection: (event: string) => call<boolean>('may_create_collection', { event }),
    takeSendBatch: ({
      page = 1000,
      workCap = PLENTY,
      urgentCap = PLENTY,
      sent = null as number | null,
      unsent = [] as Attendee[],
    } = {}) =>
      call<SendBatch>('take_send_batch', { page, work_cap: workCap, urgent_cap: urgentCap, sent, unsent }),
    /** Leases the jobs of messages; `jobs` has what each needs, in their order; `tasks` those that are to be acted on. */
    lease: async (messages: JobRef[], token = randomUUID() as string, leaseSeconds = LEASE_SECONDS) => {
      const answer = await call<{ jobs: LeasedJob[]; pace: { first_ms: number; every_ms: number } }>(
        'lease',
        { messages, token, lease_seconds: leaseSeconds },
      )
      const place = new Map(messages.map((message, index) => [attendeeKey(message), index]))
      const placeOf = (job: LeasedJob) => place.get(attendeeKey(job)) ?? -1
      const jobs = answer.jobs.toSorted((a, b) => placeOf(a) - placeOf(b))
      return { token, jobs, pace: answer.pace, tasks: jobs.filter(({ action }) => action === 'act') }
    },
    refresh: (jobs: Attendee[], slots = 0, throttled = false) =>
      call<{
        jobs: (Attendee & { photo_key: string | null })[]
        pace: { first_ms: number; every_ms: number }
      }>('refresh', { jobs, slots, throttled }),
    complete: (token: string, results: Result[], { throttled = false } = {}) =>
      call<Next[]>('complete', {
        token,
        results,
        throttled,
        quiet_seconds: QUIET_SECONDS,
        grace_seconds: GRACE_SECONDS,
      }),
    failDeadLetters: (letters: JobRef[]) =>
      call<{ failed: number; requeued: number }>('fail_dead_letters', { letters }),
    keepDeadLetters: (letters: DeadLetter[]) => call<number>('keep_dead_letters', { letters }),
    rescue: (lostAfterSeconds = 480, batchSeconds = 90) =>
      call<{ jobs: number; failed: number; looked_again: number }>('rescue', {
        lost_after_seconds: lostAfterSeconds,
        batch_seconds: batchSeconds,
      }),
    reconcileDue: (event?: string, page = 100) =>
      call<{ event_id: string; as_of: string }[]>('reconcile_due', { page, event }),
    reconcile: (
      event: string,
      faces: ListedFaces[],
      { asOf = new Date(Date.now() + 60_000).toISOString(), lagSeconds = 30, repair = true } = {},
    ) =>
      call<Reconciled>('reconcile', {
        event,
        as_of: asOf,
        after: null,
        through: null,
        faces,
        lag_seconds: lagSeconds,
        repair,
      }),
    reconcileDone: (event: string, asOf: string, differences?: Arguments<'reconcile_done'>['differences']) =>
      call<boolean>('reconcile_done', { event, as_of: asOf, differences }),
    replay: (of: Arguments<'replay'> = {}) => call<Answer<'replay'>>('replay', of),
    forecast: () => call<Forecast>('forecast'),
    health: (windowMinutes = 20) => call<Health>('health', { window_minutes: windowMinutes }),
    beginNudgedRun: (runSeconds = 60) => call<boolean>('begin_nudged_run', { run_seconds: runSeconds }),
    endNudgedRun: () => call<boolean>('end_nudged_run'),
  }
}

export type Functions = ReturnType<typeof functionsOn>

/** The id that a well-behaved Rekognition gives the face of this photo. */
export const faceOf = (photo: string) => `face of ${photo}`

/** The ETag of a photo that nobody has replaced. */
export const etagOf = (photo: string) => `etag of ${photo}`

/** The result of a worker whose every call was answered well; `said` says what was different. */
export function resultOf(task: LeasedJob, said: Partial<Result> = {}): Result {
  const { event_id, user_id, photo_key, face_id, face_key, face_etag, may_stay } = task
  const known = photo_key !== null && face_key === photo_key && face_etag !== null && face_id !== null
  return {
    event_id,
    user_id,
    outcome: photo_key === null ? 'erased' : 'indexed',
    photo_key,
    photo_etag: photo_key === null ? null : etagOf(photo_key),
    face_id: photo_key === null ? (may_stay ? face_id : null) : known ? face_id : faceOf(photo_key),
    obsolete_face_ids: [],
    needs_listing: false,
    refused: null,
    reason: null,
    error: null,
    index_calls: photo_key === null || known ? 0 : 1,
    faces_deleted: 0,
    ...said,
  }
}

/** What a worker says that found no use for the photo. */
export const refusedFor = (reason: string): Partial<Result> => ({
  outcome: 'skipped',
  face_id: null,
  refused: reason,
  reason,
})

/** What a worker says whose call failed in passing. */
export const failedWith = (error: string, reason = 'unavailable'): Partial<Result> => ({
  outcome: 'retry',
  photo_etag: null,
  face_id: null,
  reason,
  error,
})

/** Steps of several calls each, as the scheduler and the worker take them. */
export function stepsOn(functions: Functions) {
  const { processChanges, claim, collectionsDue, collectionsDone, fanOut, takeSendBatch } = functions
  const { lease, complete, failDeadLetters } = functions
  const made = new Set<string>() // collections

  /** Processes all changes, claims what is due, makes the collections and writes all jobs. Returns the events claimed. */
  async function prepare(): Promise<string[]> {
    await processChanges()
    const claimed = await claim()
    const { create } = await collectionsDue()
    await collectionsDone(
      create.map((event_id) => ({ event_id, result: made.has(event_id) ? 'exists' : 'created' })),
    )
    for (const event of create) made.add(event)
    while ((await fanOut()).more) {}
    return claimed
  }

  /** Sends all that is queued, batch after batch. Returns the messages. */
  async function sendAll(): Promise<JobRef[]> {
    const messages: JobRef[] = []
    for (let batch = await takeSendBatch(); batch.jobs.length > 0; ) {
      messages.push(...batch.jobs.map(({ event_id, user_id, version }) => ({ event_id, user_id, version })))
      batch = await takeSendBatch({ sent: batch.send_batch })
    }
    return messages
  }

  /** Works on messages as a worker whose every call is answered well. */
  async function work(messages: JobRef[], said: Partial<Result> = {}): Promise<Next[]> {
    const { token, tasks } = await lease(messages)
    return complete(
      token,
      tasks.map((task) => resultOf(task, said)),
    )
  }

  /** Has jobs fail, as they do when each of their attempts goes wrong: their last messages are dead letters. */
  async function fail(
    messages: JobRef[],
    error = 'AccessDeniedException',
    reason = 'denied',
  ): Promise<{ failed: number; requeued: number }> {
    await work(messages, failedWith(error, reason))
    return failDeadLetters(messages)
  }

  return { prepare, sendAll, work, fail }
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

    /** How many changes of the app are noted and not yet processed. */
    changes: () => one<number>(connection, 'select count(*)::int from indexing.changes'),

    /** Lets the leases of workers run out. */
    expireLeases: () =>
      connection.query(
        "update indexing.face_jobs set lease_until = now() - interval '5 s' where state = 'running'",
      ),

    /** Lets the send batches of schedulers be old: they have died. */
    expireSendBatches: () =>
      connection.query("update indexing.send_batches set handed_at = now() - interval '1 hour'"),

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
  await owner.query('update indexing.settings set index_faces_tps = 10000')
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
    insert into indexing.settings (index_faces_tps) values (10000);
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
    service,
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
