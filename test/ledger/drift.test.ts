import { expect, it } from 'vitest'
import type { Drift } from '../../src/core/contract.ts'
import { one, openLedger } from '../support/ledger.ts'

const NOTHING = { extra: 0, missing: 0, doubled: 0, unnoticed: 0, stale_photos: 0, recreated: false }

it('what a reconcile found is noted, unless it found nothing, and listed with the latest first', async () => {
  const { app, owner, prepare, reconcileDone } = await openLedger()
  const [event = '', other = ''] = await app.events(2)
  await prepare()
  const [first = '', second = ''] = [1, 2].map((minutes) =>
    new Date(Date.now() + minutes * 60_000).toISOString(),
  )
  await reconcileDone(event, first) // as functions of an earlier release do
  await reconcileDone(event, first, NOTHING)
  for (
    let said = 0;
    said < 2;
    said++ // the first answer was lost
  )
    await reconcileDone(event, first, { ...NOTHING, extra: 2, stale_photos: 1 })
  await reconcileDone(event, second, { ...NOTHING, recreated: true })
  await reconcileDone(other, second, { ...NOTHING, missing: 1 })
  const drift = (page?: number) =>
    one<Drift[]>(owner, 'select public.indexing_drift($1, coalesce($2, 10))', [event, page])
  const at = expect.any(String)
  expect(await drift()).toEqual([
    { at, ...NOTHING, recreated: true },
    { at, ...NOTHING, extra: 2, stale_photos: 1 },
  ])
  expect(await drift(1)).toMatchObject([{ recreated: true }])
})

it('it is gone after its time', async () => {
  const { app, owner, prepare, prune, reconcileDone } = await openLedger()
  const event = await app.event()
  await prepare()
  for (const missing of [1, 2])
    await reconcileDone(event, new Date(Date.now() + missing).toISOString(), { ...NOTHING, missing })
  await owner.query(`update indexing.drift set at = now() - interval '31 days' where missing = 1`)
  await prune({ keepDays: 30 })
  expect(await one(owner, 'select array_agg(missing) from indexing.drift')).toEqual([2])
})
