import { randomUUID } from 'node:crypto'
import { expect, it } from 'vitest'
import { one, openLedger } from '../support/ledger.ts'

it('the curve of an event says how many had an outcome by when, at no more moments than asked for', async () => {
  const { app, owner, prepare, sendAll, work } = await openLedger()
  const event = await app.event()
  await app.consent(event, await app.users(10))
  await prepare()
  await work(await sendAll())
  await owner.query(
    `update indexing.face_jobs j set ended_at = r.claimed_at + place * interval '6 s'
     from indexing.event_runs r, (select user_id, row_number() over (order by user_id) as place from indexing.face_jobs) p
     where r.event_id = j.event_id and p.user_id = j.user_id`,
  )
  const curve = (points: number) =>
    one<{ at: string; ended: number }[]>(owner, 'select public.indexing_curve($1, $2)', [event, points])
  expect((await curve(100)).map(({ ended }) => ended)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  const rough = await curve(4)
  expect(rough.map(({ ended }) => ended)).toEqual([2, 5, 7, 10])
  expect(rough.map(({ at }) => at)).toEqual(rough.map(({ at }) => at).toSorted())
  expect(await curve(1)).toMatchObject([{ ended: 10 }])
})

it('the curve of an event without outcomes has no points', async () => {
  const { app, owner, prepare } = await openLedger()
  const event = await app.event()
  await app.consent(event, await app.users(1))
  await prepare()
  expect(await one(owner, 'select public.indexing_curve($1)', [event])).toEqual([])
})

it('what operators did is listed for its event and for everything, the latest first, and is gone after its time', async () => {
  const { app, owner, prune } = await openLedger()
  const [event, other] = await app.events(2)
  const note = (action: string, about: string | null) =>
    owner.query('select public.indexing_note_action($1, $2, event => $3)', ['ada@laptop', action, about])
  await note('replay', event ?? '')
  await note('pause', null)
  await note('resume', other ?? '')
  const actions = async (about: string | null) =>
    (await one<{ action: string }[]>(owner, 'select public.indexing_actions($1)', [about])).map(
      ({ action }) => action,
    )
  expect(await actions(event ?? '')).toEqual(['pause', 'replay'])
  expect(await actions(null)).toEqual(['resume', 'pause', 'replay'])
  await owner.query(`update indexing.actions set at = now() - interval '31 days' where action = 'replay'`)
  await prune({ keepDays: 30 })
  expect(await actions(null)).toEqual(['resume', 'pause'])
})

it('an action that is noted again, since the answer was lost, is in the log once', async () => {
  const { owner } = await openLedger()
  const id = randomUUID()
  for (const _ of [1, 2])
    expect(
      await one(owner, 'select public.indexing_note_action($1, $2, touched => 3, id => $3)', [
        'ada',
        'replay',
        id,
      ]),
    ).toBe(true)
  expect(await one(owner, 'select public.indexing_actions()')).toMatchObject([
    { action: 'replay', touched: 3 },
  ])
})
