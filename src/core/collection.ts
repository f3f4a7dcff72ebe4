import {
  CreateCollectionCommand,
  DeleteCollectionCommand,
  DeleteFacesCommand,
  type FaceDetail,
  type FaceRecord,
  IndexFacesCommand,
  ListCollectionsCommand,
  ListFacesCommand,
  RekognitionClient,
  RekognitionServiceException,
  type UnindexedFace,
} from '@aws-sdk/client-rekognition'
import { NodeHttpHandler } from '@smithy/node-http-handler'
import { CALL_TIMEOUT_MS } from './policy.ts'

/** What IndexFaces made of a photo: the attendee's face, or why none may stay; and faces that it left there and must go. */
export interface Indexed {
  faceId: string | null
  reason: string | null
  obsoleteFaceIds: string[]
}

/** A photo in the bucket, at exactly this version where the bucket keeps versions. */
export interface PhotoRef {
  bucket: string
  key: string
  versionId?: string | undefined
}

/** A photo in the bucket, or the bytes of what was made of one. */
export type Photo = PhotoRef | { bytes: Uint8Array }

/** Faces of a collection by ExternalImageId in lower case: our user ids. */
export interface Listing {
  faces: Map<string, string[]>
  /** Faces whose ExternalImageId is no user id, or is missing. */
  foreign: number
}

const LARGEST_PAGE = 4096 // of ListFaces and DeleteFaces
const USER_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/**
 * A photo shows several people when its second largest face has at least this share of the largest one's area: then nobody can
 * say whose the profile is. A face of half the area has 70 % of the width. Bystanders in the background are smaller.
 */
const SIMILAR_FACE_SHARE = 0.5

export const connectRekognition = () =>
  new RekognitionClient({
    // Calls are repeated by the worker, which knows the pace of all workers, what is left of its time, and what a call
    // without an answer means; a retry inside the client would know none of these.
    maxAttempts: 1,
    requestHandler: new NodeHttpHandler({
      connectionTimeout: 4_000,
      requestTimeout: CALL_TIMEOUT_MS,
      throwOnRequestTimeout: true,
    }),
  })

/**
 * Indexes the largest face of a photo, and no other. The same photo again makes no second face and answers the same id.
 * IndexFaces with `MaxFaces: 1` keeps the face of the best quality, which may be a bystander's: where it has left out the largest face
 * for that, a second call indexes all faces, of which the others are obsolete.
 * @param severalFaces what to do with a photo of several people: nothing of it may stay, or its largest face
 */
export async function indexPhoto(
  rekognition: RekognitionClient,
  collection: string,
  userId: string,
  photo: Photo,
  severalFaces: 'skip' | 'largest',
): Promise<Indexed> {
  const index = async (MaxFaces: number) => {
    const { FaceRecords = [], UnindexedFaces = [] } = await rekognition.send(
      new IndexFacesCommand({
        CollectionId: collection,
        ExternalImageId: userId,
        Image:
          'bytes' in photo
            ? { Bytes: photo.bytes }
            : { S3Object: { Bucket: photo.bucket, Name: photo.key, Version: photo.versionId } },
        MaxFaces,
        QualityFilter: 'AUTO',
        DetectionAttributes: [],
      }),
    )
    return bySize(FaceRecords, UnindexedFaces)
  }

  let faces = await index(1)
  const [first, second] = faces
  const several = first && second && second.area >= SIMILAR_FACE_SHARE * first.area
  if (!(several && severalFaces === 'skip') && first?.leftOut.includes('EXCEEDS_MAX_FACES'))
    faces = [...(await index(faces.length)), ...faces.filter(({ faceId }) => faceId)]

  const indexed = faces.flatMap(({ faceId }) => faceId ?? [])
  const reason = reasonAgainst(faces[0], Boolean(several) && severalFaces === 'skip')
  const faceId = (reason === null && faces[0]?.faceId) || null
  return { faceId, reason, obsoleteFaceIds: [...new Set(indexed)].filter((id) => id !== faceId) }
}

/** A face that IndexFaces found in a photo: indexed, or left out for these reasons of Rekognition. */
interface FoundFace {
  faceId: string | undefined
  leftOut: string[]
  /** As a share of the photo's. */
  area: number
}

/** The largest first. What Rekognition is not sure to be a face is none. */
function bySize(records: FaceRecord[], unindexed: UnindexedFace[]): FoundFace[] {
  const areaOf = ({ BoundingBox }: FaceDetail = {}) => (BoundingBox?.Width ?? 0) * (BoundingBox?.Height ?? 0)
  const found = ({ FaceDetail }: UnindexedFace, leftOut: string[], faceId?: string): FoundFace => ({
    faceId,
    leftOut,
    area: areaOf(FaceDetail),
  })
  return [
    ...records.map((record) => found(record, [], record.Face?.FaceId)),
    ...unindexed.map((face) => found(face, face.Reasons ?? [])),
  ]
    .filter(({ leftOut }) => !leftOut.includes('LOW_CONFIDENCE'))
    .toSorted((one, other) => other.area - one.area)
}

const QUALITY_REASONS: Record<string, string> = {
  LOW_BRIGHTNESS: 'face_too_dark',
  LOW_SHARPNESS: 'face_blurred',
  EXTREME_POSE: 'face_turned_away',
  SMALL_BOUNDING_BOX: 'face_too_small',
  LOW_FACE_QUALITY: 'face_quality',
}

/** Why the largest face of a photo may not stay; null when it may. */
function reasonAgainst(largest: FoundFace | undefined, several: boolean): string | null {
  if (!largest) return 'no_face'
  if (several) return 'several_faces'
  if (largest.faceId) return null
  const [reason] = largest.leftOut.flatMap((name) => QUALITY_REASONS[name] ?? [])
  return reason ?? 'face_quality'
}

/** All faces of a collection. ListFaces cannot filter by ExternalImageId, so this costs a call per 4,096 faces. */
export async function listFaces(rekognition: RekognitionClient, collection: string): Promise<Listing> {
  const listing: Listing = { faces: new Map(), foreign: 0 }
  let page: string | undefined
  do {
    const { Faces = [], NextToken } = await rekognition.send(
      new ListFacesCommand({ CollectionId: collection, MaxResults: LARGEST_PAGE, NextToken: page }),
    )
    for (const { ExternalImageId = '', FaceId } of Faces) {
      const user = ExternalImageId.toLowerCase()
      if (!FaceId) continue
      if (!USER_ID.test(user)) {
        listing.foreign++
        continue
      }
      const faces = listing.faces.get(user)
      if (faces) faces.push(FaceId)
      else listing.faces.set(user, [FaceId])
    }
    page = NextToken
  } while (page)
  return listing
}

/** Deletes faces; one that is not there is no error. Returns those that could not be deleted. */
export async function deleteFaces(
  rekognition: RekognitionClient,
  collection: string,
  faceIds: string[],
): Promise<string[]> {
  const remaining: string[] = []
  for (let start = 0; start < faceIds.length; start += LARGEST_PAGE) {
    const { UnsuccessfulFaceDeletions = [] } = await rekognition.send(
      new DeleteFacesCommand({
        CollectionId: collection,
        FaceIds: faceIds.slice(start, start + LARGEST_PAGE),
      }),
    )
    for (const { FaceId, Reasons = [] } of UnsuccessfulFaceDeletions) {
      if (FaceId && !Reasons.includes('FACE_NOT_FOUND')) remaining.push(FaceId)
    }
  }
  return remaining
}

/** Creates a collection; says whether it was there before. */
export async function ensureCollection(
  rekognition: RekognitionClient,
  collection: string,
): Promise<'created' | 'exists'> {
  try {
    await rekognition.send(new CreateCollectionCommand({ CollectionId: collection }))
    return 'created'
  } catch (error) {
    if (isError(error, 'ResourceAlreadyExistsException')) return 'exists'
    throw error
  }
}

/** Deletes a collection with all its faces; one that is not there is no error. */
export async function dropCollection(rekognition: RekognitionClient, collection: string): Promise<void> {
  try {
    await rekognition.send(new DeleteCollectionCommand({ CollectionId: collection }))
  } catch (error) {
    if (!isError(error, 'ResourceNotFoundException')) throw error
  }
}

/** The events that have a collection, by our prefix. */
export async function listCollections(rekognition: RekognitionClient, prefix: string): Promise<string[]> {
  const events: string[] = []
  let page: string | undefined
  do {
    const { CollectionIds = [], NextToken } = await rekognition.send(
      new ListCollectionsCommand({ MaxResults: LARGEST_PAGE, NextToken: page }),
    )
    for (const id of CollectionIds) {
      const event = id.slice(prefix.length)
      if (id.startsWith(prefix) && USER_ID.test(event)) events.push(event)
    }
    page = NextToken
  } while (page)
  return events
}

/** Whether Rekognition refused the call for its quota: nothing was done, and the same call may pass a moment later. */
export const isThrottling = (error: unknown): boolean =>
  error instanceof RekognitionServiceException && THROTTLING.has(error.name)

const THROTTLING: ReadonlySet<string> = new Set([
  'ThrottlingException',
  'ProvisionedThroughputExceededException',
  'LimitExceededException',
])

/** Whether this is the error of that name that Rekognition answered. */
export const isError = (error: unknown, name: string): boolean =>
  error instanceof RekognitionServiceException && error.name === name
