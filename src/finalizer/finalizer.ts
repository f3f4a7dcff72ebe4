import type { SQSRecord } from 'aws-lambda'
import type { DeadLetter } from '../core/contract.ts'
import { type Database, DatabaseError } from '../core/database.ts'
import { count, logger } from '../core/log.ts'
import { type JobRef, MessageError, readMessage } from '../core/message.ts'

/**
 * Handles a batch from the dead-letter queue: ends the jobs as failed and settles their events; keeps what cannot be read or
 * what the database refuses. With the database away it throws, and the dead letters stay in their queue.
 */
export async function finalize(records: SQSRecord[], { database }: { database: Database }): Promise<void> {
  const letters: { job: JobRef; record: SQSRecord }[] = []
  const unreadable: DeadLetter[] = []
  for (const record of records) {
    try {
      letters.push({ job: readMessage(record.body), record })
    } catch (error) {
      if (!(error instanceof MessageError)) throw error
      unreadable.push(asDeadLetter(record, error.message))
    }
  }

  try {
    await fail(
      letters.map(({ job }) => job),
      database,
    )
  } catch (error) {
    if (!(error instanceof DatabaseError && error.refusesData)) throw error
    // One of them is bad: each on its own, so that it does not keep the others out.
    for (const { job, record } of letters) {
      try {
        await fail([job], database)
      } catch (refusal) {
        if (!(refusal instanceof DatabaseError && refusal.refusesData)) throw refusal
        unreadable.push(asDeadLetter(record, refusal.message))
      }
    }
  }

  if (unreadable.length > 0) {
    const kept = await database.keep_dead_letters({ letters: unreadable })
    count('Unreadable', kept)
    logger.error('dead letters that are no messages of ours are kept in indexing.dead_letters', { kept })
  }
}

async function fail(letters: JobRef[], database: Database): Promise<void> {
  if (letters.length === 0) return
  const { failed, requeued } = await database.fail_dead_letters({ letters })
  count('JobsFailed', failed)
  count('Requeued', requeued)
  if (failed > 0) logger.error('jobs have failed: see their errors in the ledger', { failed })
}

// Postgres has no text with NUL in it.
const asDeadLetter = (record: SQSRecord, problem: string): DeadLetter => ({
  message_id: record.messageId,
  body: record.body.replaceAll('\0', '\uFFFD'),
  attributes: { ...record.attributes },
  problem: problem.replaceAll('\0', '\uFFFD'),
})
