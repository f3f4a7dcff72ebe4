import type { SQSClient } from '@aws-sdk/client-sqs'
import type { Database } from '../core/database.ts'
import type { Attendee } from '../core/message.ts'
import { QUEUE_SECONDS, URGENT_QUEUE_SECONDS } from '../core/policy.ts'
import { sendJobs } from '../core/queue.ts'
import type { Settings } from '../core/settings.ts'

export interface OutboxParts {
  settings: Pick<Settings, 'indexFacesTps' | 'workQueueUrl' | 'urgentQueueUrl'>
  database: Pick<Database, 'take_send_batch'>
  sqs: SQSClient
}

/** What was sent, what is queued for later, and the errors of messages that SQS did not take: these are queued again. */
export interface OutboxReport {
  sent: number
  left: number
  errors: string[]
}

const SEND_BATCH = 1_000
const LEAST_CAP = 100

/** How many messages may lie in each queue, at so many IndexFaces calls a second. */
export const queueCaps = (tps: number) => ({
  work_cap: Math.max(LEAST_CAP, Math.ceil(tps * QUEUE_SECONDS)),
  urgent_cap: Math.max(LEAST_CAP, Math.ceil(tps * URGENT_QUEUE_SECONDS)),
})

/**
 * Sends batch after batch until the outbox is empty, the queues are full, SQS refuses or the time is up. Two batches are under
 * way: while SQS takes one, the database hands out the other.
 * @param writing what is still being written to the outbox: when it is empty, that is waited for; undefined: no more comes
 */
export async function emptyOutbox(
  { database, settings, sqs }: OutboxParts,
  timeIsUp: () => boolean,
  writing: () => Promise<unknown> | undefined = () => undefined,
): Promise<OutboxReport> {
  const caps = queueCaps(settings.indexFacesTps)
  const report: OutboxReport = { sent: 0, left: 0, errors: [] }

  const loop = async () => {
    let sent: number | null = null
    let unsent: Attendee[] = []
    for (;;) {
      const more = writing()
      const stop = timeIsUp() || report.errors.length > 0
      const batch = await database.take_send_batch({ page: stop ? 0 : SEND_BATCH, ...caps, sent, unsent })
      report.left = batch.left
      if (batch.jobs.length === 0) {
        if (more === undefined || stop) return
        await more
      }
      const failed = (
        await Promise.all([
          sendJobs(
            sqs,
            settings.urgentQueueUrl,
            batch.jobs.filter(({ urgent }) => urgent),
          ),
          sendJobs(
            sqs,
            settings.workQueueUrl,
            batch.jobs.filter(({ urgent }) => !urgent),
          ),
        ])
      ).flat()
      report.sent += batch.jobs.length - failed.length
      report.errors.push(...failed.map(({ error }) => error))
      sent = batch.send_batch
      unsent = failed.map(({ job: { event_id, user_id } }) => ({ event_id, user_id }))
    }
  }
  await Promise.all([loop(), loop()])
  return report
}
