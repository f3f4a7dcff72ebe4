import {
  DetectFacesCommand,
  InvalidParameterException,
  RekognitionClient,
  type RekognitionClientConfig,
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

/** The most similar face of a collection: whose it is by ExternalImageId, and its similarity in percent. */
export interface Match {
  userId: string
  similarity: number
}

/** What a search found. `match` is null where nobody is similar enough; `closest` is the best below that. */
export interface Recognised {
  match: Match | null
  closest: Match | null
}

/** At which similarity, in percent, Rekognition calls it a match unless told otherwise. */
const THRESHOLD = 80

/** Connects to the local Rekognition, which on a slow or busy machine throttles the calls that it could not answer soon. */
export const connectPatiently = (config: RekognitionClientConfig): RekognitionClient =>
  new RekognitionClient({ ...config, maxAttempts: 10 })

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
      new SearchFacesByImageCommand({
        CollectionId: collection,
        Image: { Bytes: crop },
        MaxFaces: 1,
        FaceMatchThreshold: 0, // to learn the best score also where it is no match
      }),
    )
    const { Face, Similarity: similarity = 0 } = FaceMatches[0] ?? {}
    if (!Face?.ExternalImageId) return { match: null, closest: null }
    const best = { userId: Face.ExternalImageId, similarity }
    return similarity >= THRESHOLD ? { match: best, closest: null } : { match: null, closest: best }
  } catch (error) {
    // No face that is large or sharp enough to search for.
    if (error instanceof InvalidParameterException) return { match: null, closest: null }
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
    faces.map(({ box, recognised: { match } }) => ({
      box,
      found: match !== null,
      label: match ? `${nameOf(match.userId)} ${match.userId.slice(0, 8)}` : 'unknown',
    })),
  )
}
