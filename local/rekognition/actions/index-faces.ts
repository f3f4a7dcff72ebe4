import type { IndexFacesResponse } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action, facesIn } from '../action.ts'
import { keepBest, screen } from '../quality-filter.ts'
import {
  attributesSchema,
  collectionIdSchema,
  externalImageIdSchema,
  imageSchema,
  qualityFilterSchema,
} from '../validation.ts'
import { faceModelVersion, wireFace } from '../wire.ts'

/** IndexFaces indexes no more faces of an image, whatever MaxFaces says. */
const mostFaces = 100

/** Answers with the default attributes, also when asked for more: no engine here knows others. */
export const indexFaces = action({
  input: z.object({
    CollectionId: collectionIdSchema,
    Image: imageSchema,
    ExternalImageId: externalImageIdSchema.optional(),
    DetectionAttributes: attributesSchema.optional(),
    MaxFaces: z.int().min(1).optional(),
    QualityFilter: qualityFilterSchema.optional(),
  }),
  async run(input, service, clientGone): Promise<IndexFacesResponse> {
    const { collections, photos } = service
    collections.get(input.CollectionId)
    const photo = await photos.read(input.Image)
    const faces = await facesIn(photo.bytes, service, clientGone)

    const { accepted, rejected } = screen(faces, input.QualityFilter ?? 'AUTO')
    const maxFaces = Math.min(input.MaxFaces ?? mostFaces, mostFaces)
    const { kept, excess } = keepBest(accepted, maxFaces)

    // Looked up again: the collection may have been deleted while the photo was read.
    const collection = collections.get(input.CollectionId)
    const origin = { image: photo.bytes, imageKey: photo.key, externalImageId: input.ExternalImageId }
    const stored = collection.add(origin, kept)
    return {
      FaceRecords: stored.map((face, at) => ({ Face: wireFace(face), FaceDetail: kept[at]?.detail })),
      UnindexedFaces: [
        ...rejected.map(({ face, reasons }) => ({ FaceDetail: face.detail, Reasons: reasons })),
        ...excess.map((face) => ({ FaceDetail: face.detail, Reasons: ['EXCEEDS_MAX_FACES' as const] })),
      ],
      FaceModelVersion: faceModelVersion,
    }
  },
})
