import type { SearchFacesByImageResponse } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action } from '../action.ts'
import { searchedFace } from '../searched-face.ts'
import {
  collectionIdSchema,
  faceMatchThresholdSchema,
  imageSchema,
  maxFacesSchema,
  qualityFilterSchema,
} from '../validation.ts'
import { faceModelVersion, wireMatch } from '../wire.ts'

/** Searches for the largest face of the image. */
export const searchFacesByImage = action({
  input: z.object({
    CollectionId: collectionIdSchema,
    Image: imageSchema,
    MaxFaces: maxFacesSchema,
    FaceMatchThreshold: faceMatchThresholdSchema,
    QualityFilter: qualityFilterSchema.default('NONE'),
  }),
  async run(input, service, clientGone): Promise<SearchFacesByImageResponse> {
    const { collections, engine } = service
    collections.get(input.CollectionId)
    const { largest } = await searchedFace(input.Image, input.QualityFilter, service, clientGone)
    const matches = collections
      .get(input.CollectionId)
      .matches(
        (template) => engine.similarity(largest.template, template),
        input.FaceMatchThreshold,
        input.MaxFaces,
      )
    return {
      SearchedFaceBoundingBox: largest.detail.BoundingBox,
      SearchedFaceConfidence: largest.detail.Confidence,
      FaceMatches: matches.map(wireMatch),
      FaceModelVersion: faceModelVersion,
    }
  },
})
