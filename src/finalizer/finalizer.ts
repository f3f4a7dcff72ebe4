import type { SQSRecord } from 'aws-lambda'
import type { Database, DeadLetter } from '../core/database.ts'
import { count, logger } from '../core/log.ts'
import { attendeeKey, type JobRef, MessageError, readMessage } from '../core/message.ts'

/**
 * Handles a batch from the dead-letter queue: ends the jobs as failed and settles their events; keeps what is no message of
 * ours. With the database away it throws, and the dead letters stay in their queue.
 */
export async function finalize(records: SQSRecord[], { database }: { database: Database }): Promise<void> {
  const jobs = new Map<string, JobRef>()
  const strangers: DeadLetter[] = []
  for (const record of records) {
    try {
      const job = readMessage(record.body)
      const key = attendeeKey(job)
      if (job.version >= (jobs.get(key)?.version ?? 0)) jobs.set(key, job)
    } catch (error) {
      if (!(error instanceof MessageError)) throw error
      strangers.push({
        message_id: record.messageId,
        body: record.body,
        attributes: { ...record.attributes },
        problem: error.message,
      })
    }
  }

  if (strangers.length > 0) {
    const kept = await database.keepDeadLetters(strangers)
    count('Unreadable', kept)
    logger.error('dead letters that are no messages of ours are kept in indexing.dead_letters', { kept })
  }
  if (jobs.size > 0) {
    const { failed, requeued } = await database.bury([...jobs.values()])
    count('Failed', failed)
    count('Requeued', requeued)
    if (failed > 0) logger.error('jobs have failed: see their errors in the ledger', { failed })
  }
}
