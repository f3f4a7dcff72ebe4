import { type Found, findOrphans, type ReconcileParts, reconcileEvent } from '../src/scheduler/reconcile.ts'
import type { Ledger } from './ledger.ts'
import { sendOutboxAndTell } from './outbox.ts'
import type { System } from './system.ts'

/** What the comparison of an event's collection has found. */
export interface Audited extends Found {
  event_id: string
}

const CHANGES_PAGE = 1_000

/** Whether the collection is not what it should be. */
export const differs = ({ differences, foreign, recreated }: Found): boolean =>
  recreated || foreign > 0 || Object.values(differences).some((n) => n > 0)

/** The events whose collection is there. */
export async function openCollections({ database }: Pick<Ledger, 'database'>): Promise<string[]> {
  const events: string[] = []
  for (;;) {
    const page = await database.open_collections({ after: events.at(-1) ?? null })
    events.push(...page)
    if (page.length === 0) return events
  }
}

/**
 * Compares the collections of these events with what they should be, one after another.
 * @param repair whether to queue a job for each difference; otherwise nothing is changed
 * @param tell told of each
 */
export async function auditEvents(
  events: string[],
  parts: ReconcileParts,
  repair: boolean,
  tell: (audited: Audited) => void = () => {},
): Promise<Audited[]> {
  const audited: Audited[] = []
  for (const event of events) {
    const [due] = await parts.database.reconcile_due({ page: 1, event, look: !repair })
    if (!due) continue // it was closed meanwhile
    const found = { event_id: event, ...(await reconcileEvent(event, due.as_of, parts, repair)) }
    audited.push(found)
    tell(found)
  }
  return audited
}

/** Has the jobs done that a comparison with `repair` has queued, and notes who did it. Returns what to tell. */
export async function finishRepair(ledger: Ledger, system: System, repaired: Audited[]): Promise<string> {
  await processChanges(ledger)
  for (const { differences, event_id } of repaired)
    await ledger.note({
      action: 'repair',
      event: event_id,
      touched: Object.values(differences).reduce((sum, count) => sum + count, 0),
    })
  return sendOutboxAndTell(ledger, system)
}

/** Turns the changes that a repair has noted into jobs, as the scheduler would within a minute. */
async function processChanges({ database }: Pick<Ledger, 'database'>): Promise<void> {
  for (const erasing of [true, false])
    while ((await database.process_changes({ erasing, page: CHANGES_PAGE })).more) {}
}

/** The ids of collections with our prefix that belong to no event. */
export const orphanCollections = async (parts: ReconcileParts): Promise<string[]> =>
  (await findOrphans(parts)).map((event) => `${parts.settings.collectionPrefix}${event}`)
