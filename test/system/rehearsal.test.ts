import { SearchFacesByImageCommand } from '@aws-sdk/client-rekognition'
import sharp, { type Sharp } from 'sharp'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type RehearsalDocument, type RehearseOptions, rehearse } from '../../cli/commands/rehearse.ts'
import type { Session } from '../../cli/session.ts'
import { groupPhotos, portraitsFromGroupPhotos } from '../../local/photos.ts'
import type { FaceEngine } from '../../local/rekognition/engine.ts'
import { startFacesEngine } from '../../local/rekognition/faces-engine.ts'
import { convertObject } from '../../src/converter/converter.ts'
import { runCommand } from '../support/operator.ts'
import { openStage, type Stage } from '../support/stage.ts'

// A rehearsal three days before an event, against what the worker and the local Rekognition then make of the same photos, and
// against who is found when somebody takes a picture at the door.

/** The photos that attendees upload, made of portraits of so many different people. */
const damages: [what: string, make: (photo: Sharp) => Promise<Buffer>][] = [
  ['as it is', (photo) => photo.toBuffer()],
  ['grey', (photo) => photo.greyscale().jpeg().toBuffer()],
  ['as PNG', (photo) => photo.png().toBuffer()],
  ['lying on its side', (photo) => photo.rotate(90).jpeg().toBuffer()],
  ['upside down', (photo) => photo.rotate(180).jpeg().toBuffer()],
  ['rolled by 30°', (photo) => photo.rotate(30, { background: 'grey' }).jpeg().toBuffer()],
  ['half as bright', (photo) => photo.modulate({ brightness: 0.5 }).jpeg().toBuffer()],
  ['a quarter as bright', (photo) => photo.modulate({ brightness: 0.25 }).jpeg().toBuffer()],
  ['black as night', (photo) => photo.modulate({ brightness: 0.06 }).jpeg().toBuffer()],
  ['washed out', (photo) => photo.linear(0.12, 225).jpeg().toBuffer()],
  ['a little blurred', (photo) => photo.blur(2).jpeg().toBuffer()],
  ['blurred', (photo) => photo.blur(5).jpeg().toBuffer()],
  ['blurred beyond recognition', (photo) => photo.blur(12).jpeg().toBuffer()],
  ['compressed to the utmost', (photo) => photo.jpeg({ quality: 5 }).toBuffer()],
  ['of 90 pixels', (photo) => photo.resize(90).jpeg().toBuffer()],
  ['of 60 pixels', (photo) => photo.resize(60).jpeg().toBuffer()],
  ['small in a large picture', (photo) => small(photo, 60)],
  ['rather small in a large picture', (photo) => small(photo, 160)],
  ['cut through the eyes', (photo) => photo.extract({ left: 0, top: 0, width: 360, height: 180 }).toBuffer()],
  ['as WebP', (photo) => photo.webp().toBuffer()],
  ['as GIF', (photo) => photo.gif().toBuffer()],
  ['cut off', async (photo) => (await photo.toBuffer()).subarray(0, 6000)],
]

async function small(photo: Sharp, width: number): Promise<Buffer> {
  const input = await photo.resize(width).toBuffer()
  return sharp({ create: { width: 1600, height: 1200, channels: 3, background: '#8a9a8c' } })
    .composite([{ input, left: 700, top: 500 }])
    .jpeg()
    .toBuffer()
}

/** Somebody at the door: another picture of the same face than the profile's. */
const atTheDoor = (portrait: Buffer) =>
  sharp(portrait).flop().modulate({ brightness: 1.2 }).resize(300).jpeg({ quality: 70 }).toBuffer()

let engine: FaceEngine
let stage: Stage

beforeAll(async () => {
  engine = await startFacesEngine()
  stage = await openStage(engine)
  const { photos } = stage.parts
  stage.parts.convert = (photo) => convertObject(photo, photos) // as deployed, less the invocation
}, 120_000)

afterAll(async () => {
  await stage.close()
  await engine.close()
})

it('predicts the outcome of each attendee, and who is recognised at the door', async () => {
  await stage.runScheduler()
  const event = await stage.createEvent(3 * 24 * 60)
  const portraits = await portraitsFromGroupPhotos(engine)
  const guests: { user: string; what: string; portrait: Buffer | undefined }[] = []
  const come = async (what: string, photo: string | null, portrait?: Buffer) =>
    guests.push({ user: await stage.createAttendee(event, { photo }), what, portrait })

  for (const [at, [what, make]] of damages.entries()) {
    const { portrait = Buffer.alloc(0) } = portraits[at] ?? {}
    await come(what, await stage.upload(await make(sharp(portrait))), portrait)
  }
  for (const { name, bytes } of (await groupPhotos()).slice(0, 2))
    await come(`in the group of ${name}`, await stage.upload(bytes))
  const landscape = { create: { width: 640, height: 480, channels: 3, background: 'teal' } } as const
  await come('a landscape', await stage.upload(await sharp(landscape).jpeg().toBuffer()))
  await come('no photo', null)
  await come('a link', 'https://example.org/me.jpg')
  await come('a photo that is not there', 'photos/nowhere')

  const command = (session: Session, options: RehearseOptions) =>
    rehearse(session, options, async () => shared)
  const shared: FaceEngine = { ...engine, close: async () => {} }
  const said = await runCommand(command, { event, json: true }, stage.environment)
  const rehearsed = JSON.parse(said.out) as RehearsalDocument

  await stage.sql(`update events set starts_at = now() + interval '10 minutes' where event_id = $1`, [event])
  await stage.comeToRest()
  const jobs = await stage.sql<{ user_id: string; state: string; reason: string | null }>(
    'select user_id, state, reason from indexing.face_jobs where event_id = $1',
    [event],
  )

  const foretold = new Map(
    rehearsed.not_recognised.map(({ user_id, outcome, reason }) => [user_id, `${outcome} ${reason}`]),
  )
  const happened = new Map(
    jobs.map(({ user_id, state, reason }) => [user_id, reason ? `${state} ${reason}` : state]),
  )
  const table = guests.map(({ user, what }) => [what, foretold.get(user) ?? 'indexed', happened.get(user)])
  expect(table.filter(([, before, after]) => before !== after)).toEqual([])

  const wrong: string[] = []
  for (const { user, what, portrait } of guests) {
    if (!portrait) continue
    const Image = { Bytes: await atTheDoor(portrait) }
    const { FaceMatches = [] } = await stage.parts.rekognition.send(
      new SearchFacesByImageCommand({ CollectionId: `memento_event_${event}`, Image }),
    )
    const isFound = FaceMatches[0]?.Face?.ExternalImageId === user
    if (isFound === foretold.has(user)) wrong.push(what)
  }
  expect(wrong.length, wrong.join()).toBeLessThanOrEqual(1) // measured: a portrait that lies on its side
}, 600_000)
