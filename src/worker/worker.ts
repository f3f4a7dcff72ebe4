import { randomUUID } from 'node:crypto'
import type { RekognitionClient } from '@aws-sdk/client-rekognition'
import type { SQSClient } from '@aws-sdk/client-sqs'
import type { SQSRecord } from 'aws-lambda'
import { ensureCollection, type Listing, listFaces } from '../core/collection.ts'
import type { LeasedJob, Next, Slots } from '../core/contract.ts'
import type { Convert } from '../core/converter.ts'
import { type Database, DatabaseError } from '../core/database.ts'
import { count, countBy, logger, observe } from '../core/log.ts'
import { attendeeKey, type JobRef, MessageError, readMessage } from '../core/message.ts'
import type { PhotoStore } from '../core/photo-store.ts'
import {
  CLOSING_QUIET_SECONDS,
  DATABASE_TIMEOUT_MS,
  DESIRED_STATE_MAX_AGE_MS,
  MISSING_GRACE_SECONDS,
  QUIET_SECONDS,
  WORKER_RESERVE_MS,
} from '../core/policy.ts'
import { type Delay, delayMessages } from '../core/queue.ts'
import { collectionId, type Settings } from '../core/settings.ts'
import type { Remaining } from '../core/time.ts'
import { type Attempt, type Calls, followAttendee } from './attendee.ts'
import { backoffSeconds, type RetryKind } from './backoff.ts'
import { Pace } from './pace.ts'

export interface WorkerParts {
  settings: Pick<
    Settings,
    'collectionPrefix' | 'workQueueUrl' | 'urgentQueueUrl' | 'maxReceives' | 'severalFaces'
  >
  database: Database
  rekognition: RekognitionClient
  photos: PhotoStore
  /** Makes a JPEG of a photo that Rekognition does not take. Without it such attendees are skipped. */
  convert?: Convert
  sqs: SQSClient
}

/** Why a message is to come again, and when. */
class Again extends Error {
  override name = 'Again'
  readonly seconds: number

  constructor(seconds: number, reason: string) {
    super(reason)
    this.seconds = seconds
  }
}

/** Of one message: settled, or to come again. A backoff grows with the receives of the message; a wait does not. */
type Verdict =
  | { kind: 'done' }
  | { kind: 'wait'; seconds: number; reason: string }
  | { kind: 'retry'; why: RetryKind; reason: string }

/** Photos of a batch that are converted at once: each takes a converter of its own, and its answer memory here. */
const CONVERSIONS_AT_ONCE = 4

/** Between calls when Rekognition throttles and the database, which knows the pace, is away. */
const BLIND_PAUSE_MS = 2_000

/**
 * Handles a batch of messages: one `lease`, the calls side by side at the pace it gave, one `complete`.
 * Returns what `Promise.allSettled` returns, in the order of the records: a rejected message comes again after a backoff.
 */
export async function work(
  records: SQSRecord[],
  parts: WorkerParts,
  remaining: Remaining,
): Promise<PromiseSettledResult<void>[]> {
  const read = records.map((record) => {
    try {
      return readMessage(record.body)
    } catch (error) {
      if (error instanceof MessageError) return error
      throw error
    }
  })
  const jobs = read.filter((job): job is JobRef => !(job instanceof Error))
  const verdicts = await workOn(jobs, parts, remaining)
  const settled = records.map((record, index): PromiseSettledResult<void> => {
    const job = read[index]
    if (!job) throw new Error('a record without its message')
    // A message that we cannot read does not get better: at once, until it reaches the dead-letter queue.
    if (job instanceof Error) return { status: 'rejected', reason: new Again(0, job.message) }
    return settle(verdicts.get(attendeeKey(job)), record, parts.settings.maxReceives)
  })
  await delayRejected(records, settled, parts)
  return settled
}

function settle(
  verdict: Verdict | undefined,
  record: SQSRecord,
  maxReceives: number,
): PromiseSettledResult<void> {
  if (!verdict || verdict.kind === 'done') return { status: 'fulfilled', value: undefined }
  const received = Number(record.attributes.ApproximateReceiveCount ?? 1)
  const seconds =
    verdict.kind === 'wait' ? verdict.seconds : backoffSeconds(verdict.why, received, maxReceives)
  return { status: 'rejected', reason: new Again(seconds, verdict.reason) }
}

/** Works on jobs until each has ended or its message has to come again. */
async function workOn(
  jobs: JobRef[],
  parts: WorkerParts,
  remaining: Remaining,
): Promise<Map<string, Verdict>> {
  const verdicts = new Map<string, Verdict>()
  const tell = (job: JobRef, verdict: Verdict) => verdicts.set(attendeeKey(job), verdict)
  let open = jobs
  while (open.length > 0) {
    try {
      const nexts = await workOnce(open, parts, remaining, tell)
      // The desired state changed meanwhile: at once, or else through the outbox, where these are queued already.
      open = remaining() > WORKER_RESERVE_MS ? nexts.filter(({ next }) => next === 'again') : []
    } catch (error) {
      if (error instanceof DatabaseError && error.refusesData && open.length > 1) {
        // One job's data is bad: each on its own, so that it fails alone.
        for (const job of open)
          for (const [key, verdict] of await workOn([job], parts, remaining)) verdicts.set(key, verdict)
        break
      }
      logger.error('the jobs come again: the database failed', {
        error: error instanceof Error ? error : String(error),
        jobs: open.length,
        first: open[0],
      })
      count('DatabaseFailed')
      for (const job of open) tell(job, { kind: 'retry', why: 'database', reason: String(error) })
      open = []
    }
  }
  return verdicts
}

async function workOnce(
  jobs: JobRef[],
  parts: WorkerParts,
  remaining: Remaining,
  tell: (job: JobRef, verdict: Verdict) => void,
): Promise<Next[]> {
  const { database } = parts
  const token = randomUUID()
  const messages = jobs.map(({ event_id, user_id, version }) => ({ event_id, user_id, version }))
  const readAt = performance.now()
  const leased = await database.lease({
    messages,
    token,
    lease_seconds: remaining() / 1000 + QUIET_SECONDS,
  })
  for (const job of leased.jobs)
    if (job.action === 'wait')
      tell(job, { kind: 'wait', seconds: (job.wait_seconds ?? 0) + 1, reason: 'leased by another worker' })
  const toDo = leased.jobs.filter(({ action }) => action === 'act')
  if (toDo.length === 0) return []

  const batch = new Batch(parts, toDo, leased.pace, readAt, () => remaining() - WORKER_RESERVE_MS)
  const attempts = await Promise.all(toDo.map((job) => followAttendee(job, batch.callsFor(job))))
  for (const attempt of attempts) report(attempt)
  count('Throttled', batch.throttled)

  const nexts = await database.complete(
    {
      token,
      results: attempts.map(({ result }) => result),
      throttled: batch.unsaidThrottling,
      quiet_seconds: QUIET_SECONDS,
      grace_seconds: MISSING_GRACE_SECONDS,
    },
    // What was done here would be done again by the next worker.
    () => remaining() > DATABASE_TIMEOUT_MS + 2_000,
  )
  const failures = new Map(attempts.map(({ result, failure }) => [attendeeKey(result), { result, failure }]))
  for (const job of nexts) {
    if (job.next !== 'retry') continue
    const { result, failure } = failures.get(attendeeKey(job)) ?? {}
    const why = failure?.kind ?? (result?.outcome === 'photo_missing' ? 'photo_missing' : 'throttled')
    tell(job, { kind: 'retry', why, reason: result?.error ?? 'to be looked at again' })
  }
  return nexts
}

/** What the calls of a batch share: its pace, the desired state as it was read last, and per event one listing. */
class Batch {
  throttled = 0
  /** Rekognition throttled a call, and the database could not be told. */
  unsaidThrottling = false
  readonly #parts: WorkerParts
  readonly #remaining: Remaining
  readonly #pace: Pace
  readonly #wanted: Map<string, string | null>
  readonly #jobs: LeasedJob[]
  readonly #listings = once<Listing>()
  readonly #creations = once<boolean>()
  readonly #convert: Convert | undefined
  #readAt: number
  #reading: Promise<unknown> | undefined

  constructor(parts: WorkerParts, jobs: LeasedJob[], slots: Slots, readAt: number, remaining: Remaining) {
    this.#parts = parts
    this.#convert = parts.convert && atMost(CONVERSIONS_AT_ONCE, parts.convert)
    this.#jobs = jobs
    this.#readAt = readAt
    this.#remaining = remaining
    this.#wanted = new Map(jobs.map((job) => [attendeeKey(job), job.photo_key]))
    const count = jobs.filter(
      (job) => job.photo_key !== null && (job.face_etag === null || job.face_key !== job.photo_key),
    ).length
    this.#pace = new Pace(slots, count, (slots, throttled) => this.#renew(slots, throttled), remaining)
  }

  callsFor({ event_id }: LeasedJob): Calls {
    const { rekognition, photos, settings } = this.#parts
    const collection = collectionId(settings, event_id)
    return {
      rekognition,
      photos,
      convert: this.#convert,
      severalFaces: settings.severalFaces,
      collection,
      list: () => this.#listings(event_id, () => listFaces(rekognition, collection)),
      createCollection: () => this.#creations(event_id, () => this.#createCollection(event_id, collection)),
      stillWanted: (job) => this.#stillWanted(job),
      remaining: this.#remaining,
      pace: this.#pace,
      onIndexCall: (ms) => observe('IndexFacesLatency', ms),
      onThrottled: () => {
        this.throttled++
      },
    }
  }

  async #stillWanted(job: LeasedJob): Promise<boolean> {
    if (performance.now() - this.#readAt > DESIRED_STATE_MAX_AGE_MS) {
      this.#reading ??= this.#refresh(0, false).finally(() => {
        this.#reading = undefined
      })
      await this.#reading
    }
    observe('DesiredStateAge', performance.now() - this.#readAt)
    return this.#wanted.get(attendeeKey(job)) === job.photo_key
  }

  /** Reads the desired state of the batch's jobs again, and takes so many new slots. */
  async #refresh(slots: number, throttled: boolean): Promise<Slots> {
    const readAt = performance.now()
    const jobs = this.#jobs.map(({ event_id, user_id }) => ({ event_id, user_id }))
    const { jobs: wanted, pace } = await this.#parts.database.refresh({ jobs, slots, throttled })
    for (const job of wanted) this.#wanted.set(attendeeKey(job), job.photo_key)
    this.#readAt = readAt
    return pace
  }

  async #renew(slots: number, throttled: boolean): Promise<Slots> {
    try {
      return await this.#refresh(slots, throttled)
    } catch (error) {
      logger.warn('could not take slots from the database', { error: String(error) })
      this.unsaidThrottling ||= throttled
      return { first_ms: BLIND_PAUSE_MS * (0.5 + Math.random()), every_ms: BLIND_PAUSE_MS }
    }
  }

  /** The ledger and the app's row are asked first: a closed event takes no face. */
  async #createCollection(event_id: string, collection: string): Promise<boolean> {
    const { database, rekognition } = this.#parts
    const may = await database.may_create_collection({ event: event_id })
    if (!may) return false
    const result = await ensureCollection(rekognition, collection)
    logger.warn('the collection was missing', { event_id, collection, result })
    count('CollectionsMissing')
    const standing = await database.collections_done({
      results: [{ event_id, result }],
      quiet_seconds: CLOSING_QUIET_SECONDS,
    })
    return standing[event_id] === 'ready'
  }
}

/** Runs each key's work once and shares its result; a failed one is run again for who asks next. */
function once<T>(): (key: string, run: () => Promise<T>) => Promise<T> {
  const running = new Map<string, Promise<T>>()
  return (key, run) => {
    const existing = running.get(key)
    if (existing) return existing
    const started = run().catch((error) => {
      running.delete(key)
      throw error
    })
    running.set(key, started)
    return started
  }
}

/** Runs so many at once; the others wait in line. */
function atMost<Input, Output>(
  places: number,
  run: (input: Input) => Promise<Output>,
): (input: Input) => Promise<Output> {
  const line: (() => void)[] = []
  let free = places
  return async (input) => {
    if (free > 0) free--
    else await new Promise<void>((enter) => line.push(enter))
    try {
      return await run(input)
    } finally {
      const enter = line.shift()
      if (enter) enter()
      else free++
    }
  }
}

function report({ result, failure }: Attempt): void {
  const { event_id, user_id, outcome, reason } = result
  count('IndexFacesCalls', result.index_calls)
  if (outcome === 'indexed') count('Indexed')
  if (outcome === 'erased') count('Erased')
  if (outcome === 'skipped') countBy('Skipped', 'reason', reason ?? 'unknown')
  if (!failure) return
  countBy('FailedAttempts', 'reason', failure.kind)
  const about = { event_id, user_id, outcome, reason: failure.kind, error: failure.message }
  if (failure.kind === 'denied' || failure.kind === 'photo_unreadable')
    logger.critical('AWS denies a call: check the permissions of the role, and the region', about)
  else if (failure.kind === 'quota_exceeded')
    logger.critical('the collection holds as many faces as the account may have: ask for more quota', about)
  else logger.warn('could not update the collection for an attendee', about)
}

async function delayRejected(
  records: SQSRecord[],
  settled: PromiseSettledResult<void>[],
  parts: Pick<WorkerParts, 'sqs' | 'settings'>,
): Promise<void> {
  const delays = new Map<string, Delay[]>()
  settled.forEach((outcome, index) => {
    const record = records[index]
    if (outcome.status === 'fulfilled' || !record) return
    const queueUrl = queueUrlOf(record, parts.settings)
    const delay = { receiptHandle: record.receiptHandle, seconds: (outcome.reason as Again).seconds }
    delays.set(queueUrl, [...(delays.get(queueUrl) ?? []), delay])
  })
  try {
    for (const [queueUrl, ofQueue] of delays) await delayMessages(parts.sqs, queueUrl, ofQueue)
  } catch (error) {
    logger.warn('messages come again only after the visibility timeout', { error: String(error) })
  }
}

/** The queue that a record came from: the urgent one, or the work queue. */
function queueUrlOf(record: SQSRecord, settings: Pick<Settings, 'workQueueUrl' | 'urgentQueueUrl'>): string {
  const name = record.eventSourceARN.split(':').at(-1)
  return settings.urgentQueueUrl.endsWith(`/${name}`) ? settings.urgentQueueUrl : settings.workQueueUrl
}

/** All messages of a batch come again, since nothing could be done: the worker has no database. */
export async function returnAll(
  records: SQSRecord[],
  error: unknown,
  parts: Pick<WorkerParts, 'sqs' | 'settings'>,
): Promise<PromiseSettledResult<void>[]> {
  const settled = records.map((record) =>
    settle({ kind: 'retry', why: 'database', reason: String(error) }, record, parts.settings.maxReceives),
  )
  await delayRejected(records, settled, parts)
  return settled
}
