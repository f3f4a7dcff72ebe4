import type { RekognitionClient } from '@aws-sdk/client-rekognition'
import type { SQSClient } from '@aws-sdk/client-sqs'
import { type Database, DatabaseError, requireSchemaVersion } from '../core/database.ts'
import { count, gauge, logger } from '../core/log.ts'
import type { PhotoStore } from '../core/photo-store.ts'
import { LOST_AFTER_SECONDS, SCHEDULER_RESERVE_MS, SEND_BATCH_SECONDS } from '../core/policy.ts'
import type { Settings } from '../core/settings.ts'
import type { Remaining } from '../core/time.ts'
import * as z from '../core/zod.ts'
import { COLLECTIONS_PAGE, tendCollections } from './collections.ts'
import { emptyOutbox, type OutboxReport } from './outbox.ts'
import { reconcileDue, reportOrphans } from './reconcile.ts'
import { cleanUp, prune, sealReceipts } from './retention.ts'

export interface SchedulerParts {
  settings: Pick<
    Settings,
    | 'collectionPrefix'
    | 'indexFacesTps'
    | 'maxFailedShare'
    | 'workQueueUrl'
    | 'urgentQueueUrl'
    | 'cleanupAfterHours'
    | 'severalFaces'
    | 'convertPhotos'
  >
  database: Database
  rekognition: RekognitionClient
  photos: PhotoStore
  sqs: SQSClient
}

/** What a run did, and what it left for a later one. */
export interface SchedulerReport {
  events_claimed: number
  /** Events that are due, but whose rows the app holds locked. */
  events_locked: number
  jobs_written: number
  messages_sent: number
  rescued: number
  reconciled: { events: number; differences: number }
  /** Events in progress that will not be done before they start, at the present pace. */
  late_events: number
  left_for_later: { jobs: number; collections: number; because: string[] }
  /** Steps that failed, each with its error; the others were done all the same. */
  failed_steps: Record<string, string>
}

/** Thrown for an invocation that asks for something it may not. */
export class RequestError extends Error {
  override name = 'RequestError'
}

export const DEFAULT_WINDOW_MINUTES = 20

const WINDOW = 'window_minutes must be a number from 0 to 10080'

const request = z.object({
  window_minutes: z._default(
    z.number(WINDOW).check(z.minimum(0, WINDOW), z.maximum(10_080, WINDOW)),
    DEFAULT_WINDOW_MINUTES,
  ),
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
/** The share of a run's time that changes may take before the other steps had their turn. */
const CHANGES_SHARE = 0.3
const FIRST_CHANGES_MS = 10_000

/**
 * One run: rescue, erasures, claim, collections, fan out, send; then the other changes, reconcile, receipts, clean-up and the
 * report. Runs may overlap and may die anywhere. A step that fails is reported, and the run goes on.
 * @throws {SchemaVersionError} and what the first call of the database throws
 */
export async function schedule(
  windowMinutes: number,
  parts: SchedulerParts,
  remaining: Remaining,
): Promise<SchedulerReport> {
  return new Run(windowMinutes, parts, remaining).run()
}

class Run {
  readonly #windowMinutes: number
  readonly #parts: SchedulerParts
  readonly #remaining: Remaining
  readonly #report: SchedulerReport = {
    events_claimed: 0,
    events_locked: 0,
    jobs_written: 0,
    messages_sent: 0,
    rescued: 0,
    reconciled: { events: 0, differences: 0 },
    late_events: 0,
    left_for_later: { jobs: 0, collections: 0, because: [] },
    failed_steps: {},
  }

  constructor(windowMinutes: number, parts: SchedulerParts, remaining: Remaining) {
    this.#windowMinutes = windowMinutes
    this.#parts = parts
    this.#remaining = remaining
  }

  async run(): Promise<SchedulerReport> {
    const { database, photos, settings } = this.#parts
    const { schema_version } = await database.start_run({
      tps: settings.indexFacesTps,
      max_failed_share: settings.maxFailedShare,
      cleanup_after_hours: settings.cleanupAfterHours ?? null,
      collection_prefix: settings.collectionPrefix,
      photo_bucket: photos.bucket,
      several_faces: settings.severalFaces,
      convert_photos: settings.convertPhotos,
    })
    requireSchemaVersion(schema_version)

    await this.#step('rescue', () => this.#rescue())
    await this.#step('process erasures', () => this.#processChanges(true))
    // Some before the claim, so that what the claim sees by itself is not looked at a second time. The rest can wait.
    await this.#step('process first changes', () => this.#processChanges(false, FIRST_CHANGES_MS))
    await this.#step('claim', () => this.#claim())
    await this.#step('collections and fan out', () => this.#fanOutAll())
    await this.#step('process changes', () => this.#processChanges(false))
    await this.#step('reconcile', () => this.#reconcile())
    await this.#step('send', async () => this.#sent(await emptyOutbox(this.#parts, this.#timeIsUp)))
    await this.#step('receipts', () => sealReceipts(database, this.#timeIsUp))
    await this.#step('clean up', () => cleanUp(database, this.#timeIsUp))
    await this.#step('prune', () => prune(database, this.#timeIsUp))
    await this.#step('report orphans', () => reportOrphans(this.#parts))
    await this.#step('report', () => this.#measure())
    return this.#end()
  }

  readonly #timeIsUp = (): boolean => this.#remaining() < SCHEDULER_RESERVE_MS

  async #step(name: string, run: () => Promise<unknown>): Promise<void> {
    if (this.#timeIsUp()) return
    try {
      await run()
    } catch (error) {
      this.#report.failed_steps[name] = String(error)
      logger.error('a step of the scheduler failed: the others go on', { step: name, error: error as Error })
    }
  }

  async #rescue(): Promise<void> {
    const { jobs, failed } = await this.#parts.database.rescue({
      lost_after_seconds: LOST_AFTER_SECONDS,
      batch_seconds: SEND_BATCH_SECONDS,
    })
    this.#report.rescued = jobs
    count('Rescued', jobs)
    count('JobsFailed', failed)
  }

  /** Turns changes into jobs, page after page, until there are no more or their share of the time is used. */
  async #processChanges(erasing: boolean, forMs = this.#remaining() * CHANGES_SHARE): Promise<void> {
    const enough = this.#remaining() - forMs
    let page = CHANGES_PAGE
    let more = true
    while (more && this.#remaining() > enough && !this.#timeIsUp()) {
      try {
        const done = await this.#parts.database.process_changes({ erasing, page })
        this.#report.jobs_written += done.jobs
        more = done.more
      } catch (error) {
        // A page that takes too long is tried in smaller ones.
        if (!(error instanceof DatabaseError && error.code === '57014') || page === 1) throw error
        page = Math.max(1, Math.floor(page / 20))
      }
    }
  }

  async #claim(): Promise<void> {
    const { events, locked } = await this.#parts.database.claim({ window_minutes: this.#windowMinutes })
    this.#report.events_claimed = events.length
    this.#report.events_locked = locked.length
    count('Claimed', events.length)
    for (const event_id of locked)
      logger.warn('an event is due, but the app holds its row locked: it is claimed once it is free', {
        event_id,
      })
  }

  /** A page of collections at a time, the soonest event's first: its jobs are sent while the next are made. */
  async #fanOutAll(): Promise<void> {
    for (let more = true; more && !this.#timeIsUp(); ) {
      const { due, errors } = await tendCollections(this.#parts)
      more = due === COLLECTIONS_PAGE
      this.#report.left_for_later.collections += errors.length
      this.#report.left_for_later.because.push(...errors)
      await this.#fanOut()
    }
  }

  /** Writes the jobs of claimed events, and sends them while others are written. */
  async #fanOut(): Promise<void> {
    let page: Promise<unknown> | undefined
    const write = async () => {
      for (let more = true; more && !this.#timeIsUp(); ) {
        const next = this.#parts.database.fan_out({ page: JOBS_PAGE })
        page = next
        const written = await next
        this.#report.jobs_written += written.jobs
        more = written.more
      }
    }
    const writing = write().finally(() => {
      page = undefined
    })
    const [, outbox] = await Promise.all([writing, emptyOutbox(this.#parts, this.#timeIsUp, () => page)])
    this.#sent(outbox)
  }

  #sent({ sent, left, errors }: OutboxReport): void {
    this.#report.messages_sent += sent
    this.#report.left_for_later.jobs = left
    this.#report.left_for_later.because.push(...errors)
    count('MessagesRefused', errors.length)
    if (errors.length > 0)
      logger.error('SQS did not take messages', { messages: errors.length, error: errors[0] ?? '' })
  }

  async #reconcile(): Promise<void> {
    const { events, differences, errors } = await reconcileDue(this.#parts, this.#timeIsUp)
    this.#report.reconciled = { events, differences }
    if (errors[0] !== undefined) throw new Error(`${errors.length} events, the first: ${errors[0]}`)
    if (differences > 0) {
      await this.#processChanges(true)
      await this.#processChanges(false)
    }
  }

  async #measure(): Promise<void> {
    const { events, tps, rate } = await this.#parts.database.forecast({})
    gauge(
      'OpenJobs',
      events.reduce((sum, { open }) => sum + open, 0),
    )
    gauge('IndexFacesQuota', tps)
    gauge('IndexFacesPace', rate)
    const late = events.filter((event) => event.late)
    this.#report.late_events = late.length
    for (const { event_id, starts_at, done_at, open } of late)
      logger.error('an event will not be ready before its start', { event_id, starts_at, done_at, open })
    gauge('LateEvents', late.length)

    const health = await this.#parts.database.health({ window_minutes: this.#windowMinutes })
    gauge('FailedJobs', health.failed_jobs)
    gauge('FailedEvents', health.failed_events)
    gauge('CollectionsFailing', health.collections_failing)
    gauge('OverdueEvents', health.overdue_events)
    gauge('ErasureAge', health.erasure_age, 'Seconds')
    gauge('UnprovenErasureAge', health.unproven_age, 'Seconds')
    gauge('ChangeAge', health.change_age, 'Seconds')
    gauge('ChangesFull', health.full_changes)
  }

  #end(): SchedulerReport {
    const report = this.#report
    report.left_for_later.because = [...new Set(report.left_for_later.because)]
    count('MessagesSent', report.messages_sent)
    count('FailedSteps', Object.keys(report.failed_steps).length)
    logger.info('scheduler run', { ...report })
    return report
  }
}
