import {
  CreateCollectionCommand,
  DeleteCollectionCommand,
  DeleteFacesCommand,
  IndexFacesCommand,
  ListFacesCommand,
  RekognitionClient,
  RekognitionServiceException,
} from '@aws-sdk/client-rekognition'
import { NodeHttpHandler } from '@smithy/node-http-handler'

/** What IndexFaces made of a photo: the face's id, or why there is none. */
export type Indexed = { faceId: string } | { faceId: null; reason: 'no_face' | 'face_quality' }

/** Faces of a collection by ExternalImageId. */
export type Listing = Map<string, string[]>

const LARGEST_PAGE = 4096 // of ListFaces and DeleteFaces

/** How long a call may take, in ms, before it counts as not answered. */
export const CALL_TIMEOUT_MS = 10_000

export const connectRekognition = () =>
  new RekognitionClient({
    // Calls are repeated by the worker, which knows the pace of all workers, what is left of its time, and what a call
    // that got no answer means; a retry inside the client would know none of these.
    maxAttempts: 1,
    requestHandler: new NodeHttpHandler({
      connectionTimeout: 4_000,
      requestTimeout: CALL_TIMEOUT_MS,
      throwOnRequestTimeout: true,
    }),
  })

/** Indexes the largest face of a photo in the bucket. The same photo again makes no second face and answers the same id. */
export async function indexFace(
  rekognition: RekognitionClient,
  collection: string,
  userId: string,
  photo: { bucket: string; key: string },
): Promise<Indexed> {
  const { FaceRecords = [], UnindexedFaces = [] } = await rekognition.send(
    new IndexFacesCommand({
      CollectionId: collection,
      ExternalImageId: userId,
      Image: { S3Object: { Bucket: photo.bucket, Name: photo.key } },
      MaxFaces: 1,
      QualityFilter: 'AUTO',
      DetectionAttributes: [],
    }),
  )
  const faceId = FaceRecords[0]?.Face?.FaceId
  if (faceId) return { faceId }
  return { faceId: null, reason: UnindexedFaces.length > 0 ? 'face_quality' : 'no_face' }
}

/** All faces of a collection. ListFaces cannot filter by ExternalImageId, so this costs a call per 4,096 faces. */
export async function listFaces(rekognition: RekognitionClient, collection: string): Promise<Listing> {
  const listing: Listing = new Map()
  let page: string | undefined
  do {
    const { Faces = [], NextToken } = await rekognition.send(
      new ListFacesCommand({ CollectionId: collection, MaxResults: LARGEST_PAGE, NextToken: page }),
    )
    for (const { ExternalImageId, FaceId } of Faces) {
      if (!ExternalImageId || !FaceId) continue
      const faces = listing.get(ExternalImageId)
      if (faces) faces.push(FaceId)
      else listing.set(ExternalImageId, [FaceId])
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

/** Makes sure of a collection: says whether it was made now or was there. */
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
