import { DeleteCollectionCommand } from '@aws-sdk/client-rekognition'
import { expect, it, onTestFinished } from 'vitest'
import { ensureCollection } from '../../src/core/collection.ts'
import { openStage } from '../support/stage.ts'

it('indexes everybody again when an event is set back to pending and its new collection was made by a scheduler that died', async () => {
  const stage = await openStage()
  onTestFinished(stage.close)
  const { database, rekognition, settings } = stage.parts
  const event = await stage.createEvent()
  await stage.createAttendee(event)
  const collection = settings.collectionPrefix + event
  await stage.comeToRest()

  await rekognition.send(new DeleteCollectionCommand({ CollectionId: collection }))
  await stage.sql(`update events set indexing_status = 'pending' where event_id = $1`, [event])
  // A scheduler that dies before it can say that the collection is a new one.
  await database.claim({ window_minutes: 20 })
  const { create } = await database.collections_due({ page: 500 })
  expect(create).toEqual([event])
  await ensureCollection(rekognition, collection)

  await stage.comeToRest()
  expect(stage.facesOf(event)).toEqual(await stage.wantedFacesOf(event))
  expect(stage.facesOf(event)).toHaveLength(1)
})
