import type { SearchFacesByImageResponse } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action, facesIn } from '../action.ts'
import { RekognitionError } from '../errors.ts'
import { screen } from '../quality-filter.ts'
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
    const { collections, engine, photos } = service
    collections.get(input.CollectionId)
    const photo = await photos.read(input.Image)
    const faces = await facesIn(photo.bytes, service, clientGone)

    const [largest] = screen(faces, input.QualityFilter).accepted
    if (!largest) {
      throw new RekognitionError(
        'InvalidParameterException',
        'There are no faces in the image. Should be at least 1.',
      )
    }
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
