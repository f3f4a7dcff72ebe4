import type { RekognitionClient } from '@aws-sdk/client-rekognition'
import type { SQSClient } from '@aws-sdk/client-sqs'
import * as z from 'zod'
import { dropCollection, ensureCollection, isThrottling, listFaces } from '../core/collection.ts'
import type { CollectionResult, Database } from '../core/database.ts'
import { count, logger } from '../core/log.ts'
import { collectionId, type Settings } from '../core/settings.ts'
import { pause, type Remaining } from '../core/time.ts'
import { emptyOutbox, type OutboxReport } from './outbox.ts'

export interface SchedulerParts {
  settings: Pick<Settings, 'collectionPrefix' | 'indexFacesTps' | 'workQueueUrl'>
  database: Database
  rekognition: RekognitionClient
  sqs: SQSClient
}

/** What a run did, and what it left for a later one. */
export interface SchedulerReport {
  events_claimed: number
  jobs_written: number
  messages_sent: number
  swept: number
  /** Events in progress that will not be done before they start, at the present pace. */
  late_events: number
  left_for_later: { jobs: number; collections: number; because: string[] }
}

/** Thrown for an invocation that asks for something it may not. */
export class RequestError extends Error {
  override name = 'RequestError'
}

export const DEFAULT_WINDOW_MINUTES = 20

const request = z.object({
  window_minutes: z
    .number({ error: 'window_minutes must be a number from 0 to 10080' })
    .min(0, 'window_minutes must be a number from 0 to 10080')
    .max(10_080, 'window_minutes must be a number from 0 to 10080')
    .default(DEFAULT_WINDOW_MINUTES),
})

/**
 * Reads what a run is asked for: `{"window_minutes": 20}`, 20 when left out.
 * @throws {RequestError}
 */
export function readRequest(event: unknown): { windowMinutes: number } {
  const read = request.safeParse(event ?? {})
  if (!read.success) throw new RequestError(read.error.issues.map((issue) => issue.message).join('; '))
  return { windowMinutes: read.data.window_minutes }
}

const JOBS_PAGE = 5_000 // written in some tenths of a second, far from the API's statement timeout
const CHANGES_PAGE = 5_000
const COLLECTIONS_PAGE = 25
const COLLECTION_LANES = 5 // CreateCollection has a quota of its own, of some few a second
const THROTTLED_MS = 1_000
const LOST_AFTER_SECONDS = 300 // more than what lies in the queue takes; half as much again is more than the longest backoff
/** What a run leaves of its time. */
export const RESERVE_MS = 12_000 // for the slowest call that may be under way when the time is up

/**
 * One run: claims the events that are due, makes sure of their collections, writes their jobs and sends what the outbox
 * holds, until it is empty or the time is nearly up. Runs may overlap and may die anywhere.
 */
export async function schedule(
  windowMinutes: number,
  parts: SchedulerParts,
  remaining: Remaining,
): Promise<SchedulerReport> {
  const { database } = parts
  const timeIsUp = () => remaining() < RESERVE_MS

  const swept = await database.sweep(LOST_AFTER_SECONDS)
  // Before the claim, so that what it sees by itself is not looked at a second time.
  const changes = await writeJobs(() => database.absorb(CHANGES_PAGE), timeIsUp)
  const { events } = await database.claim(windowMinutes, parts.settings.indexFacesTps)

  const collections = { failed: 0, errors: [] as string[] }
  const outbox: OutboxReport = { sent: 0, left: 0, errors: [] }
  let written = 0
  let more = false
  // A few collections at a time, the soonest event's first: workers are at work on these while the next are made.
  do {
    const { results, wanted } = await tendCollections(parts)
    more = wanted === COLLECTIONS_PAGE
    const errors = results.flatMap(({ error }) => error ?? [])
    collections.failed += errors.length
    collections.errors.push(...errors)
    const { written: jobs, sent, left, errors: unsent } = await fanOut(parts, timeIsUp)
    written += jobs
    outbox.sent += sent
    outbox.left = left
    outbox.errors.push(...unsent)
  } while (more && !timeIsUp())
  if (outbox.errors.length > 0)
    logger.error('SQS did not take messages', {
      messages: outbox.errors.length,
      error: outbox.errors[0] ?? '',
    })

  const late = await sayWhoIsLate(parts)

  count('Claimed', events.length)
  count('Sent', outbox.sent)
  count('Swept', swept.jobs)
  count('Failed', swept.failed)
  const report: SchedulerReport = {
    events_claimed: events.length,
    jobs_written: changes + written,
    messages_sent: outbox.sent,
    swept: swept.jobs,
    late_events: late,
    left_for_later: {
      jobs: outbox.left + outbox.errors.length,
      collections: collections.failed,
      because: [...new Set([...collections.errors, ...outbox.errors])],
    },
  }
  logger.info('scheduler run', { ...report })
  return report
}

async function sayWhoIsLate({ database, settings }: SchedulerParts): Promise<number> {
  const late = (await database.forecast(settings.indexFacesTps)).filter((event) => event.late)
  for (const { event_id, starts_at, done_at, open } of late) {
    logger.error('an event will not be ready before its start', { event_id, starts_at, done_at, open })
  }
  count('LateEvents', late.length)
  return late.length
}

/** Writes the jobs of claimed events, and sends them while others are written. */
async function fanOut(
  parts: SchedulerParts,
  timeIsUp: () => boolean,
): Promise<OutboxReport & { written: number }> {
  let page: Promise<unknown> | undefined
  const writing = writeJobs(() => {
    const next = parts.database.expand(JOBS_PAGE)
    page = next
    return next
  }, timeIsUp).finally(() => {
    page = undefined
  })
  const [written, outbox] = await Promise.all([writing, emptyOutbox(parts, timeIsUp, () => page)])
  return { ...outbox, written }
}

/** Writes jobs page after page, until there are no more or the time is up; returns how many. */
async function writeJobs(
  nextPage: () => Promise<{ jobs: number; more: boolean }>,
  timeIsUp: () => boolean,
): Promise<number> {
  let written = 0
  for (let more = true; more && !timeIsUp(); ) {
    const page = await nextPage()
    written += page.jobs
    more = page.more
  }
  return written
}

/** Creates and deletes a few of the collections that want it; returns how many these were, and what became of each. */
async function tendCollections(
  parts: SchedulerParts,
): Promise<{ wanted: number; results: CollectionResult[] }> {
  const { database, rekognition, settings } = parts
  const handed = await database.collections(COLLECTIONS_PAGE)
  const tasks = [
    ...handed.delete.map((event_id) => ({ event_id, act: 'delete' as const })),
    ...handed.create.map((event_id) => ({ event_id, act: 'create' as const })),
  ]
  const wanted = tasks.length
  let patience = wanted
  const results: CollectionResult[] = []
  const lane = async () => {
    for (let task = tasks.shift(); task; task = tasks.shift()) {
      const { event_id, act } = task
      const collection = collectionId(settings, event_id)
      try {
        if (act === 'create') {
          const result = await ensureCollection(rekognition, collection)
          if (result === 'exists') await takeOver(event_id, parts)
          results.push({ event_id, result })
        } else {
          await dropCollection(rekognition, collection)
          results.push({ event_id, result: 'deleted' })
        }
      } catch (error) {
        if (isThrottling(error)) {
          // Not its fault: it keeps its turn, or has the next one when it is handed out again after a minute.
          if (patience-- > 0) tasks.push(task)
          await pause(THROTTLED_MS)
          continue
        }
        logger.error(`could not ${act} the collection`, { event_id, collection, error: error as Error })
        results.push({ event_id, result: 'failed', error: String(error) })
      }
    }
  }
  await Promise.all(Array.from({ length: COLLECTION_LANES }, lane))
  if (results.length > 0) await database.collectionsDone(results)
  return { wanted, results }
}

const FOUND_PAGE = 5_000
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/** Has the attendees looked at whose faces are in a collection that was there before: not all of them may consent. */
async function takeOver(
  event_id: string,
  { database, rekognition, settings }: SchedulerParts,
): Promise<void> {
  const collection = collectionId(settings, event_id)
  const names = [...(await listFaces(rekognition, collection)).keys()]
  const users = names.filter((name) => UUID.test(name))
  for (let start = 0; start < users.length; start += FOUND_PAGE)
    await database.foundFaces(event_id, users.slice(start, start + FOUND_PAGE))
  if (users.length < names.length)
    logger.warn('a collection has faces whose ExternalImageId is no user id: they are left there', {
      event_id,
      collection,
      external_image_ids: names.length - users.length,
    })
}
