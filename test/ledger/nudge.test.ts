import { describe, expect, it } from 'vitest'
import { atOnce, one, openLedger } from '../support/ledger.ts'

describe('the turns of nudged runs', () => {
  it('are taken by one of fifty nudges; the others have it look once more', async () => {
    const { beginNudgedRun, endNudgedRun } = await openLedger()
    const turns = await atOnce(50, () => beginNudgedRun())
    expect(turns.filter(Boolean)).toHaveLength(1)
    expect(await endNudgedRun()).toBe(true)
    expect(await endNudgedRun()).toBe(false)
    expect(await beginNudgedRun()).toBe(true)
    expect(await endNudgedRun()).toBe(false)
  })

  it('lose no nudge that comes while a run ends', async () => {
    const { beginNudgedRun, endNudgedRun } = await openLedger()
    for (let time = 0; time < 30; time++) {
      expect(await beginNudgedRun()).toBe(true)
      const [goesOn, ...taken] = await Promise.all([endNudgedRun(), beginNudgedRun(), beginNudgedRun()])
      // The nudge that was turned away is served by the run that goes on.
      if (taken.includes(false) && !taken.includes(true)) expect(goesOn).toBe(true)
      while (await endNudgedRun()) {}
    }
  })

  it('come back from a run that died', async () => {
    const { beginNudgedRun, owner } = await openLedger()
    expect(await beginNudgedRun(30)).toBe(true)
    expect(await beginNudgedRun(30)).toBe(false)
    await owner.query("update indexing.nudging set running_until = now() - interval '1 s'")
    expect(await beginNudgedRun(30)).toBe(true)
  })
})

describe('where nudges go', () => {
  it('is set by the owner alone, with a secret of some length, and can be turned off', async () => {
    const { owner } = await openLedger()
    const configure = (url: string | null, secret: string | null) =>
      owner.query('select indexing.configure_nudge($1, $2)', [url, secret])
    await expect(configure('http://scheduler.example/', 'x'.repeat(16))).rejects.toThrow(
      'must begin with https://',
    )
    await expect(configure('https://scheduler.example/', 'x'.repeat(15))).rejects.toThrow(
      '16 characters at least',
    )
    await expect(configure('https://scheduler.example/', null)).rejects.toThrow('16 characters at least')
    await configure('https://scheduler.example/', 'x'.repeat(16))
    expect(await one(owner, 'select url from indexing.nudging')).toBe('https://scheduler.example/')
    await owner.query('select public.indexing_begin_nudged_run(1)')
    expect(await one(owner, 'select arrived_at is not null from indexing.nudging')).toBe(true)
    await configure('https://another.example/', 'x'.repeat(16)) // of which none has arrived yet
    expect(await one(owner, 'select arrived_at is null from indexing.nudging')).toBe(true)
    await configure(null, null)
    expect(await one(owner, 'select url is null and secret is null from indexing.nudging')).toBe(true)
  })
})
