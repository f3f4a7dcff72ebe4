import type { ListFacesResponse } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action } from '../action.ts'
import { takePage } from '../paging.ts'
import {
  collectionIdSchema,
  faceIdSchema,
  maxResultsSchema,
  nextTokenSchema,
  userIdSchema,
} from '../validation.ts'
import { faceModelVersion, wireFaceOf } from '../wire.ts'

export const listFaces = action({
  input: z.object({
    CollectionId: collectionIdSchema,
    NextToken: nextTokenSchema.optional(),
    MaxResults: maxResultsSchema.optional(),
    UserId: userIdSchema.optional(),
    FaceIds: z.array(faceIdSchema).min(1).max(4096).optional(),
  }),
  run({ CollectionId, UserId, FaceIds, ...paging }, { collections }): ListFacesResponse {
    const collection = collections.get(CollectionId)
    const user = UserId === undefined ? undefined : collection.user(UserId)
    const faces = [...collection.faces()].filter(
      ({ faceId }) => (!FaceIds || FaceIds.includes(faceId)) && (!user || user.faceIds.has(faceId)),
    )
    const { items, nextToken } = takePage(`faces of ${CollectionId} ${UserId ?? ''}`, faces, paging)
    return {
      Faces: items.map((face) => wireFaceOf(collection, face)),
      NextToken: nextToken,
      FaceModelVersion: faceModelVersion,
    }
  },
})
