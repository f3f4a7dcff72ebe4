import { randomUUID } from 'node:crypto'
import type { RekognitionClient } from '@aws-sdk/client-rekognition'
import type { SQSClient } from '@aws-sdk/client-sqs'
import type { SQSRecord } from 'aws-lambda'
import { CALL_TIMEOUT_MS, ensureCollection, type Listing, listFaces } from '../core/collection.ts'
import { type Database, type Next, QUIET_SECONDS } from '../core/database.ts'
import { count, countBy, logger, observe } from '../core/log.ts'
import { type Attendee, attendeeKey, type JobRef, MessageError, readMessage } from '../core/message.ts'
import { type Backoff, backOff } from '../core/queue.ts'
import { collectionId, type Settings } from '../core/settings.ts'
import type { Remaining } from '../core/time.ts'
import { type Attempt, type Calls, followAttendee } from './attendee.ts'
import { backoffSeconds } from './backoff.ts'
import { Pace, type Slots } from './pace.ts'

export interface WorkerParts {
  settings: Pick<
    Settings,
    'collectionPrefix' | 'photoBucket' | 'indexFacesTps' | 'workQueueUrl' | 'maxReceives'
  >
  database: Database
  rekognition: RekognitionClient
  sqs: SQSClient
}

/** A record that has to come again: after so many seconds, for this reason. */
class Again extends Error {
  override name = 'Again'
  readonly seconds: number

  constructor(seconds: number, reason: string) {
    super(reason)
    this.seconds = seconds
  }
}

/** Between calls when Rekognition throttles and the database, which knows the pace, is away. */
const BLIND_REST_MS = 2_000

/** After the last call could be begun: the call itself, and `finish` with its repetitions. */
const RESERVE_MS = CALL_TIMEOUT_MS + 5_000

/**
 * Handles a batch from the work queue: one `begin`, the calls side by side at the pace it gave, one `finish`.
 * Returns what `Promise.allSettled` returns, in the order of the records: a rejected record comes again after a backoff.
 */
export async function work(
  records: SQSRecord[],
  parts: WorkerParts,
  remaining: Remaining,
): Promise<PromiseSettledResult<void>[]> {
  const jobs: JobRef[] = []
  const keys = records.map((record) => {
    try {
      const job = readMessage(record.body)
      jobs.push(job)
      return attendeeKey(job)
    } catch (error) {
      if (error instanceof MessageError) return error
      throw error
    }
  })

  const problems = await workOff(jobs, parts, remaining)
  const settled = keys.map((key, index): PromiseSettledResult<void> => {
    const record = records[index]
    const received = Number(record?.attributes.ApproximateReceiveCount ?? 1)
    if (key instanceof MessageError) {
      // It will not get better: at once, until it reaches the dead-letter queue.
      return { status: 'rejected', reason: new Again(0, key.message) }
    }
    const problem = problems.get(key)
    if (!problem) return { status: 'fulfilled', value: undefined }
    return {
      status: 'rejected',
      reason: new Again(backoffSeconds(problem.kind, received, parts.settings.maxReceives), problem.message),
    }
  })
  await backOffRejected(records, settled, parts)
  return settled
}

type Problem = Pick<NonNullable<Attempt['failure']>, 'message'> & {
  kind: Parameters<typeof backoffSeconds>[0]
}

/** Works on jobs until each has an end or has to come again; returns the latter by attendee. */
async function workOff(
  jobs: JobRef[],
  parts: WorkerParts,
  remaining: Remaining,
): Promise<Map<string, Problem>> {
  const problems = new Map<string, Problem>()
  let open = jobs
  while (open.length > 0) {
    try {
      const { attempts, nexts } = await workOnce(open, parts, remaining)
      for (const next of nexts) {
        const failure = attempts.get(attendeeKey(next))?.failure
        if (next.next === 'retry') {
          problems.set(
            attendeeKey(next),
            failure ?? { kind: 'unavailable', message: 'a face could not be deleted' },
          )
        }
      }
      // The world changed while we were at it: at once, and else through the outbox, where these are queued already.
      open = remaining() > RESERVE_MS ? nexts.filter((next) => next.next === 'again') : []
    } catch (error) {
      logger.error('the batch comes again', {
        error: error instanceof Error ? error : String(error),
        jobs: open.length,
      })
      for (const job of open) problems.set(attendeeKey(job), { kind: 'database', message: String(error) })
      open = []
    }
  }
  return problems
}

async function workOnce(
  jobs: JobRef[],
  parts: WorkerParts,
  remaining: Remaining,
): Promise<{ attempts: Map<string, Attempt>; nexts: Next[] }> {
  const { database, settings } = parts
  const token = randomUUID()
  const leaseSeconds = remaining() / 1000 + QUIET_SECONDS
  const { jobs: tasks, pace } = await database.begin(
    jobs.map(({ event_id, user_id, version }) => ({ event_id, user_id, version })),
    token,
    leaseSeconds,
    settings.indexFacesTps,
  )
  const toDo = tasks.filter((task) => task.action !== 'none')
  if (toDo.length === 0) return { attempts: new Map(), nexts: [] }

  let throttled = 0
  let unsaid = false // that Rekognition throttled
  const renew = (slots: number): Promise<Slots> =>
    database.throttled(slots, settings.indexFacesTps).then(slotsOf, () => {
      unsaid = true
      return { firstMs: BLIND_REST_MS * (0.5 + Math.random()), everyMs: BLIND_REST_MS }
    })
  const callsFor = callsOfBatch(parts, {
    remaining: () => remaining() - RESERVE_MS,
    pace: new Pace(slotsOf(pace), renew),
    onThrottled: () => throttled++,
  })
  const attempts = await Promise.all(toDo.map((task) => followAttendee(task, callsFor(task))))
  for (const attempt of attempts) report(attempt)
  count('Throttled', throttled)

  const asked = new Set(jobs.map(attendeeKey))
  const results = attempts.map(({ result }) =>
    // Given in place of a less urgent one: no message of its own would bring it back.
    result.outcome === 'retry' && !asked.has(attendeeKey(result))
      ? { ...result, outcome: 'later' as const }
      : result,
  )
  // What was done here would be done again by whoever comes next.
  const persist = () => remaining() > 12_000 // for a pause and a call without an answer
  const nexts = await database.finish(token, results, unsaid, settings.indexFacesTps, persist)
  return { attempts: new Map(attempts.map((attempt) => [attendeeKey(attempt.result), attempt])), nexts }
}

const slotsOf = ({ first_ms, every_ms }: { first_ms: number; every_ms: number }): Slots => ({
  firstMs: first_ms,
  everyMs: every_ms,
})

/** What the calls of a batch share: per event one listing, and one making of a missing collection. */
function callsOfBatch(
  parts: WorkerParts,
  shared: Pick<Calls, 'remaining' | 'pace' | 'onThrottled'>,
): (attendee: Attendee) => Calls {
  const { database, rekognition, settings } = parts
  const listings = once<Listing>()
  const makings = once<boolean>()
  return ({ event_id }: Attendee) => {
    const collection = collectionId(settings, event_id)
    return {
      ...shared,
      rekognition,
      bucket: settings.photoBucket,
      collection,
      list: () => listings(event_id, () => listFaces(rekognition, collection)),
      makeCollection: () =>
        makings(event_id, async () => {
          const result = await ensureCollection(rekognition, collection)
          logger.warn('the collection was missing', { event_id, collection, result })
          const standing = await database.collectionsDone([{ event_id, result }])
          return standing[event_id] === 'ready'
        }),
      onIndexCall: (ms) => observe('IndexFacesLatency', ms),
    }
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

function report({ result, failure }: Attempt): void {
  const { event_id, user_id, outcome, reason } = result
  count('IndexFacesCalls', result.calls)
  if (outcome === 'indexed') count('Indexed')
  if (outcome === 'erased') count('Erased')
  if (outcome === 'skipped') countBy('Skipped', 'reason', reason ?? 'unknown')
  if (!failure || failure.kind === 'photo_unusable') return
  const said = { event_id, user_id, outcome, error: failure.message }
  if (failure.kind === 'denied')
    logger.critical('Rekognition denies us a call: check the permissions of the role', said)
  else logger.warn('an attendee could not be followed', said)
}

async function backOffRejected(
  records: SQSRecord[],
  settled: PromiseSettledResult<void>[],
  { sqs, settings }: WorkerParts,
): Promise<void> {
  const backoffs = settled.flatMap((outcome, index): Backoff[] => {
    const record = records[index]
    if (outcome.status === 'fulfilled' || !record) return []
    return [{ receiptHandle: record.receiptHandle, seconds: (outcome.reason as Again).seconds }]
  })
  try {
    await backOff(sqs, settings.workQueueUrl, backoffs)
  } catch (error) {
    logger.warn('messages come again only after the visibility timeout', { error: String(error) })
  }
}
