import type { Differences } from '../src/core/contract.ts'
import { figure } from './words.ts'

/** What each kind of difference means, behind the number of attendees. */
const MEANINGS: Record<keyof Differences, string> = {
  extra: 'with a face who should have none',
  missing: 'whose face is gone',
  doubled: 'with several faces, or with another one than the ledger has',
  unnoticed: 'whose consent or photo has changed, which the ledger did not know',
  stale_photos: 'whose photo was replaced after it was indexed',
}

/** One kind of difference that was found. */
export interface Difference {
  kind: keyof Differences
  count: number
  /** Such as "attendees whose face is gone". */
  words: string
}

/** The kinds that were found. */
export const kindsOf = (differences: Differences): Difference[] =>
  Object.entries(MEANINGS).flatMap(([name, meaning]) => {
    const kind = name as keyof Differences
    const count = differences[kind]
    return count > 0 ? [{ kind, count, words: `${count === 1 ? 'attendee' : 'attendees'} ${meaning}` }] : []
  })

export const RECREATED = 'the collection was gone: it is made anew, and everybody is indexed again'

/** What a comparison or a reconcile has found, in words. */
export const differencesInWords = (found: Differences & { recreated: boolean }): string[] => [
  ...kindsOf(found).map(({ count, words }) => `${figure(count)} ${words}`),
  ...(found.recreated ? [RECREATED] : []),
]
