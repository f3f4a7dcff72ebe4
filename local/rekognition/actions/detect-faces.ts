import type { DetectFacesResponse } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action } from '../action.ts'
import { attributesSchema, imageSchema } from '../validation.ts'

/** Answers with the default attributes, also when asked for more: no engine here knows others. */
export const detectFaces = action({
  input: z.object({ Image: imageSchema, Attributes: attributesSchema.optional() }),
  async run({ Image }, { engine, photos }): Promise<DetectFacesResponse> {
    const photo = await photos.read(Image)
    const faces = await engine.detect(photo.bytes)
    return { FaceDetails: faces.slice(0, 100).map((face) => face.detail) }
  },
})
