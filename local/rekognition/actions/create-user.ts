import type { CreateUserResponse } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action } from '../action.ts'
import { collectionIdSchema, requestTokenSchema, userIdSchema } from '../validation.ts'

export const createUser = action({
  input: z.object({
    CollectionId: collectionIdSchema,
    UserId: userIdSchema,
    ClientRequestToken: requestTokenSchema,
  }),
  run({ CollectionId, UserId, ClientRequestToken }, { collections }): CreateUserResponse {
    collections.get(CollectionId).createUser(UserId, ClientRequestToken)
    return {}
  },
})
