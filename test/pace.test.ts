import { describe, expect, it } from 'vitest'
import { Pace } from '../src/worker/pace.ts'

/** Who had a turn, in the order in which they had it. */
function turnsOf(pace: Pace) {
  const order: string[] = []
  const turn = async (who: string) => {
    await pace.turn()
    order.push(who)
  }
  return { order, turn }
}

describe('the pace of a batch', () => {
  it('gives the turns in the order in which they were asked for, none before its slot', async () => {
    const began = performance.now()
    const { order, turn } = turnsOf(new Pace({ firstMs: 100, everyMs: 50 }))
    await Promise.all([turn('first'), turn('second'), turn('third')])
    expect(order).toEqual(['first', 'second', 'third'])
    expect(performance.now() - began).toBeGreaterThanOrEqual(195)
  })

  it('has the batch rest after a refusal, and the refused call before all who have not called yet', async () => {
    const pace = new Pace({ firstMs: 0, everyMs: 10 })
    const { order, turn } = turnsOf(pace)
    await turn('refused')
    const others = [turn('second'), turn('third')]
    pace.throttled()
    await Promise.all([turn('refused again'), ...others])
    expect(order).toEqual(['refused', 'refused again', 'second', 'third'])
  })

  it('rests longer each time until a call passes', async () => {
    const pace = new Pace({ firstMs: 0, everyMs: 0 })
    const restAfter = async () => {
      const began = performance.now()
      pace.throttled()
      await pace.turn()
      return performance.now() - began
    }
    const first = await restAfter()
    await restAfter()
    expect(await restAfter()).toBeGreaterThan(399) // four times the first, give or take half
    pace.passed()
    expect(first).toBeGreaterThan(99)
  })
})
