import { expect, it } from 'vitest'
import { check } from '../../cli/commands/check.ts'
import { pause, resume } from '../../cli/commands/pause.ts'
import { replay } from '../../cli/commands/replay.ts'
import { type StatusDocument, status } from '../../cli/commands/status.ts'
import { failedWith } from '../support/ledger.ts'
import { openOperated } from '../support/operator.ts'

async function queuedEvent() {
  const system = await openOperated()
  const event = await system.app.event()
  await system.app.consent(event, await system.app.users(2))
  await system.prepare()
  return { ...system, event }
}

it('pause keeps an event from the workers, status shows the pause first, and resume sends it at once', async () => {
  const { event, inside, run, sendAll } = await queuedEvent()
  const paused = await run(pause, { event })
  expect(paused).toMatchObject({ code: 0 })
  expect(paused.out).toContain(`The event is paused. Erasures go on;`)
  expect(paused.out).toContain(`To go on: npx event-indexer resume --event ${event}\n`)
  expect(await sendAll()).toEqual([])

  const overview = (await run(status, {})).out
  expect(overview).toContain(
    'PAUSED  A concert: an operator has paused it; 2 attendees wait, erasures go on.',
  )
  expect(overview).toMatch(/A concert +\d\d:\d\d +paused /)
  const { events } = JSON.parse((await run(status, { json: true })).out) as StatusDocument
  expect(events).toMatchObject([{ paused: 'event', ready_at: null }])

  const resumed = await run(resume, { event })
  expect(resumed).toMatchObject({ code: 0 })
  expect(resumed.out).toContain('The event is not paused any more. 2 messages sent to the workers.')
  expect(await inside.states(event)).toEqual({ sent: 2 })
})

it('everything can be paused, and is resumed as a whole', async () => {
  const { event, inside, run } = await queuedEvent()
  await run(pause, {})
  expect((await run(status, {})).out).toContain('npx event-indexer resume --all')
  await expect(run(resume, { event })).rejects.toThrow('Everything is paused, this event with it.')
  expect((await run(resume, {})).out).toContain('Nothing is paused any more. 2 messages sent')
  expect(await inside.states(event)).toEqual({ sent: 2 })
  await expect(run(resume, {})).rejects.toMatchObject({ exitCode: 1, message: 'Nothing is paused.' })
})

it('an event that does not exist is not paused', async () => {
  const { run } = await openOperated()
  await expect(run(pause, { event: '8c1e7a52-5c0d-4c55-9d8e-6b1e6d1b9a11' })).rejects.toThrow(
    'There is no event',
  )
})

it('check of a paused event that is still being indexed is NO GO', async () => {
  const { event, run } = await queuedEvent()
  await run(pause, { event })
  const { code, out } = await run(check, { event })
  expect(code).toBe(2)
  expect(out).toContain('an operator has paused it')
})

it('replay of a paused event queues it, says that it is not sent, and does not wait', async () => {
  const { event, exhaust, inside, run, sendAll } = await queuedEvent()
  await exhaust(await sendAll(), failedWith('AccessDeniedException', 'denied'))
  await run(pause, { event })
  const { code, out } = await run(replay, { event, wait: true })
  expect(code).toBe(0)
  expect(out).toContain('2 attendees of 1 event queued again.')
  expect(out).toContain('Paused, and so not sent: 1 event.')
  expect(await inside.states(event)).toEqual({ queued: 2 })
})
