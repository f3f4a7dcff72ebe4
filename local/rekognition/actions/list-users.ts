import type { ListUsersResponse } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action } from '../action.ts'
import { takePage } from '../paging.ts'
import { collectionIdSchema, nextTokenSchema } from '../validation.ts'
import { wireUser } from '../wire.ts'

export const listUsers = action({
  input: z.object({
    CollectionId: collectionIdSchema,
    MaxResults: z.int().min(1).max(500).default(500),
    NextToken: nextTokenSchema.optional(),
  }),
  run({ CollectionId, ...paging }, { collections }): ListUsersResponse {
    const { items, nextToken } = takePage(
      `users of ${CollectionId}`,
      collections.get(CollectionId).users(),
      paging,
    )
    return {
      Users: items.map(wireUser),
      NextToken: nextToken,
    }
  },
})
