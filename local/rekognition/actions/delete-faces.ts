import type { DeleteFacesResponse, UnsuccessfulFaceDeletion } from '@aws-sdk/client-rekognition'
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
    const DeletedFaces: string[] = []
    const UnsuccessfulFaceDeletions: UnsuccessfulFaceDeletion[] = []
    for (const FaceId of new Set(FaceIds)) {
      const user = collection.userOf(FaceId)
      if (user) {
        const Reasons = ['ASSOCIATED_TO_AN_EXISTING_USER' as const]
        UnsuccessfulFaceDeletions.push({ FaceId, UserId: user.userId, Reasons })
      } else if (collection.remove(FaceId)) DeletedFaces.push(FaceId)
      else UnsuccessfulFaceDeletions.push({ FaceId, Reasons: ['FACE_NOT_FOUND'] })
    }
    return { DeletedFaces, UnsuccessfulFaceDeletions }
  },
})
