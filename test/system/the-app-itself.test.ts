import { DeleteFacesCommand, IndexFacesCommand } from '@aws-sdk/client-rekognition'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ensureCollection } from '../../src/core/collection.ts'
import { openStage, type Stage } from '../support/stage.ts'

let stage: Stage
beforeAll(async () => {
  stage = await openStage()
})
afterAll(() => stage.close())

const collectionOf = (event: string) => stage.parts.settings.collectionPrefix + event

const photoOf = async (user: string) =>
  (await stage.sql<{ photo_path: string }>('select photo_path from profiles where user_id = $1', [user]))[0]
    ?.photo_path ?? ''

/** What the app does in a request of its own, whenever that comes to it. */
const app = {
  indexFace: async (event: string, user: string, photo: string) => {
    const { photos, rekognition } = stage.parts
    await rekognition.send(
      new IndexFacesCommand({
        CollectionId: collectionOf(event),
        ExternalImageId: user,
        Image: { S3Object: { Bucket: photos.bucket, Name: photo } },
      }),
    )
  },
  deleteFaces: async (event: string, user: string) => {
    const faces = stage.rekognition.collection(collectionOf(event)) ?? []
    const FaceIds = faces.flatMap(({ externalImageId, faceId }) => (externalImageId === user ? [faceId] : []))
    expect(FaceIds).toHaveLength(1)
    await stage.parts.rekognition.send(new DeleteFacesCommand({ CollectionId: collectionOf(event), FaceIds }))
  },
  consent: (event: string, user: string, allow: boolean) =>
    stage.sql('update event_consents set allow_recognition = $3 where (event_id, user_id) = ($1, $2)', [
      event,
      user,
      allow,
    ]),
  photo: (user: string, photo: string) =>
    stage.sql('update profiles set photo_path = $2 where user_id = $1', [user, photo]),
}

/** A completed event with two attendees, at rest. */
async function completedEvent(photo?: string) {
  const event = await stage.createEvent()
  const user = await stage.createAttendee(event, photo === undefined ? {} : { photo })
  await stage.createAttendee(event)
  await stage.comeToRest()
  expect(await stage.statusOf(event)).toBe('completed')
  return { event, user }
}

/** The scheduler and a worker follow what has changed. */
async function follow() {
  await stage.runScheduler()
  await stage.runWorker(await stage.receive())
}

const jobOf = async (event: string, user: string) =>
  (
    await stage.sql<{ state: string; reason: string | null; index_calls: number }>(
      'select state, reason, index_calls from indexing.face_jobs where (event_id, user_id) = ($1, $2)',
      [event, user],
    )
  )[0]

const rightFaces = async (event: string) =>
  expect(
    stage.facesOf(event)?.sort((one, other) => (String(one.user) < String(other.user) ? -1 : 1)),
  ).toEqual(await stage.wantedFacesOf(event))

describe('what the app does by itself after its commit, and after us, is put right by reconcile', () => {
  it('a face that it deletes after consent was taken back and given again is indexed again', async () => {
    const { event, user } = await completedEvent()
    await app.consent(event, user, false)
    await follow()
    await app.consent(event, user, true)
    await follow()
    await app.deleteFaces(event, user)
    await stage.comeToRest()
    await rightFaces(event)
  })

  it('a face that it indexes after consent was taken back is erased', async () => {
    const { event, user } = await completedEvent()
    await app.consent(event, user, false)
    await follow()
    await app.indexFace(event, user, await photoOf(user))
    await stage.comeToRest()
    await rightFaces(event)
  })

  it('a face of the photo before is erased', async () => {
    const { event, user } = await completedEvent()
    const before = await photoOf(user)
    await app.photo(user, await stage.upload())
    await follow()
    await app.indexFace(event, user, before)
    await stage.comeToRest()
    await rightFaces(event)
  })

  it('a face of the photo before is erased, also when the new one cannot be used', async () => {
    const { event, user } = await completedEvent()
    const before = await photoOf(user)
    await app.photo(user, await stage.upload('no-face'))
    await follow()
    await app.indexFace(event, user, before)
    await stage.comeToRest()
    expect(stage.facesOf(event)?.map((face) => face.user)).not.toContain(user)
    expect(await jobOf(event, user)).toMatchObject({ state: 'skipped', reason: 'no_face' })
  })
})

describe('reconcile', () => {
  it('comes a minute after the change, and queues nobody where nothing differs', async () => {
    const { event, user } = await completedEvent()
    await app.photo(user, await stage.upload())
    await follow()
    const [{ seconds } = { seconds: 0 }] = await stage.sql<{ seconds: number }>(
      'select extract(epoch from reconcile_due - now())::float as seconds from indexing.event_runs where event_id = $1',
      [event],
    )
    expect(seconds).toBeGreaterThan(30)
    expect(seconds).toBeLessThanOrEqual(60)
    await stage.timePasses()
    const report = await stage.runScheduler()
    expect(report.reconciled).toMatchObject({ differences: 0 })
    expect(await jobOf(event, user)).toMatchObject({ state: 'indexed' })
    expect(await stage.statusOf(event)).toBe('completed')
  })

  it.each([
    ['a face', 'somebody new'],
    ['no face', 'no-face'],
    ['no picture', 'not-an-image'],
  ])('costs no second call for a photo of %s', async (_, content) => {
    const { user } = await completedEvent()
    const before = stage.indexCalls()
    await app.photo(user, await stage.upload(content))
    await stage.comeToRest()
    expect(stage.indexCalls()).toBe(before + 1)
  })
})

describe('a photo that Rekognition has found no use for', () => {
  it('costs no second call when consent is taken back and given again', async () => {
    const { event, user } = await completedEvent(await stage.upload('no-face'))
    const before = stage.indexCalls()
    await app.consent(event, user, false)
    await follow()
    expect(await jobOf(event, user)).toMatchObject({ state: 'erased' })
    await app.consent(event, user, true)
    await stage.comeToRest()
    expect(await jobOf(event, user)).toMatchObject({ state: 'skipped', reason: 'no_face', index_calls: 1 })
    expect(stage.indexCalls()).toBe(before)
  })

  it('is tried again by a replay', async () => {
    const { event, user } = await completedEvent(await stage.upload('no-face'))
    await stage.sql('select public.indexing_replay($1, $2, $3)', [event, user, 'no_face'])
    await stage.comeToRest()
    expect(await jobOf(event, user)).toMatchObject({ state: 'skipped', reason: 'no_face', index_calls: 2 })
  })
})

describe('a collection that the app made before the claim', () => {
  it('is taken over: faces of those who do not consent, and of other photos, are erased', async () => {
    const event = await stage.createEvent()
    const consenting = await stage.createAttendee(event)
    const changed = await stage.createAttendee(event)
    const unwilling = await stage.createAttendee(event, { consents: false })
    const stranger = await stage.createAttendee(await stage.createEvent(100_000))
    await ensureCollection(stage.parts.rekognition, collectionOf(event))
    for (const user of [consenting, changed, unwilling, stranger])
      await app.indexFace(event, user, await photoOf(user))
    await app.photo(changed, await stage.upload())
    await stage.comeToRest()
    await rightFaces(event)
    expect(stage.facesOf(event)).toHaveLength(2)
    expect(await stage.statusOf(event)).toBe('completed')
  })

  it('keeps faces that are under no user id', async () => {
    const event = await stage.createEvent()
    await ensureCollection(stage.parts.rekognition, collectionOf(event))
    await app.indexFace(event, 'the-band', await stage.upload())
    await stage.comeToRest()
    expect(stage.facesOf(event)?.map((face) => face.user)).toEqual(['the-band'])
    expect(await stage.statusOf(event)).toBe('completed')
  })
})
