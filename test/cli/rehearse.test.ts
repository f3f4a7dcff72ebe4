import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import sharp from 'sharp'
import { expect, it, onTestFinished } from 'vitest'
import { type RehearsalDocument, type RehearseOptions, rehearse } from '../../cli/commands/rehearse.ts'
import type { Session } from '../../cli/session.ts'
import { syntheticEngine } from '../../local/rekognition/synthetic-engine.ts'
import { temporaryDirectory } from '../support/child.ts'
import { heicOf } from '../support/heic.ts'
import { runCommand } from '../support/operator.ts'
import { openStage } from '../support/stage.ts'

const IN_THREE_DAYS = 3 * 24 * 60

/** An event in three days, of a deployment that runs. */
async function upcomingEvent() {
  const stage = await openStage()
  onTestFinished(stage.close)
  await stage.runScheduler()
  const event = await stage.createEvent(IN_THREE_DAYS)
  const command = (session: Session, options: RehearseOptions) =>
    rehearse(session, options, async () => syntheticEngine())
  const run = (options: Omit<RehearseOptions, 'event'> = {}, added = {}) =>
    runCommand(command, { event, ...options }, { ...stage.environment, ...added })
  const document = async (options: Omit<RehearseOptions, 'event'> = {}) =>
    JSON.parse((await run({ ...options, json: true })).out) as RehearsalDocument
  return {
    ...stage,
    event,
    run,
    document,
    with: (photo?: string | null) => stage.createAttendee(event, { photo }),
  }
}

it('rehearse says days before an event who will not be recognised, why, and what to tell them', async () => {
  const { run, upload, with: attendee } = await upcomingEvent()
  await attendee(await upload('a face'))
  await attendee(await upload('another face'))
  const landscape = await upload('no-face, a landscape')
  const faceless = await attendee(landscape)
  const photoless = await attendee(null)
  const { code, out } = await run()
  expect(code).toBe(2)
  expect(out).toContain('2 of 4 consenting attendees will be recognised (50 %).')
  expect(out).toContain(`no face in the photo (no_face): 1
  Tell them: “Your profile photo shows no face. Choose one that shows your face from the front.”
     ${faceless}  ${landscape}
`)
  expect(out).toContain(`no photo in the profile (no_photo): 1
  Tell them: “Your profile has no photo. Add one that shows your face.”
     ${photoless}`)
})

it('rehearse looks at everybody who consents, and at nobody else', async () => {
  const { createAttendee, event, run, upload, with: attendee } = await upcomingEvent()
  await attendee(await upload('a face'))
  await createAttendee(event, { consents: false, photo: await upload('no-face') })
  const { code, out } = await run()
  expect(code).toBe(0)
  expect(out).toContain('1 of 1 consenting attendee will be recognised (100 %).')
})

it('rehearse calls no Rekognition, and changes nothing', async () => {
  const { event, rekognition, run, sql, upload, with: attendee } = await upcomingEvent()
  await attendee(await upload('a face'))
  const before = rekognition.calls()
  await run()
  expect(rekognition.calls()).toEqual(before)
  expect(await sql('select from indexing.face_jobs')).toEqual([])
  expect(await sql('select indexing_status from events where event_id = $1', [event])).toEqual([
    { indexing_status: 'pending' },
  ])
})

it.each([
  ['no-face', 'no_face'],
  ['faces:one@0.4,two@0.35', 'several_faces'],
  ['dark', 'face_too_dark'],
  ['blurred', 'face_blurred'],
  ['turned', 'face_turned_away'],
  ['tiny', 'face_too_small'],
  ['not-an-image', 'photo_format'],
  ['', 'photo_empty'],
])('of somebody with the photo %j it gives the reason %s', async (content, reason) => {
  const { document, upload, with: attendee } = await upcomingEvent()
  const user = await attendee(await upload(content))
  expect(await document()).toMatchObject({
    consenting: 1,
    recognised: 0,
    share: 0,
    not_recognised: [
      {
        user_id: user,
        outcome: 'skipped',
        reason,
        error: null,
        to_attendee: expect.stringMatching(/^Your /),
      },
    ],
  })
})

it('goes by the settings of the deployment: where photos are not converted, a HEIC is skipped, and it says why', async () => {
  const { document, run, runScheduler, parts, upload, with: attendee } = await upcomingEvent()
  const picture = sharp({ create: { width: 64, height: 64, channels: 3, background: 'teal' } })
  await attendee(await upload(await heicOf(await picture.png().toBuffer())))
  await attendee(await upload('faces:one@0.4,two@0.35'))
  expect(await document()).toMatchObject({
    several_faces: 'skip',
    convert_photos: true,
    not_recognised: [{ reason: 'several_faces' }],
  })

  parts.settings = { ...parts.settings, severalFaces: 'largest', convertPhotos: false }
  await runScheduler()
  expect(await document()).toMatchObject({
    several_faces: 'largest',
    convert_photos: false,
    not_recognised: [{ reason: 'photo_heic', to_attendee: expect.stringContaining('HEIC') }],
  })
  expect((await run()).out).toContain('This deployment converts no photos')
})

it('a photo that is not there is missing, and one that we may not read is a fault', async () => {
  const { document, setObjectAccess, with: attendee } = await upcomingEvent()
  const user = await attendee('photos/nowhere')
  expect((await document()).not_recognised).toMatchObject([{ user_id: user, reason: 'photo_missing' }])
  setObjectAccess('denied')
  expect((await document()).not_recognised).toMatchObject([
    { user_id: user, outcome: 'failed', reason: 'denied', error: expect.stringContaining('403') },
  ])
})

it('looks at the photos of an event that is not active yet', async () => {
  const { document, event, sql, upload, with: attendee } = await upcomingEvent()
  await attendee(await upload('a face'))
  await sql('update events set is_active = false where event_id = $1', [event])
  expect(await document()).toMatchObject({ consenting: 1, recognised: 1, share: 1 })
})

it('two attendees with one face are told: each may be taken for the other', async () => {
  const { document, run, upload, with: attendee } = await upcomingEvent()
  const photo = await upload('a face')
  const users = [await attendee(photo), await attendee(photo)].sort()
  await attendee(await upload('another face'))
  expect((await document()).alike).toEqual([{ user_ids: users, similarity: 100 }])
  const { code, out } = await run()
  expect(code).toBe(0) // they are recognised
  expect(out).toContain(`  ${users.join('  ')}  100%`)
})

it('photos may come from a copy of the bucket, and from nowhere beyond it', async () => {
  const { document, with: attendee } = await upcomingEvent()
  const folder = await temporaryDirectory()
  await mkdir(join(folder, 'copy/profiles'), { recursive: true })
  await writeFile(join(folder, 'copy/profiles/one'), 'a face')
  await writeFile(join(folder, 'secret'), 'the face of a secret')
  await symlink(join(folder, 'secret'), join(folder, 'copy/link'))
  await attendee('profiles/one')
  const outside = [await attendee('../secret'), await attendee('link'), await attendee('profiles')].sort()
  const { not_recognised, recognised } = await document({ photos: join(folder, 'copy') })
  expect(recognised).toBe(1)
  expect(not_recognised.map(({ user_id, reason }) => [user_id, reason])).toEqual(
    outside.map((user) => [user, 'photo_missing']),
  )
  await expect(document({ photos: join(folder, 'nowhere') })).rejects.toThrow('There is no folder')
})

it('names are shown only where the setting names their column', async () => {
  const { run, with: attendee } = await upcomingEvent()
  const user = await attendee(null)
  expect((await run()).out).not.toContain('somebody')
  expect((await run({}, { ATTENDEE_NAME_COLUMN: 'full_name' })).out).toContain(`${user}  somebody`)
})

it('an event that nobody consents to is said to be one', async () => {
  const { document, run } = await upcomingEvent()
  expect(await run()).toMatchObject({ code: 0, out: expect.stringContaining('Nobody consents') })
  expect((await document()).share).toBeNull()
})

it('an event that there is not is refused', async () => {
  const { environment, close } = await openStage()
  onTestFinished(close)
  const event = '8c1e7a52-5c0d-4c55-9d8e-6b1e6d1b9a11'
  const command = (session: Session, options: RehearseOptions) => rehearse(session, options)
  await expect(runCommand(command, { event }, environment)).rejects.toThrow('There is no event')
})
