import { expect, it } from 'vitest'
import { type AttendeeDocument, attendee } from '../../cli/commands/attendee.ts'
import { failedWith, refusedFor } from '../support/ledger.ts'
import { openOperated } from '../support/operator.ts'

/** An attendee whose first attempt met an error, and whose photo turned out to be blurred at the second. */
async function blurredAttendee() {
  const system = await openOperated()
  const { app, prepare, sendAll, work } = system
  const event = await app.event()
  const [user = ''] = await app.users(1)
  await app.consent(event, [user])
  await prepare()
  const messages = await sendAll()
  await work(messages, failedWith('InternalServerError: \u001b[2Jtry again'))
  await work(messages, refusedFor('face_blurred'))
  return { ...system, event, user }
}

it('attendee tells what happened to one, attempt by attempt, and what to tell them', async () => {
  const { event, start, user } = await blurredAttendee()
  const { code, error, out } = await start(['attendee', user.toUpperCase()]).ended
  expect({ code, error }).toEqual({ code: 0, error: '' })
  expect(out).toContain(`A concert\n${event}, starts `)
  expect(out).toContain('  State     skipped: the face is blurred (face_blurred)\n')
  expect(out).toContain('Tell them: “Your face in the profile photo is blurred. Choose a sharp one.”')
  expect(out).toContain('  Wanted    the face of their photo\n')
  expect(out).toContain(`  Photo     photos/${user}\n`)
  expect(out).toMatch(
    /\d\d:\d\d:\d\d {2}retry \(unavailable\) InternalServerError: {2}\[2Jtry again\n +\d\d:\d\d:\d\d {2}skipped \(face_blurred\)\n/,
  )
  expect(out).toContain(`npx event-indexer replay --event ${event} --user ${user} --reason face_blurred`)
})

it('attendee tells of all their events, or of one', async () => {
  const { app, event, indexAll, run, user } = await blurredAttendee()
  const other = await app.event({ startsAt: "now() + interval '5 min'" })
  await app.consent(other, [user])
  await indexAll()
  const all = JSON.parse((await run(attendee, { user, json: true })).out) as AttendeeDocument
  expect(all).toMatchObject({ user_id: user, system: 'the environment' })
  expect(all.events).toMatchObject([
    {
      event_id: event,
      name: 'A concert',
      state: 'skipped',
      reason: 'face_blurred',
      to_attendee: 'Your face in the profile photo is blurred. Choose a sharp one.',
      history: [
        { outcome: 'retry', reason: 'unavailable', error: 'InternalServerError: \u001b[2Jtry again' },
        { outcome: 'skipped', reason: 'face_blurred' },
      ],
    },
    { event_id: other, state: 'indexed', reason: null, to_attendee: null, desired_reason: null },
  ])
  const one = JSON.parse((await run(attendee, { user, event: other, json: true })).out) as AttendeeDocument
  expect(one.events.map(({ event_id }) => event_id)).toEqual([other])
})

it('attendee says why no face is wanted of them now', async () => {
  const { app, event, run, user } = await blurredAttendee()
  await app.consent(event, [user], false)
  expect((await run(attendee, { user, event })).out).toContain(
    '  Wanted    no face: no consent (no_consent)\n',
  )
})

it('attendee of an unknown id says that there is no job, and ends with 1', async () => {
  const { event, run, user } = await blurredAttendee()
  await expect(run(attendee, { user: event })).rejects.toMatchObject({
    exitCode: 1,
    message: expect.stringContaining(`There is no job of attendee ${event}`),
  })
  await expect(run(attendee, { user, event: user })).rejects.toThrow(
    `Event ${user} has no job of attendee ${user}`,
  )
})
