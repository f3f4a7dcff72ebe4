import type { DetectFacesResponse } from '@aws-sdk/client-rekognition'
import { z } from 'zod'
import { action, facesIn } from '../action.ts'
import { attributesSchema, imageSchema } from '../validation.ts'

/** Answers with the default attributes, also when asked for more: no engine here knows others. */
export const detectFaces = action({
  input: z.object({ Image: imageSchema, Attributes: attributesSchema.optional() }),
  async run({ Image }, service, clientGone): Promise<DetectFacesResponse> {
    const photo = await service.photos.read(Image)
    const faces = await facesIn(photo.bytes, service, clientGone)
    return { FaceDetails: faces.slice(0, 100).map((face) => face.detail) }
  },
})
