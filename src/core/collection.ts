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

/** Faces of a collection by ExternalImageId in lower case: our user ids. */
export interface Listing {
  faces: Map<string, string[]>
  /** Faces whose ExternalImageId is no user id, or is missing. */
  foreign: number
}

const LARGEST_PAGE = 4096 // of ListFaces and DeleteFaces
const USER_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/**
 * A photo shows several people when another face has at least this share of the indexed face's area: then nobody can say whose
 * the profile is. A face of half the area has 70 % of the width. Bystanders in the background are smaller.
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
 * Indexes the face of a photo. The same photo again makes no second face and answers the same id.
 * @param severalFaces what to do with a photo of several people: nothing of it may stay, or its largest face
 */
export async function indexPhoto(
  rekognition: RekognitionClient,
  collection: string,
  userId: string,
  photo: PhotoRef,
  severalFaces: 'skip' | 'largest',
): Promise<Indexed> {
  const index = async (MaxFaces: number) => {
    const { FaceRecords = [], UnindexedFaces = [] } = await rekognition.send(
      new IndexFacesCommand({
        CollectionId: collection,
        ExternalImageId: userId,
        Image: { S3Object: { Bucket: photo.bucket, Name: photo.key, Version: photo.versionId } },
        MaxFaces,
        QualityFilter: 'AUTO',
        DetectionAttributes: [],
      }),
    )
    return { FaceRecords, UnindexedFaces }
  }

  const { FaceRecords, UnindexedFaces } = await index(1)
  const faceId = FaceRecords[0]?.Face?.FaceId
  if (!faceId) return { faceId: null, reason: reasonWithoutFace(UnindexedFaces), obsoleteFaceIds: [] }

  const own = areaOf(FaceRecords[0]?.FaceDetail)
  const largestOther = Math.max(
    0,
    ...UnindexedFaces.filter(isAFace).map(({ FaceDetail }) => areaOf(FaceDetail)),
  )
  if (largestOther < SIMILAR_FACE_SHARE * own) return { faceId, reason: null, obsoleteFaceIds: [] }
  if (severalFaces === 'skip') return { faceId: null, reason: 'several_faces', obsoleteFaceIds: [faceId] }
  if (largestOther <= own) return { faceId, reason: null, obsoleteFaceIds: [] }

  // MaxFaces 1 has kept the face of the best quality, and another one is larger.
  const all = (await index(20)).FaceRecords
  const largest = largestOf(all)?.Face?.FaceId ?? faceId
  const ids = [faceId, ...all.flatMap(({ Face }) => Face?.FaceId ?? [])]
  return { faceId: largest, reason: null, obsoleteFaceIds: [...new Set(ids)].filter((id) => id !== largest) }
}

const areaOf = (detail: FaceDetail | undefined): number =>
  (detail?.BoundingBox?.Width ?? 0) * (detail?.BoundingBox?.Height ?? 0)

const isAFace = ({ Reasons = [] }: UnindexedFace): boolean => !Reasons.includes('LOW_CONFIDENCE')

const largestOf = (records: FaceRecord[]): FaceRecord | undefined =>
  records.toSorted((one, other) => areaOf(other.FaceDetail) - areaOf(one.FaceDetail))[0]

const QUALITY_REASONS: Record<string, string> = {
  LOW_BRIGHTNESS: 'face_too_dark',
  LOW_SHARPNESS: 'face_blurred',
  EXTREME_POSE: 'face_turned_away',
  SMALL_BOUNDING_BOX: 'face_too_small',
  LOW_FACE_QUALITY: 'face_quality',
}

/** Why no face was indexed: by the largest face that was detected. */
function reasonWithoutFace(unindexed: UnindexedFace[]): string {
  const [largest] = unindexed
    .filter(isAFace)
    .toSorted((one, other) => areaOf(other.FaceDetail) - areaOf(one.FaceDetail))
  if (!largest) return 'no_face'
  const [reason] = (largest.Reasons ?? []).flatMap((name) => QUALITY_REASONS[name] ?? [])
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
