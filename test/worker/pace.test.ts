import { describe, expect, it } from 'vitest'
import { OutOfTime } from '../../src/core/time.ts'
import { Pace } from '../../src/worker/pace.ts'

/** A pace with so many slots, which are renewed at once; turns are noted in the order in which they were given. */
function paceOf(first_ms: number, every_ms: number, { slots = 100, remainingMs = 60_000 } = {}) {
  const order: string[] = []
  const renewals: { slots: number; throttled: boolean }[] = []
  const pace = new Pace(
    { first_ms, every_ms },
    slots,
    async (slots, throttled) => {
      renewals.push({ slots, throttled })
      return { first_ms: 50, every_ms: 10 }
    },
    () => remainingMs,
  )
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
    expect(renewals).toEqual([{ slots: 3, throttled: true }])
    expect(order.toSorted()).toEqual(['again', 'refused', 'second', 'third'])
  })

  it('counts one refusal of those that were called side by side', async () => {
    const { pace, renewals, turn } = paceOf(0, 0)
    const slots = await Promise.all([turn('first'), turn('second'), turn('third')])
    for (const slot of slots) pace.refused(slot)
    pace.refused(await turn('again'))
    expect(renewals).toEqual([{ slots: 1, throttled: true }])
  })

  it('asks for more slots when those that it was given are used up, without slowing down', async () => {
    const { order, renewals, turn } = paceOf(0, 0, { slots: 1 })
    await Promise.all([turn('first'), turn('second'), turn('third')])
    expect(order).toHaveLength(3)
    expect(renewals).toEqual([{ slots: 2, throttled: false }])
  })

  it('refuses at once a turn that would come after the time of the invocation has ended', async () => {
    const { turn } = paceOf(5_000, 1_000, { remainingMs: 1_000 })
    const began = performance.now()
    await expect(turn('too late')).rejects.toThrow(OutOfTime)
    expect(performance.now() - began).toBeLessThan(4_000)
  })
})
