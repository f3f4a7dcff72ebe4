import { IndexFacesCommand } from '@aws-sdk/client-rekognition'
import { expect, it, onTestFinished } from 'vitest'
import { ensureCollection } from '../../src/core/collection.ts'
import { openStage } from '../support/stage.ts'

it('erases a face that the app indexed by itself before the jobs were written, of somebody who then took consent back', async () => {
  const stage = await openStage()
  onTestFinished(stage.close)
  const { database, rekognition, settings } = stage.parts
  const event = await stage.createEvent()
  const user = await stage.createAttendee(event)
  const collection = settings.collectionPrefix + event

  // A scheduler that dies once the collection is there.
  await database.absorb(1000)
  await database.claim(20, settings.indexFacesTps)
  const { create } = await database.collections()
  expect(create).toEqual([event])
  await database.collectionsDone([
    { event_id: event, result: await ensureCollection(rekognition, collection) },
  ])

  const [face] = await stage.wantedFacesOf(event)
  await rekognition.send(
    new IndexFacesCommand({
      CollectionId: collection,
      ExternalImageId: user,
      Image: { S3Object: { Bucket: settings.photoBucket, Name: face?.photo } },
    }),
  )
  expect(stage.facesOf(event)).toEqual([face])
  await stage.sql('update event_consents set allow_recognition = false where user_id = $1', [user])

  await stage.comeToRest()
  expect(stage.facesOf(event)).toEqual([])
})
