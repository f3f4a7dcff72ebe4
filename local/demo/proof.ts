import {
  DetectFacesCommand,
  InvalidParameterException,
  type RekognitionClient,
  SearchFacesByImageCommand,
} from '@aws-sdk/client-rekognition'
import { annotate } from '../annotate.ts'
import { cropPortrait } from '../photos.ts'
import type { BoundingBox } from '../rekognition/engine.ts'

/** A face on a photo, as the camera of an event sees it. */
export interface SeenFace {
  box: BoundingBox
  crop: Buffer
}

/** Who it is, by ExternalImageId, and how surely in percent; null when nobody of the collection. */
export type Recognised = { userId: string; similarity: number } | null

/** Finds all faces on a photo. SearchFacesByImage looks at the largest only, so each is cut out to be searched by itself. */
export async function seeFaces(rekognition: RekognitionClient, photo: Buffer): Promise<SeenFace[]> {
  const { FaceDetails = [] } = await rekognition.send(new DetectFacesCommand({ Image: { Bytes: photo } }))
  const boxes = FaceDetails.flatMap(({ BoundingBox: box }) => {
    const { Left, Top, Width, Height } = box ?? {}
    if (Left === undefined || Top === undefined || Width === undefined || Height === undefined) return []
    return [{ Left, Top, Width, Height }]
  }).sort((one, other) => one.Left - other.Left)
  return Promise.all(boxes.map(async (box) => ({ box, crop: await cropPortrait(photo, box) })))
}

/** Searches a face in a collection. */
export async function recognise(
  rekognition: RekognitionClient,
  collection: string,
  { crop }: SeenFace,
): Promise<Recognised> {
  try {
    const { FaceMatches = [] } = await rekognition.send(
      new SearchFacesByImageCommand({ CollectionId: collection, Image: { Bytes: crop }, MaxFaces: 1 }),
    )
    const { Face, Similarity = 0 } = FaceMatches[0] ?? {}
    return Face?.ExternalImageId ? { userId: Face.ExternalImageId, similarity: Similarity } : null
  } catch (error) {
    if (error instanceof InvalidParameterException) return null // no face that is large or sharp enough to search for
    throw error
  }
}

/** The photo with each face framed and, where it was recognised, its name and id. Returns a JPEG. */
export function picture(
  photo: Buffer,
  faces: { box: BoundingBox; recognised: Recognised }[],
  nameOf: (userId: string) => string,
): Promise<Buffer> {
  return annotate(
    photo,
    faces.map(({ box, recognised }) => ({
      box,
      found: recognised !== null,
      label: recognised ? `${nameOf(recognised.userId)} ${recognised.userId.slice(0, 8)}` : 'unknown',
    })),
  )
}
