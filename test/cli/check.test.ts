import { describe, expect, it } from 'vitest'
import { check } from '../../cli/commands/check.ts'
import { failedWith, refusedFor } from '../support/ledger.ts'
import { openOperated } from '../support/operator.ts'

/** An event of three attendees whose messages are sent. */
async function sentEvent() {
  const system = await openOperated()
  const event = await system.app.event()
  await system.app.consent(event, await system.app.users(3))
  await system.prepare()
  return { ...system, event, messages: await system.sendAll() }
}

describe('check says GO in one line, and ends with 0', () => {
  it('once everybody has an outcome', async () => {
    const { event, exhaust, messages, start } = await sentEvent()
    await exhaust(messages.slice(0, 1), refusedFor('no_face'))
    await exhaust(messages.slice(1))
    expect(await start(['check', '--event', event]).ended).toEqual({
      code: 0,
      error: '',
      out: 'GO  A concert (start in 10 min): 2 attendees indexed, 1 skipped.\n',
    })
  })

  it('while a change is under way', async () => {
    const { app, event, exhaust, messages, prepare, run } = await sentEvent()
    await exhaust(messages)
    await app.consent(event, await app.users(1))
    await prepare()
    const { code, out } = await run(check, { event })
    expect(code).toBe(0)
    expect(out).toContain('3 attendees indexed, 1 change under way.')
  })
})

describe('check says NO GO in one line with the reasons, and ends with 2', () => {
  it('while the event is being indexed', async () => {
    const { event, exhaust, messages, run } = await sentEvent()
    await exhaust(messages.slice(0, 1))
    const { code, out } = await run(check, { event })
    expect(code).toBe(2)
    expect(out).toMatch(
      /^NO GO {2}A concert \(start in 10 min\): it is still being indexed, 2 attendees open, ready \d\d:\d\d\.\n$/,
    )
  })

  it('when it has failed', async () => {
    const { event, exhaust, messages, run } = await sentEvent()
    await exhaust(messages, failedWith('AccessDeniedException', 'denied'))
    const { code, out } = await run(check, { event })
    expect(code).toBe(2)
    expect(out).toContain('its indexing_status is failed: the app recognises nobody; 3 attendees failed.\n')
  })

  it('when changes have waited for long', async () => {
    const { app, event, exhaust, messages, owner, prepare, run } = await sentEvent()
    await exhaust(messages)
    await app.consent(event, await app.users(2))
    await prepare()
    await owner.query(
      "update indexing.face_jobs set queued_at = now() - interval '3 min' where ended_at is null",
    )
    const { code, out } = await run(check, { event })
    expect(code).toBe(2)
    expect(out).toContain('2 changes wait, the oldest for 3 min.\n')
  })

  it.each([
    [
      'it is claimed later',
      { startsAt: "now() + interval '3 h'" },
      'it is not claimed yet, and starts in 3 h',
    ],
    ['nobody claims it', { startsAt: "now() + interval '4 min'" }, 'starts in 4 min and is not claimed yet'],
    ['it is not active', { active: false }, 'starts in 10 min and is not active: nobody is indexed'],
    ['it has no start', { startsAt: 'null' }, 'it has no start'],
  ])('when %s', async (_, options, said) => {
    const { app, run } = await openOperated()
    const { code, out } = await run(check, { event: await app.event(options) })
    expect(code).toBe(2)
    expect(out).toContain(`NO GO  A concert: ${said}`)
  })

  it('when it was deleted', async () => {
    const { app, event, exhaust, messages, run } = await sentEvent()
    await exhaust(messages)
    await app.deleteEvent(event)
    const { code, out } = await run(check, { event })
    expect(code).toBe(2)
    expect(out).toContain('it was deleted')
  })
})
