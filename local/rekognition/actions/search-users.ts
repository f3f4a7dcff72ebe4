import type { SearchUsersResponse } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action } from '../action.ts'
import type { FaceTemplate } from '../engine.ts'
import { RekognitionError } from '../errors.ts'
import {
  collectionIdSchema,
  faceIdSchema,
  faceMatchThresholdSchema,
  maxUsersSchema,
  userIdSchema,
} from '../validation.ts'
import { faceModelVersion, wireUserMatch } from '../wire.ts'

/** Searches the users of a collection for one of its faces, or for one of them, who is not found then. */
export const searchUsers = action({
  input: z.object({
    CollectionId: collectionIdSchema,
    FaceId: faceIdSchema.optional(),
    UserId: userIdSchema.optional(),
    UserMatchThreshold: faceMatchThresholdSchema,
    MaxUsers: maxUsersSchema,
  }),
  run(input, { collections, engine }): SearchUsersResponse {
    const { CollectionId, FaceId, UserId, UserMatchThreshold, MaxUsers } = input
    const collection = collections.get(CollectionId)
    if ((FaceId === undefined) === (UserId === undefined))
      throw new RekognitionError('InvalidParameterException')
    const user = UserId === undefined ? undefined : collection.user(UserId)
    const searched = user ? collection.facesOf(user) : [collection.face(FaceId ?? '')]
    const similarityTo = (template: FaceTemplate) =>
      Math.max(0, ...searched.map((face) => engine.similarity(face.template, template)))
    const matches = collection.userMatches(similarityTo, UserMatchThreshold, MaxUsers + 1)
    return {
      UserMatches: matches
        .filter((match) => match.user !== user)
        .slice(0, MaxUsers)
        .map(wireUserMatch),
      ...(user ? { SearchedUser: { UserId } } : { SearchedFace: { FaceId } }),
      FaceModelVersion: faceModelVersion,
    }
  },
})
