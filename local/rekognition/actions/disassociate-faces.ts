import type { DisassociateFacesResponse, UnsuccessfulFaceDisassociation } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action } from '../action.ts'
import { collectionIdSchema, faceIdSchema, requestTokenSchema, userIdSchema } from '../validation.ts'

export const disassociateFaces = action({
  input: z.object({
    CollectionId: collectionIdSchema,
    UserId: userIdSchema,
    FaceIds: z.array(faceIdSchema).min(1).max(100),
    ClientRequestToken: requestTokenSchema,
  }),
  run({ CollectionId, UserId, FaceIds }, { collections }): DisassociateFacesResponse {
    const collection = collections.get(CollectionId)
    const user = collection.user(UserId)
    const DisassociatedFaces: { FaceId: string }[] = []
    const UnsuccessfulFaceDisassociations: UnsuccessfulFaceDisassociation[] = []
    for (const FaceId of new Set(FaceIds)) {
      const owner = collection.userOf(FaceId)
      if (owner === user) {
        collection.disassociate(FaceId, user)
        DisassociatedFaces.push({ FaceId })
      } else if (owner) {
        const Reasons = ['ASSOCIATED_TO_A_DIFFERENT_USER' as const]
        UnsuccessfulFaceDisassociations.push({ FaceId, UserId: owner.userId, Reasons })
      } else UnsuccessfulFaceDisassociations.push({ FaceId, Reasons: ['FACE_NOT_FOUND'] })
    }
    return { DisassociatedFaces, UnsuccessfulFaceDisassociations, UserStatus: 'UPDATING' }
  },
})
