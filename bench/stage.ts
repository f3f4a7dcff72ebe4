import { setTimeout as sleep } from 'node:timers/promises'
import { PutObjectCommand } from '@aws-sdk/client-s3'
import pg from 'pg'
import type { Deployment } from '../local/deployment.ts'
import type { Latency } from '../local/rekognition/latency.ts'
import { type LocalSystem, startLocalSystem } from '../local/system.ts'
import type { Curve } from './report/picture.ts'
import type { Bench } from './scenario.ts'

/** What one IndexFaces call takes, about as in the large regions. */
export const LATENCY: Latency = { medianMs: 250, p99Ms: 900 }

const PHOTO = 'portrait.jpg'
export const REST_MS = 1_500 // after which the quota and the pace are as if nothing had been

export interface StageOptions {
  /** IndexFaces calls a second: the quota, and what the workers keep to. */
  tps: number
  /** Of each Rekognition call; `null`: as fast as can be, and without a quota. */
  latency?: Latency | null
  change?: (deployment: Deployment) => void
}

/** For a queue whose messages are to stay in it. */
export const withoutWorkers = ({ functions }: Deployment): void => {
  for (const deployed of functions) deployed.eventSources = []
}

/** When an event was claimed and settled, on the database's clock. */
export interface Run {
  event_id: string
  claimed_at: Date
  settled_at: Date
  seconds: number
  state: string
}

export interface Counts {
  indexCalls: number
  throttled: number
  databaseCalls: number
  sqsRequests: number
}

export type Stage = Awaited<ReturnType<typeof openStage>>

/** A system of its own for a scenario, with events and crowds to put into it and counters to read. */
export async function openStage(bench: Bench, { tps, latency = LATENCY, change }: StageOptions) {
  let everySeconds = 60
  let batches = 0 // attendees that make a batch for each of the workers
  const system = await startLocalSystem({
    engine: 'synthetic',
    tps,
    postgres: bench.postgres,
    bundle: bench.bundle,
    change: (deployment) => {
      change?.(deployment)
      const scheduler = deployment.functions.find(({ name }) => name === 'scheduler')
      everySeconds = scheduler?.schedules[0]?.everySeconds ?? everySeconds
      const source = deployment.functions.find(({ name }) => name === 'worker')?.eventSources[0]
      if (source) batches = source.batchSize * source.maximumConcurrency
    },
  })
  const pool = new pg.Pool({ connectionString: system.database.url, max: 4 })
  if (latency) system.rekognition.setLatency(latency)
  else system.rekognition.setQuota({})
  await system.aws.s3.send(
    new PutObjectCommand({ Bucket: system.environment.S3_BUCKET_NAME, Key: PHOTO, Body: 'a portrait' }),
  )

  const sql = async <Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> =>
    (await pool.query<Row>(text, values)).rows

  const runScheduler = (windowMinutes: number) =>
    system.functions.invoke('scheduler', { window_minutes: windowMinutes })
  let schedule: NodeJS.Timeout | undefined

  return {
    system,
    sql,
    pool,

    /**
     * Puts an event into the app, with so many attendees who all consent and share one photo (for Rekognition a face of
     * somebody else is another face, whatever the photo). What that changes in the ledger has been looked at, as the
     * scheduler does every minute, before this returns.
     */
    async gather(attendees: number, startsInMinutes = 15): Promise<string> {
      const [event] = await gather(sql, 1, attendees, startsInMinutes)
      await runScheduler(0)
      return event ?? ''
    },

    /** As `gather`, for many events at once. */
    async gatherMany(events: number, attendees: number, startsInMinutes = 15): Promise<string[]> {
      const made = await gather(sql, events, attendees, startsInMinutes)
      await runScheduler(0)
      return made
    },

    /**
     * Has every container of the worker started, as they are in a system that was at work a moment ago: here they would
     * all start on the same few cores, which in Lambda they do not. What starting one takes is the scenario `cold`.
     */
    async warmUp(): Promise<void> {
      const event = await this.gather(batches)
      await this.schedule()
      await this.settled([event], 60)
      clearInterval(schedule) // the event that is measured is to be claimed when the scenario says so
      await sleep(REST_MS)
    },

    /**
     * The schedule as deployed, from a run on that claims what starts within twenty minutes: that run now, another every
     * minute until the stage is closed. (The host's own schedules would begin with the system, so that the claim and the
     * runs after it were of different schedules.)
     */
    schedule() {
      clearInterval(schedule)
      schedule = setInterval(() => void runScheduler(20).catch(() => {}), everySeconds * 1000)
      return runScheduler(20)
    },

    counts: () => countsOf(system),

    /**
     * Waits until all of these events are settled.
     * @throws {Error} when that takes longer
     */
    async settled(events: string[], patienceSeconds: number): Promise<Run[]> {
      const end = performance.now() + patienceSeconds * 1000
      for (;;) {
        const runs = await sql<Run>(
          `select event_id, claimed_at, settled_at, state, extract(epoch from settled_at - claimed_at)::float as seconds
           from indexing.event_runs where event_id = any ($1) and settled_at is not null`,
          [events],
        )
        if (runs.length === events.length) return runs
        if (performance.now() > end)
          throw new Error(
            `after ${patienceSeconds} s only ${runs.length} of ${events.length} events are settled`,
          )
        await sleep(50)
      }
    },

    async close() {
      clearInterval(schedule)
      await pool.end()
      await system.close()
    },
  }
}

type Sql = (text: string, values?: unknown[]) => Promise<pg.QueryResultRow[]>

async function gather(
  sql: Sql,
  events: number,
  attendees: number,
  startsInMinutes: number,
): Promise<string[]> {
  const made = await sql(
    `insert into public.events (name, starts_at)
     select 'event ' || n, now() + make_interval(mins => $2) from generate_series(1, $1) n
     returning event_id`,
    [events, startsInMinutes],
  )
  const ids = made.map((row) => String(row.event_id))
  await sql(
    `with wanted as (
       select event_id, gen_random_uuid() as user_id from unnest($1::uuid[]) as event_id, generate_series(1, $2)
     ), accounts as (
       insert into auth.users (id) select user_id from wanted
     ), profiles as (
       insert into public.profiles (user_id, full_name, photo_path) select user_id, 'Somebody', $3 from wanted
     )
     insert into public.event_consents (event_id, user_id, allow_recognition, consented_at, updated_at)
     select event_id, user_id, true, now(), now() from wanted`,
    [ids, attendees, PHOTO],
  )
  return ids
}

function countsOf({ rekognition, gateway, aws }: LocalSystem): Counts {
  const { calls, throttled } = rekognition.calls().IndexFaces
  return {
    indexCalls: calls,
    throttled,
    databaseCalls: sum(gateway.calls.values()),
    sqsRequests: sum(aws.requests.values()),
  }
}

/** What was counted since `before`. */
export const since = (before: Counts, now: Counts): Counts => ({
  indexCalls: now.indexCalls - before.indexCalls,
  throttled: now.throttled - before.throttled,
  databaseCalls: now.databaseCalls - before.databaseCalls,
  sqsRequests: now.sqsRequests - before.sqsRequests,
})

/** The keys under which counts are reported, each per attendee but for the share. */
export const perAttendee = (counts: Counts, attendees: number) => ({
  throttled_share: counts.throttled / Math.max(1, counts.indexCalls),
  index_calls_per_attendee: counts.indexCalls / attendees,
  db_calls_per_attendee: counts.databaseCalls / attendees,
  sqs_requests_per_attendee: counts.sqsRequests / attendees,
})

const sum = (values: Iterable<number>) => [...values].reduce((total, value) => total + value, 0)

/** Looks at a figure ten times a second until it is stopped; the curve's x is in seconds. */
export function watch(name: string, read: () => number): { stop: () => Curve } {
  const began = performance.now()
  const points: Curve['points'] = []
  const look = () => points.push([(performance.now() - began) / 1000, read()])
  look()
  const timer = setInterval(look, 100)
  return {
    stop: () => {
      clearInterval(timer)
      look()
      return { name, points }
    },
  }
}
