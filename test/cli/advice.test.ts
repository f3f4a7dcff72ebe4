import { expect, it } from 'vitest'
import { adviceOf } from '../../cli/advice.ts'
import { status } from '../../cli/commands/status.ts'
import type { EventStatus } from '../../cli/status.ts'
import { refusedFor } from '../support/ledger.ts'
import { openOperated } from '../support/operator.ts'

const eventOf = (attendees: object) =>
  ({
    state: 'completed',
    attendees: { indexed: 0, skipped: 0, failed: 0, erased: 0, queued: 0, in_flight: 0, ...attendees },
  }) as EventStatus

it('a photo is the cause when few share a reason, and the system when most of the event does', () => {
  const few = eventOf({ indexed: 20, skipped: 3 })
  expect(adviceOf('photo_missing', 3, few).toAttendee).toContain('Upload it again')
  const most = eventOf({ indexed: 20, skipped: 100 })
  expect(adviceOf('photo_missing', 100, most)).toEqual({
    remedy: expect.stringContaining('most of the event'),
  })
  expect(adviceOf('event_closed', 100, most).toAttendee).toContain('The event is over')
})

it('status of an event whose photos are all missing tells nobody to upload, and names their keys', async () => {
  const { app, indexAll, run } = await openOperated()
  const event = await app.event()
  const [user = '', ...others] = await app.users(6)
  await app.consent(event, [user, ...others])
  await indexAll(refusedFor('photo_missing'))
  const { out } = await run(status, { event })
  expect(out).toMatch(/is\s+S3_BUCKET_NAME the bucket of the app/)
  expect(out).not.toContain('Tell them')
  expect(out).toContain(`${user}  photos/${user}\n`)
  expect((await run(status, {})).out).toMatch(
    /SKIPPED A concert: 6 of 6 attendees: the photo is not in the bucket\. Nobody\s+recognises them/,
  )
})
