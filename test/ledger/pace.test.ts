import { describe, expect, it } from 'vitest'
import { atOnce, one, openLedger, sentEvent } from '../support/ledger.ts'

const currentRate = 'select indexing.current_rate()'
const NOBODY = '00000000-0000-0000-0000-000000000000'

describe('the pace of calls', () => {
  it('gives ten workers that ask at the same moment slots that follow one another', async () => {
    const { lease, messages, owner, startRun } = await sentEvent(100)
    await startRun(20)
    const began = await one<Date>(owner, 'select clock_timestamp()')
    const paces = await atOnce(
      10,
      async (worker) => (await lease(messages.slice(worker * 10, worker * 10 + 10))).pace,
    )
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
    const { app, event, lease, messages, owner, users } = await sentEvent(3)
    await app.consent(event, users, false)
    expect((await lease(messages)).pace).toEqual({ first_ms: 0, every_ms: 0 })
    expect(await one(owner, "select next_slot = '-infinity' from indexing.pace")).toBe(true)
  })

  it('starts from now after a rest', async () => {
    const { lease, messages, owner, startRun } = await sentEvent(2)
    await startRun(0.5)
    await owner.query("update indexing.pace set next_slot = now() - interval '1 h'")
    expect((await lease(messages.slice(0, 1))).pace.first_ms).toBeLessThan(100)
    const { first_ms, every_ms } = (await lease(messages.slice(1))).pace
    expect(every_ms).toBe(2000)
    expect(first_ms).toBeGreaterThan(0)
    expect(first_ms).toBeLessThanOrEqual(2000)
  })

  it('gives no slot more than a minute ahead, even after the clock was changed', async () => {
    const { owner, refresh } = await openLedger()
    await owner.query("update indexing.pace set next_slot = now() + interval '1 day'")
    expect((await refresh([], 1)).pace.first_ms).toBeLessThanOrEqual(60_000)
  })

  it('slows down for all by three tenths when one was throttled, once a second at most, and recovers', async () => {
    const { complete, lease, messages, owner, refresh, startRun } = await sentEvent(1)
    await startRun(50)
    await atOnce<unknown>(6, (index) =>
      index % 2 ? complete(NOBODY, [], { throttled: true }) : refresh([], 0, true),
    )
    const rate = await one<number>(owner, currentRate)
    expect(rate).toBeGreaterThanOrEqual(35)
    expect(rate).toBeLessThan(40)
    const { every_ms } = (await lease(messages)).pace
    expect(every_ms).toBeGreaterThan(1000 / 50)
    expect(every_ms).toBeLessThanOrEqual(1000 / 35)
    await owner.query("update indexing.pace set rate_since = rate_since - interval '10 s'")
    expect(await one<number>(owner, currentRate)).toBeGreaterThanOrEqual(40)
    await owner.query("update indexing.pace set rate_since = rate_since - interval '20 s'")
    expect(await one<number>(owner, currentRate)).toBe(50)
  })

  it('never comes to a halt, nor exceeds a quota of less than a call in two seconds', async () => {
    const { complete, owner, startRun } = await openLedger()
    await startRun(1)
    for (let time = 0; time < 40; time++) {
      await owner.query("update indexing.pace set rate_since = clock_timestamp() - interval '1.01 s'")
      await complete(NOBODY, [], { throttled: true })
    }
    expect(await one(owner, 'select rate from indexing.pace')).toBe(0.5)
    await startRun(0.2)
    expect(await one(owner, currentRate)).toBe(0.2)
  })
})
