import { describe, expect, it } from 'vitest'
import type { Result } from '../../src/core/contract.ts'
import { one, openLedger } from '../support/ledger.ts'

type Transition = 'lost' | 'hold' | 'requeue' | 'again' | 'retry' | 'end'

/** Of each outcome: when the desired state is still the same, and when it has changed. */
const TABLE: Record<Result['outcome'], [same: Transition, changed: Transition]> = {
  indexed: ['end', 'again'],
  erased: ['end', 'again'],
  skipped: ['end', 'again'],
  retry: ['retry', 'again'],
  photo_missing: ['retry', 'again'],
  later: ['requeue', 'requeue'],
  unclear: ['hold', 'hold'],
}

describe('the transition of a job', () => {
  it.each(Object.entries(TABLE))('%s: as the table says', async (outcome, [same, changed]) => {
    const { owner } = await openLedger()
    const transition = (hasLease: boolean, isChanged: boolean) =>
      one<Transition>(owner, 'select indexing.transition($1, $2, $3)', [outcome, hasLease, isChanged])
    expect(await transition(true, false)).toBe(same)
    expect(await transition(true, true)).toBe(changed)
    expect(await transition(false, false)).toBe('lost')
    expect(await transition(false, true)).toBe('lost')
  })
})
