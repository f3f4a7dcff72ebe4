import type { CompareFacesResponse } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action, facesIn } from '../action.ts'
import { RekognitionError } from '../errors.ts'
import { screen } from '../quality-filter.ts'
import { faceMatchThresholdSchema, imageSchema, qualityFilterSchema } from '../validation.ts'
import { wireComparedFace } from '../wire.ts'

/** The largest faces of the target image are compared, up to so many. */
const mostFaces = 100

/** Compares the largest face of one image with all faces of another. */
export const compareFaces = action({
  input: z.object({
    SourceImage: imageSchema,
    TargetImage: imageSchema,
    SimilarityThreshold: faceMatchThresholdSchema,
    QualityFilter: qualityFilterSchema.default('NONE'),
  }),
  async run(input, service, clientGone): Promise<CompareFacesResponse> {
    const [sources, targets] = await Promise.all(
      [input.SourceImage, input.TargetImage].map(async (image) => {
        const photo = await service.photos.read(image)
        const faces = await facesIn(photo.bytes, service, clientGone)
        return screen(faces, input.QualityFilter).accepted
      }),
    )
    const source = sources?.[0]
    // No face in either image: the service does not say which.
    if (!source || !targets?.[0]) throw new RekognitionError('InvalidParameterException')

    const compared = targets.slice(0, mostFaces).map((target) => ({
      face: wireComparedFace(target),
      similarity: service.engine.similarity(source.template, target.template),
    }))
    const { BoundingBox, Confidence } = source.detail
    return {
      SourceImageFace: { BoundingBox, Confidence },
      FaceMatches: compared
        .filter(({ similarity }) => similarity >= input.SimilarityThreshold)
        .sort((one, other) => other.similarity - one.similarity)
        .map(({ face, similarity }) => ({ Similarity: similarity, Face: face })),
      UnmatchedFaces: compared
        .filter(({ similarity }) => similarity < input.SimilarityThreshold)
        .map(({ face }) => face),
    }
  },
})
