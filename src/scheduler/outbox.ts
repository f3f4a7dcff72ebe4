import type { SQSClient } from '@aws-sdk/client-sqs'
import type { Database } from '../core/database.ts'
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
const SEND_LANES = 4 // requests under way for each of the two pages
const QUEUE_SECONDS = 180 // of work in the queue at most, so that the order of the rest stays ours

/** Sends page after page, two at once: while SQS takes one, the database hands out the other. */
export async function emptyOutbox(
  { database, settings, sqs }: OutboxParts,
  timeIsUp: () => boolean,
): Promise<OutboxReport> {
  const inFlight = Math.max(100, Math.ceil(settings.indexFacesTps * QUEUE_SECONDS))
  const errors: string[] = []
  let sent = 0
  let left = 0
  const lane = async () => {
    let page = await database.nextPage(SEND_PAGE, inFlight)
    while (page.jobs.length > 0) {
      const unsent = await sendJobs(sqs, settings.workQueueUrl, page.jobs, SEND_LANES)
      sent += page.jobs.length - unsent.length
      errors.push(...unsent.map(({ error }) => error))
      page = await database.nextPage(
        timeIsUp() ? 0 : SEND_PAGE,
        inFlight,
        page.token,
        unsent.map(({ job }) => job),
      )
    }
    left = page.left
  }
  await Promise.all([lane(), lane()])
  return { sent, left, errors }
}
