import type { SQSClient } from '@aws-sdk/client-sqs'
import type { Database } from '../core/database.ts'
import type { JobRef } from '../core/message.ts'
import { sendJobs } from '../core/queue.ts'
import type { Settings } from '../core/settings.ts'

export interface OutboxParts {
  settings: Pick<Settings, 'indexFacesTps' | 'workQueueUrl'>
  database: Pick<Database, 'nextPage'>
  sqs: SQSClient
}

/** What was sent, what is queued for later, and what SQS said of each message that it did not take; these are sent after a minute. */
export interface OutboxReport {
  sent: number
  left: number
  errors: string[]
}

const SEND_PAGE = 1_000
const SEND_LANES = 8 // requests under way for each of the two pages
const QUEUE_SECONDS = 180 // of work in the queue at most, so that the order of the rest stays ours

/**
 * Sends page after page, two at once: while SQS takes one, the database hands out the other.
 * @param writing what is still being written to the outbox: when it is empty, that is waited for; undefined: no more comes
 */
export async function emptyOutbox(
  { database, settings, sqs }: OutboxParts,
  timeIsUp: () => boolean,
  writing: () => Promise<unknown> | undefined = () => undefined,
): Promise<OutboxReport> {
  const inFlight = Math.max(100, Math.ceil(settings.indexFacesTps * QUEUE_SECONDS))
  let room: number | null = null
  const report: OutboxReport = { sent: 0, left: 0, errors: [] }
  const lane = async () => {
    let sent: string | null = null
    let unsent: JobRef[] = []
    for (;;) {
      const more = writing()
      const page = await database.nextPage(timeIsUp() ? 0 : SEND_PAGE, inFlight, room, sent, unsent)
      room = room === null ? page.room : Math.max(room - page.jobs.length, 0)
      report.left = page.left
      if (page.jobs.length === 0) {
        if (more === undefined) return
        await more
      }
      const failed = await sendJobs(sqs, settings.workQueueUrl, page.jobs, SEND_LANES)
      report.sent += page.jobs.length - failed.length
      report.errors.push(...failed.map(({ error }) => error))
      sent = page.token
      unsent = failed.map(({ job }) => job)
    }
  }
  await Promise.all([lane(), lane()])
  return report
}
