import { CreateCollectionCommand, type RekognitionClient } from '@aws-sdk/client-rekognition'
import { indexPhoto } from '../../src/core/collection.ts'
import type { Lookup } from './lookup.ts'

export interface SequentialParts {
  lookup: Lookup
  rekognition: RekognitionClient
  bucket: string
}

/** The first version of the system: one attendee after the other, each with a query and a call. */
export async function indexSequentially(event: string, { lookup, rekognition, bucket }: SequentialParts) {
  await rekognition.send(new CreateCollectionCommand({ CollectionId: event }))
  for (const user of await lookup.attendees(event)) {
    const key = await lookup.photo(user)
    await indexPhoto(rekognition, event, user, { bucket, key }, 'largest')
  }
}
