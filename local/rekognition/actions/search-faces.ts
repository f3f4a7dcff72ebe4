import type { SearchFacesResponse } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action } from '../action.ts'
import { collectionIdSchema, faceIdSchema, faceMatchThresholdSchema, maxFacesSchema } from '../validation.ts'
import { faceModelVersion, wireMatch } from '../wire.ts'

export const searchFaces = action({
  input: z.object({
    CollectionId: collectionIdSchema,
    FaceId: faceIdSchema,
    MaxFaces: maxFacesSchema,
    FaceMatchThreshold: faceMatchThresholdSchema,
  }),
  run({ CollectionId, FaceId, MaxFaces, FaceMatchThreshold }, { collections, engine }): SearchFacesResponse {
    const collection = collections.get(CollectionId)
    const searched = collection.face(FaceId)
    const matches = collection
      .matches((template) => engine.similarity(searched.template, template), FaceMatchThreshold, MaxFaces + 1)
      .filter(({ face }) => face !== searched)
      .slice(0, MaxFaces)
    return {
      SearchedFaceId: FaceId,
      FaceMatches: matches.map(wireMatch),
      FaceModelVersion: faceModelVersion,
    }
  },
})
