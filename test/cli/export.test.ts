import { expect, it } from 'vitest'
import { attendee } from '../../cli/commands/attendee.ts'
import { exportEvent } from '../../cli/commands/export.ts'
import { type StatusDocument, status } from '../../cli/commands/status.ts'
import { csvOf } from '../../cli/csv.ts'
import { openOperated } from '../support/operator.ts'

/** An event with one attendee indexed, one without a photo, and one who has taken back the consent. */
async function mixedEvent() {
  const system = await openOperated()
  const { app, indexAll, owner, prepare, sendAll, work } = system
  const event = await app.event()
  const users = await app.users(3)
  const [indexed = '', photoless = '', gone = ''] = users
  await app.photo(photoless, null)
  await owner.query('update public.profiles set full_name = $2 where user_id = $1', [
    photoless,
    '=HYPERLINK("x"), \u001b[2Jsomebody',
  ])
  await app.consent(event, users)
  await indexAll()
  await app.consent(event, [gone], false)
  await prepare()
  await work(await sendAll())
  return { ...system, event, indexed, photoless, gone }
}

it('export lists every attendee with their state and what to tell them, without names', async () => {
  const { event, gone, indexed, photoless, run } = await mixedEvent()
  const { code, out } = await run(exportEvent, { event })
  expect(code).toBe(0)
  expect(out.split('\r\n')).toEqual([
    'user_id,name,state,reason,meaning,to_attendee,error,attempts,photo_key',
    `${indexed},,indexed,,,,,1,photos/${indexed}`,
    `${photoless},,skipped,no_photo,no photo in the profile,Your profile has no photo. Add one that shows your face.,,1,`,
    `${gone},,erased,no_consent,no consent,"You have not agreed to be recognised at this event, or no longer do.",,1,photos/${gone}`,
    '',
  ])
})

it('names are shown only where the setting names their column, and cannot steer a terminal or a spreadsheet', async () => {
  const { event, indexed, photoless, run } = await mixedEvent()
  const named = { ATTENDEE_NAME_COLUMN: 'full_name' }
  const rows = (await run(exportEvent, { event }, named)).out.split('\r\n')
  expect(rows[1]).toContain(`${indexed},Somebody,indexed`)
  expect(rows[2]).toContain(`${photoless},"'=HYPERLINK(""x""),  [2Jsomebody",skipped`)
  expect((await run(attendee, { user: indexed }, named)).out).toContain('  Name      Somebody\n')
  expect((await run(attendee, { user: indexed })).out).not.toContain('Somebody')
  const other = { ATTENDEE_NAME_COLUMN: 'no_such_column' }
  expect((await run(exportEvent, { event }, other)).out).toContain(`${indexed},,indexed`)
})

it('status lists the attendees in the states that are asked for', async () => {
  const { event, gone, indexed, run } = await mixedEvent()
  const { out } = await run(status, { event, state: ['indexed', 'erased'] })
  expect(out).toContain(`2 attendees\n  ${indexed}  indexed\n  ${gone}  erased: no consent (no_consent)\n`)
  const { events } = JSON.parse(
    (await run(status, { event, state: ['erased'], json: true })).out,
  ) as StatusDocument
  expect(events[0]?.attendee_list).toMatchObject([
    { user_id: gone, state: 'erased', reason: 'no_consent', name: null },
  ])
})

it('status takes no state that there is not, and none without an event', async () => {
  const { start } = await openOperated()
  const id = '8c1e7a52-5c0d-4c55-9d8e-6b1e6d1b9a11'
  expect((await start(['status', '--event', id, '--state', 'indexed,lost']).ended).error).toContain(
    'Each must be one of: queued',
  )
  expect((await start(['status', '--state', 'all']).ended).error).toContain('--state goes with --event')
})

it.each([
  ['plain', 'plain'],
  ['a,b', '"a,b"'],
  ['say "x"', '"say ""x"""'],
  ['two\nlines', 'two lines'],
  ['@cmd', "'@cmd"],
  [null, ''],
])('CSV of %j is %s', (value, cell) => {
  expect(csvOf(['head'], [[value]])).toBe(`head\r\n${cell}\r\n`)
})
