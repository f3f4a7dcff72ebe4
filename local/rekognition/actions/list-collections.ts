import type { ListCollectionsResponse } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action } from '../action.ts'
import { takePage } from '../paging.ts'
import { maxResultsSchema, nextTokenSchema } from '../validation.ts'
import { faceModelVersion } from '../wire.ts'

export const listCollections = action({
  input: z.object({ MaxResults: maxResultsSchema.optional(), NextToken: nextTokenSchema.optional() }),
  run(input, { collections }): ListCollectionsResponse {
    const { items, nextToken } = takePage('collections', collections.all(), input)
    return {
      CollectionIds: items.map((collection) => collection.id),
      FaceModelVersions: items.map(() => faceModelVersion),
      NextToken: nextToken,
    }
  },
})
