import type { ListFacesResponse } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action } from '../action.ts'
import type { StoredFace } from '../collections.ts'
import { RekognitionError } from '../errors.ts'
import { takePage } from '../paging.ts'
import { collectionIdSchema, faceIdSchema, maxResultsSchema, nextTokenSchema } from '../validation.ts'
import { faceModelVersion, wireFace } from '../wire.ts'

export const listFaces = action({
  input: z.object({
    CollectionId: collectionIdSchema,
    NextToken: nextTokenSchema.optional(),
    MaxResults: maxResultsSchema.optional(),
    UserId: z.string().min(1).max(128).optional(),
    FaceIds: z.array(faceIdSchema).min(1).max(4096).optional(),
  }),
  run({ CollectionId, UserId, FaceIds, ...paging }, { collections }): ListFacesResponse {
    const collection = collections.get(CollectionId)
    if (UserId !== undefined) {
      // Nobody can be in a collection here: CreateUser is not spoken.
      throw new RekognitionError('ResourceNotFoundException', `The user id: ${UserId} does not exist`)
    }
    const faces = FaceIds ? only(FaceIds, collection.faces()) : collection.faces()
    const { items, nextToken } = takePage(`faces of ${CollectionId}`, faces, paging)
    return { Faces: items.map(wireFace), NextToken: nextToken, FaceModelVersion: faceModelVersion }
  },
})

function only(faceIds: string[], faces: Iterable<StoredFace>): StoredFace[] {
  const wanted = new Set(faceIds)
  return [...faces].filter((face) => wanted.has(face.faceId))
}
