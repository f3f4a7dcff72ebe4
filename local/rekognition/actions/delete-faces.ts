import type { DeleteFacesResponse } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action } from '../action.ts'
import { collectionIdSchema, faceIdSchema } from '../validation.ts'

export const deleteFaces = action({
  input: z.object({
    CollectionId: collectionIdSchema,
    FaceIds: z.array(faceIdSchema).min(1).max(4096),
  }),
  run({ CollectionId, FaceIds }, { collections }): DeleteFacesResponse {
    const collection = collections.get(CollectionId)
    const deleted: string[] = []
    const unknown: string[] = []
    for (const faceId of new Set(FaceIds)) {
      const list = collection.remove(faceId) ? deleted : unknown
      list.push(faceId)
    }
    return {
      DeletedFaces: deleted,
      UnsuccessfulFaceDeletions: unknown.map((FaceId) => ({ FaceId, Reasons: ['FACE_NOT_FOUND'] })),
    }
  },
})
