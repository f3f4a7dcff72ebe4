import { expect, it } from 'vitest'
import { openLedger } from '../support/ledger.ts'

/** Two events with two attendees each, all of them queued. */
async function twoEvents() {
  const ledger = await openLedger()
  const { app, owner, prepare } = ledger
  const events = await app.events(2)
  const users = await app.users(2)
  for (const event of events) await app.consent(event, users)
  await prepare()
  const run = async (name: string, event: string | null) =>
    (await owner.query(`select public.indexing_${name}($1) as answer`, [event])).rows[0].answer
  const [first = '', second = ''] = events
  return { ...ledger, first, second, users, run }
}

it('the outbox hands out no job of a paused event, and all of them once it is resumed', async () => {
  const { first, inside, run, second, sendAll } = await twoEvents()
  expect(await run('pause', first)).toBe(true)
  expect(await run('pause', first)).toBe(false)
  expect(new Set((await sendAll()).map(({ event_id }) => event_id))).toEqual(new Set([second]))
  expect(await inside.states(first)).toEqual({ queued: 2 })
  expect(await run('resume', first)).toBe(1)
  expect(await run('resume', first)).toBe(0)
  expect(await sendAll()).toHaveLength(2)
})

it('no event has a job handed out while everything is paused', async () => {
  const { run, sendAll } = await twoEvents()
  await run('pause', null)
  expect(await sendAll()).toEqual([])
  await run('resume', null)
  expect(await sendAll()).toHaveLength(4)
})

it.each(['the event', 'everything'])('erasures go on while %s is paused', async (what) => {
  const { app, first, inside, processChanges, run, sendAll, users, work } = await twoEvents()
  await work(await sendAll())
  await run('pause', what === 'the event' ? first : null)
  const [leaves = '', changes = ''] = users
  await app.photo(changes, 'photos/another')
  await app.consent(first, [leaves], false)
  await processChanges()
  const messages = (await sendAll()).filter(({ event_id }) => event_id === first)
  expect(messages.map(({ user_id }) => user_id)).toEqual([leaves])
  await work(messages)
  expect(await inside.job(first, leaves)).toMatchObject({ state: 'erased' })
  expect(await inside.job(first, changes)).toMatchObject({ state: 'queued' })
})

it('resuming everything lifts the pauses of single events too', async () => {
  const { first, owner, run, sendAll } = await twoEvents()
  await run('pause', first)
  await run('pause', null)
  expect(await run('resume', null)).toBe(2)
  expect((await owner.query('select from indexing.pauses')).rowCount).toBe(0)
  expect(await sendAll()).toHaveLength(4)
})

it('a paused event delays no other in the forecast', async () => {
  const { first, forecast, run, second, startRun } = await twoEvents()
  await startRun(0.01) // 100 s for each attendee
  const doneOf = async (event: string) =>
    Date.parse((await forecast()).events.find(({ event_id }) => event_id === event)?.done_at ?? '')
  const behind = await doneOf(second)
  await run('pause', first)
  expect(behind - (await doneOf(second))).toBeGreaterThan(150_000)
  expect((await forecast()).events).toMatchObject([{ event_id: first, paused: true }, { paused: false }])
})
