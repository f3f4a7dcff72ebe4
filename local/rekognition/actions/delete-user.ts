import type { DeleteUserResponse } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action } from '../action.ts'
import { collectionIdSchema, requestTokenSchema, userIdSchema } from '../validation.ts'

export const deleteUser = action({
  input: z.object({
    CollectionId: collectionIdSchema,
    UserId: userIdSchema,
    ClientRequestToken: requestTokenSchema,
  }),
  run({ CollectionId, UserId }, { collections }): DeleteUserResponse {
    collections.get(CollectionId).deleteUser(UserId)
    return {}
  },
})
