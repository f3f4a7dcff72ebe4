import type { CreateCollectionResponse } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action } from '../action.ts'
import { collectionIdSchema } from '../validation.ts'
import { collectionResource, faceModelVersion } from '../wire.ts'

export const createCollection = action({
  input: z.object({
    CollectionId: collectionIdSchema,
    Tags: z.record(z.string(), z.string()).optional(),
  }),
  run({ CollectionId }, { collections, region }): CreateCollectionResponse {
    collections.create(CollectionId)
    return {
      StatusCode: 200,
      CollectionArn: collectionResource(region, CollectionId),
      FaceModelVersion: faceModelVersion,
    }
  },
})
