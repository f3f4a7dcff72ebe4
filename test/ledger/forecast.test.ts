import { describe, expect, it } from 'vitest'
import { only, openLedger } from '../support/ledger.ts'

describe('the forecast', () => {
  it('rests on the pace of the deployment', async () => {
    const { forecast, startRun } = await openLedger()
    await startRun(50)
    expect(await forecast()).toEqual({ tps: 50, rate: 50, events: [] })
    await startRun(20)
    expect(await forecast()).toMatchObject({ tps: 20, rate: 20 })
  })

  it('says at which pace it reckons for a while after Rekognition has throttled', async () => {
    const { complete, forecast, startRun } = await openLedger()
    await startRun(50)
    await complete('00000000-0000-0000-0000-000000000000', [], { throttled: true })
    const { tps, rate } = await forecast()
    expect(tps).toBe(50)
    expect(rate).toBeGreaterThanOrEqual(35)
    expect(rate).toBeLessThan(50)
    await startRun(10)
    expect(await forecast()).toMatchObject({ tps: 10, rate: 10 })
  })

  it('has the event that starts soonest done first, and says which comes too late', async () => {
    const { app, forecast, prepare, startRun } = await openLedger()
    const later = await app.event({ startsAt: "now() + interval '15 min'" })
    const soon = await app.event({ startsAt: "now() + interval '5 s'" })
    await app.consent(later, await app.users(100))
    await app.consent(soon, await app.users(10))
    await prepare()
    await startRun(1)
    const { events } = await forecast()
    expect(events).toMatchObject([
      { event_id: soon, open: 10, late: true },
      { event_id: later, open: 100, late: false },
    ])
    const [first, second] = events.map(({ done_at }) => Date.parse(done_at))
    expect(Number(second) - Number(first)).toBeCloseTo(100_000, -3)
    await startRun(10_000)
    expect(only((await forecast()).events.filter(({ event_id }) => event_id === soon))).toMatchObject({
      late: false,
    })
  })
})
