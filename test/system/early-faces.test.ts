import { IndexFacesCommand } from '@aws-sdk/client-rekognition'
import { describe, expect, it, onTestFinished } from 'vitest'
import { ensureCollection } from '../../src/core/collection.ts'
import { openStage } from '../support/stage.ts'

/** An event whose collection was made by a scheduler that died then, and an attendee whom the app has indexed by itself. */
async function indexedByTheApp() {
  const stage = await openStage()
  onTestFinished(stage.close)
  const { database, photos, rekognition, settings } = stage.parts
  const event = await stage.createEvent()
  const user = await stage.createAttendee(event)
  const collection = settings.collectionPrefix + event

  await database.process_changes({ erasing: true })
  await database.process_changes({ erasing: false })
  await database.claim({ window_minutes: 20 })
  const { create } = await database.collections_due({ page: 500 })
  expect(create).toEqual([event])
  await database.collections_done({
    results: [{ event_id: event, result: await ensureCollection(rekognition, collection) }],
    quiet_seconds: 120,
  })

  const [face] = await stage.wantedFacesOf(event)
  await rekognition.send(
    new IndexFacesCommand({
      CollectionId: collection,
      ExternalImageId: user,
      Image: { S3Object: { Bucket: photos.bucket, Name: face?.photo } },
    }),
  )
  expect(stage.facesOf(event)).toEqual([face])
  return { stage, event, user }
}

describe('a face that the app indexed by itself before the jobs were written', () => {
  it('is erased when consent is taken back', async () => {
    const { stage, event, user } = await indexedByTheApp()
    await stage.sql('update event_consents set allow_recognition = false where user_id = $1', [user])
    await stage.comeToRest()
    expect(stage.facesOf(event)).toEqual([])
  })

  it('is replaced when the photo is changed', async () => {
    const { stage, event, user } = await indexedByTheApp()
    await stage.sql('update profiles set photo_path = $2 where user_id = $1', [user, await stage.upload()])
    await stage.comeToRest()
    expect(stage.facesOf(event)).toEqual(await stage.wantedFacesOf(event))
  })

  it('is erased when the photo is removed', async () => {
    const { stage, event, user } = await indexedByTheApp()
    await stage.sql('update profiles set photo_path = null where user_id = $1', [user])
    await stage.comeToRest()
    expect(stage.facesOf(event)).toEqual([])
  })
})

it('a face that the app indexed by itself is replaced when somebody consents and changes their photo before anybody looks', async () => {
  const stage = await openStage()
  onTestFinished(stage.close)
  const { photos, rekognition, settings } = stage.parts
  const event = await stage.createEvent()
  await stage.createAttendee(event)
  await stage.comeToRest()

  const user = await stage.createAttendee(event)
  const photo = (await stage.wantedFacesOf(event)).find((wanted) => wanted.user === user)?.photo
  await rekognition.send(
    new IndexFacesCommand({
      CollectionId: settings.collectionPrefix + event,
      ExternalImageId: user,
      Image: { S3Object: { Bucket: photos.bucket, Name: photo } },
    }),
  )
  await stage.sql('update profiles set photo_path = $2 where user_id = $1', [user, await stage.upload()])
  await stage.comeToRest()
  expect(stage.facesOf(event)?.filter((face) => face.user === user)).toEqual(
    (await stage.wantedFacesOf(event)).filter((face) => face.user === user),
  )
})

it('a face of a photo that was replaced just before the claim is erased when the app indexes it after the claim', async () => {
  const stage = await openStage()
  onTestFinished(stage.close)
  const { database, photos, rekognition, settings } = stage.parts
  const event = await stage.createEvent()
  const user = await stage.createAttendee(event)
  const [wanted] = await stage.wantedFacesOf(event)
  const briefly = await stage.upload()
  for (const photo of [briefly, wanted?.photo])
    await stage.sql('update profiles set photo_path = $2 where user_id = $1', [user, photo])
  await database.process_changes({ erasing: true })
  await database.process_changes({ erasing: false })
  await database.claim({ window_minutes: 20 })
  const collection = settings.collectionPrefix + event
  await database.collections_due({ page: 500 })
  await database.collections_done({
    results: [{ event_id: event, result: await ensureCollection(rekognition, collection) }],
    quiet_seconds: 120,
  })
  await rekognition.send(
    new IndexFacesCommand({
      CollectionId: collection,
      ExternalImageId: user,
      Image: { S3Object: { Bucket: photos.bucket, Name: briefly } },
    }),
  )
  await stage.comeToRest()
  expect(stage.facesOf(event)).toEqual([wanted])
})
