import { describe, expect, it } from 'vitest'
import { Pace } from '../src/worker/pace.ts'

/** A pace whose slots are renewed at once, with who had a turn in the order in which they had it. */
function paceOf(firstMs: number, everyMs: number) {
  const order: string[] = []
  const renewals: number[] = []
  const pace = new Pace({ firstMs, everyMs }, async (slots) => {
    renewals.push(slots)
    return { firstMs: 50, everyMs: 10 }
  })
  const turn = async (who: string) => {
    const generation = await pace.turn()
    order.push(who)
    return generation
  }
  return { pace, order, renewals, turn }
}

describe('the pace of a batch', () => {
  it('gives the turns in the order in which they were asked for, none before its slot', async () => {
    const began = performance.now()
    const { order, turn } = paceOf(100, 50)
    await Promise.all([turn('first'), turn('second'), turn('third')])
    expect(order).toEqual(['first', 'second', 'third'])
    expect(performance.now() - began).toBeGreaterThanOrEqual(200)
  })

  it('has the refused call and all who have not called yet line up again, in new slots for each of them', async () => {
    const { order, pace, renewals, turn } = paceOf(0, 20)
    const slot = await turn('refused')
    const others = [turn('second'), turn('third')]
    pace.refused(slot)
    await Promise.all([turn('again'), ...others])
    expect(renewals).toEqual([3])
    expect(order.toSorted()).toEqual(['again', 'refused', 'second', 'third'])
  })

  it('counts one refusal of those that were called side by side', async () => {
    const { pace, renewals, turn } = paceOf(0, 0)
    const slots = await Promise.all([turn('first'), turn('second'), turn('third')])
    for (const slot of slots) pace.refused(slot)
    pace.refused(await turn('again'))
    expect(renewals).toEqual([1, 1])
  })
})
