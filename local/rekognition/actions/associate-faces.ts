import type { AssociateFacesResponse, UnsuccessfulFaceAssociation } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action } from '../action.ts'
import { collectionIdSchema, faceIdSchema, requestTokenSchema, userIdSchema } from '../validation.ts'

/** A face that is the user's already is left out of the answer (API Reference). */
export const associateFaces = action({
  input: z.object({
    CollectionId: collectionIdSchema,
    UserId: userIdSchema,
    FaceIds: z.array(faceIdSchema).min(1).max(100),
    UserMatchThreshold: z.number().min(0).max(100).default(75),
    ClientRequestToken: requestTokenSchema,
  }),
  run(input, { collections, engine }): AssociateFacesResponse {
    const collection = collections.get(input.CollectionId)
    const user = collection.user(input.UserId)
    const isNew = user.faceIds.size === 0
    const AssociatedFaces: { FaceId: string }[] = []
    const UnsuccessfulFaceAssociations: UnsuccessfulFaceAssociation[] = []
    for (const FaceId of new Set(input.FaceIds)) {
      const face = collection.find(FaceId)
      const owner = collection.userOf(FaceId)
      if (owner === user) continue
      if (!face) {
        UnsuccessfulFaceAssociations.push({ FaceId, Reasons: ['FACE_NOT_FOUND'] })
        continue
      }
      if (owner) {
        const Reasons = ['ASSOCIATED_TO_A_DIFFERENT_USER' as const]
        UnsuccessfulFaceAssociations.push({ FaceId, UserId: owner.userId, Reasons })
        continue
      }
      const Confidence = collection.similarityTo(user, (template) =>
        engine.similarity(face.template, template),
      )
      if (!isNew && Confidence < input.UserMatchThreshold) {
        const Reasons = ['LOW_MATCH_CONFIDENCE' as const]
        UnsuccessfulFaceAssociations.push({ FaceId, Confidence, Reasons })
        continue
      }
      collection.associate(face, user)
      AssociatedFaces.push({ FaceId })
    }
    return { AssociatedFaces, UnsuccessfulFaceAssociations, UserStatus: 'UPDATING' }
  },
})
