import type { DescribeCollectionResponse } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action } from '../action.ts'
import { collectionIdSchema } from '../validation.ts'
import { collectionResource, faceModelVersion } from '../wire.ts'

/** On the wire, a timestamp is a number of seconds. */
type Described = Omit<DescribeCollectionResponse, 'CreationTimestamp'> & { CreationTimestamp: number }

export const describeCollection = action({
  input: z.object({ CollectionId: collectionIdSchema }),
  run({ CollectionId }, { collections, region }): Described {
    const collection = collections.get(CollectionId)
    return {
      FaceCount: collection.size,
      UserCount: collection.userCount,
      FaceModelVersion: faceModelVersion,
      CollectionARN: `arn:${collectionResource(region, CollectionId)}`,
      CreationTimestamp: collection.createdAt.getTime() / 1000,
    }
  },
})
