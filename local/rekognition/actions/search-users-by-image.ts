import type { SearchUsersByImageResponse } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action } from '../action.ts'
import { searchedFace } from '../searched-face.ts'
import {
  collectionIdSchema,
  faceMatchThresholdSchema,
  imageSchema,
  maxUsersSchema,
  qualityFilterSchema,
} from '../validation.ts'
import { faceModelVersion, wireUserMatch } from '../wire.ts'

/** Searches for the largest face of the image among the users of a collection. */
export const searchUsersByImage = action({
  input: z.object({
    CollectionId: collectionIdSchema,
    Image: imageSchema,
    UserMatchThreshold: faceMatchThresholdSchema,
    MaxUsers: maxUsersSchema,
    QualityFilter: qualityFilterSchema.default('NONE'),
  }),
  async run(input, service, clientGone): Promise<SearchUsersByImageResponse> {
    const { collections, engine } = service
    collections.get(input.CollectionId)
    const { largest, others, rejected } = await searchedFace(
      input.Image,
      input.QualityFilter,
      service,
      clientGone,
    )
    const matches = collections
      .get(input.CollectionId)
      .userMatches(
        (template) => engine.similarity(largest.template, template),
        input.UserMatchThreshold,
        input.MaxUsers,
      )
    return {
      UserMatches: matches.map(wireUserMatch),
      FaceModelVersion: faceModelVersion,
      SearchedFace: { FaceDetail: largest.detail },
      UnsearchedFaces: [
        ...rejected.map(({ face, reasons }) => ({ FaceDetails: face.detail, Reasons: reasons })),
        ...others.map((face) => ({ FaceDetails: face.detail, Reasons: ['FACE_NOT_LARGEST' as const] })),
      ],
    }
  },
})
