import { describe, expect, it } from 'vitest'
import { atOnce, one, openLedger, sentEvent } from '../support/ledger.ts'

/** The rate, by the database's own account, of an account that allows 50 calls a second. */
const rateNow = 'select indexing.recovered_rate(rate, rate_since, 50) from indexing.pace'

describe('the pace of calls', () => {
  it('gives ten workers that ask at the same moment slots that follow one another', async () => {
    const { messages, owner, pace } = await sentEvent(100)
    const began = await one<Date>(owner, 'select clock_timestamp()')
    const paces = await atOnce(10, (worker) => pace(messages.slice(worker * 10, worker * 10 + 10), 20))
    expect(paces.map(({ every_ms }) => every_ms)).toEqual(Array(10).fill(50))
    // 100 slots of 50 ms: the last ends five seconds after the first began, which after a rest lies 0.25 s back.
    const end = await one<Date>(owner, 'select next_slot from indexing.pace')
    expect(Number(end) - Number(began)).toBeGreaterThanOrEqual(4600)
    const firsts = paces.map(({ first_ms }) => first_ms).sort((a, b) => a - b)
    expect(firsts[0]).toBeLessThan(500)
    for (const [index, first] of firsts.entries()) {
      expect(first).toBeGreaterThan(index * 500 - 5000)
      expect(first).toBeLessThan(index * 500 + 500)
    }
  })

  it('costs nothing where nothing is to be indexed', async () => {
    const { app, event, messages, owner, pace, users } = await sentEvent(3)
    await app.consent(event, users, false)
    expect(await pace(messages, 1)).toEqual({ first_ms: 0, every_ms: 0 })
    expect(await one(owner, "select next_slot = '-infinity' from indexing.pace")).toBe(true)
  })

  it('starts from now after a rest', async () => {
    const { messages, owner, pace } = await sentEvent(2)
    await owner.query("update indexing.pace set next_slot = now() - interval '1 h'")
    expect((await pace(messages.slice(0, 1), 0.5)).first_ms).toBeLessThan(100)
    const { first_ms, every_ms } = await pace(messages.slice(1), 0.5)
    expect(every_ms).toBe(2000)
    expect(first_ms).toBeGreaterThan(0)
    expect(first_ms).toBeLessThanOrEqual(2000)
  })

  it('slows down for all by three tenths when one was throttled, once a second at most, and recovers', async () => {
    const { finish, owner, pace, messages } = await sentEvent(1)
    await atOnce(5, () => finish('00000000-0000-0000-0000-000000000000', [], { throttled: true, tps: 50 }))
    const rate = await one<number>(owner, rateNow)
    expect(rate).toBeGreaterThanOrEqual(35)
    expect(rate).toBeLessThan(40)
    const { every_ms } = await pace(messages, 50)
    expect(every_ms).toBeGreaterThan(1000 / 50)
    expect(every_ms).toBeLessThanOrEqual(1000 / 35)
    await owner.query("update indexing.pace set rate_since = rate_since - interval '10 s'")
    expect(await one<number>(owner, rateNow)).toBeGreaterThanOrEqual(40)
    await owner.query("update indexing.pace set rate_since = rate_since - interval '20 s'")
    expect(await one<number>(owner, rateNow)).toBe(50)
  })

  it('never comes to a halt', async () => {
    const { finish, owner } = await openLedger()
    for (let time = 0; time < 40; time++) {
      await owner.query("update indexing.pace set rate_since = clock_timestamp() - interval '1.01 s'")
      await finish('00000000-0000-0000-0000-000000000000', [], { throttled: true, tps: 1 })
    }
    expect(await one(owner, 'select rate from indexing.pace')).toBe(0.5)
  })
})
