import type { Drift } from '../../src/core/contract.ts'
import { differencesInWords } from '../differences.ts'
import { wrap } from '../terminal.ts'
import { away, clock } from '../words.ts'
import type { View } from './view.ts'

/** What the operator should know of it: it is over, and may come again. */
export const driftAdvice = (option: string): string =>
  `It was put right. If it comes again, something else changes the collection, or triggers do not fire: npx event-indexer doctor${option}`

/** What reconciles of an event have found; '' when they found nothing. */
export function viewDrift(drift: Drift[], { terminal, now, option }: View): string {
  if (drift.length === 0) return ''
  const { columns, paint } = terminal
  return [
    paint('yellow', 'FOUND BY RECONCILE'),
    ...drift.map((found) =>
      wrap(
        `${clock(found.at, now)}, ${away(found.at, now)}: ${differencesInWords(found).join('; ')}`,
        columns,
        2,
      ),
    ),
    paint('dim', wrap(driftAdvice(option), columns, 2)),
  ].join('\n')
}
