import type { DeleteCollectionResponse } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action } from '../action.ts'
import { collectionIdSchema } from '../validation.ts'

export const deleteCollection = action({
  input: z.object({ CollectionId: collectionIdSchema }),
  run({ CollectionId }, { collections }): DeleteCollectionResponse {
    collections.delete(CollectionId)
    return { StatusCode: 200 }
  },
})
