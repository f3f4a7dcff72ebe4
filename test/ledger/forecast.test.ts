import { describe, expect, it } from 'vitest'
import { only, openLedger } from '../support/ledger.ts'

describe('the forecast', () => {
  it('rests on the pace that is asked for, else on what the scheduler said last, else on 5 calls a second', async () => {
    const { claim, forecast } = await openLedger()
    expect(await forecast()).toEqual({ tps: 5, rate: 5, events: [] })
    await claim(20, 50)
    await claim(20, null)
    expect(await forecast()).toMatchObject({ tps: 50, rate: 50 })
    expect(await forecast(7)).toMatchObject({ tps: 7, rate: 7 })
    await claim(20, 20)
    expect(await forecast()).toMatchObject({ tps: 20, rate: 20 })
  })

  it('says at which pace it reckons for a while after Rekognition has throttled', async () => {
    const { finish, forecast } = await openLedger()
    await finish('00000000-0000-0000-0000-000000000000', [], { throttled: true, tps: 50 })
    const { tps, rate } = await forecast(50)
    expect(tps).toBe(50)
    expect(rate).toBeGreaterThanOrEqual(35)
    expect(rate).toBeLessThan(50)
    expect(await forecast(10)).toMatchObject({ tps: 10, rate: 10 })
  })

  it('has the event that starts soonest done first, and says which comes too late', async () => {
    const { app, forecast, prepare } = await openLedger()
    const later = await app.event({ startsAt: "now() + interval '15 min'" })
    const soon = await app.event({ startsAt: "now() + interval '5 s'" })
    await app.consent(later, await app.users(100))
    await app.consent(soon, await app.users(10))
    await prepare()
    const { events } = await forecast(1)
    expect(events).toMatchObject([
      { event_id: soon, open: 10, late: true },
      { event_id: later, open: 100, late: false },
    ])
    const [first, second] = events.map(({ done_at }) => Date.parse(done_at))
    expect(Number(second) - Number(first)).toBeCloseTo(100_000, -3)
    expect(only((await forecast(10_000)).events.filter(({ event_id }) => event_id === soon))).toMatchObject({
      late: false,
    })
  })
})
