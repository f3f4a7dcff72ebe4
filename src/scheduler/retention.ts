import type { Database } from '../core/database.ts'
import { count, gauge, logger } from '../core/log.ts'
import { KEEP_DAYS, RECEIPT_DAYS } from '../core/policy.ts'

const PAGE = 1_000

/** Calls again for as long as there is more and time. */
async function inPages<Answer extends { more: boolean }>(
  call: () => Promise<Answer>,
  timeIsUp: () => boolean,
  use: (answer: Answer) => void,
): Promise<void> {
  for (let more = true; more && !timeIsUp(); ) {
    const answer = await call()
    use(answer)
    more = answer.more
  }
}

/**
 * Makes receipts of the erasures that have ended. The head of their chain goes into the log, where whoever could change the
 * table cannot change it.
 */
export function sealReceipts(
  database: Pick<Database, 'seal_receipts'>,
  timeIsUp: () => boolean,
): Promise<void> {
  return inPages(
    () => database.seal_receipts({ page: PAGE }),
    timeIsUp,
    ({ sealed, seconds, position, hash }) => {
      if (sealed === 0) return
      logger.info('receipts of erasures', { receipts: sealed, position, hash })
      for (const each of seconds) gauge('ErasureSeconds', each, 'Seconds')
    },
  )
}

/** Has the collections of events that ended long enough ago deleted, if that is set, and says so in the app's cleanup_status. */
export function cleanUp(database: Pick<Database, 'cleanup'>, timeIsUp: () => boolean): Promise<void> {
  return inPages(
    () => database.cleanup({ page: PAGE }),
    timeIsUp,
    ({ closing, completed, found }) => {
      count('CleanedUp', completed)
      if (closing + completed > 0) logger.info('events are cleaned up', { closing, completed })
      if (found > 0)
        logger.warn('events were closed, deleted or put back, and no trigger told of it', { events: found })
    },
  )
}

/** Deletes rows that nobody needs any more. */
export function prune(database: Pick<Database, 'prune'>, timeIsUp: () => boolean): Promise<void> {
  return inPages(
    () => database.prune({ keep_days: KEEP_DAYS, receipt_days: RECEIPT_DAYS, page: PAGE }),
    timeIsUp,
    ({ more: _, ...pruned }) => {
      if (Object.values(pruned).some((rows) => rows > 0)) logger.info('old rows are deleted', pruned)
    },
  )
}
