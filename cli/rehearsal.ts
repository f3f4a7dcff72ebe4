import { RekognitionClient, SearchFacesCommand } from '@aws-sdk/client-rekognition'
import pMap from 'p-map'
import type { FaceEngine } from '../local/rekognition/engine.ts'
import { RekognitionError } from '../local/rekognition/errors.ts'
import { startRekognition } from '../local/rekognition/server.ts'
import { convertObject } from '../src/converter/converter.ts'
import { ensureCollection } from '../src/core/collection.ts'
import type { LeasedJob, Rehearsed } from '../src/core/contract.ts'
import { type PhotoStore, PhotoStoreError } from '../src/core/photo-store.ts'
import { MISSING_PATIENCE_SECONDS } from '../src/core/policy.ts'
import { type Calls, followAttendee } from '../src/worker/attendee.ts'
import { Pace } from '../src/worker/pace.ts'

/** What the worker would make of one attendee. */
export interface Rehearsal {
  user_id: string
  photo_key: string | null
  outcome: 'indexed' | 'skipped' | 'failed'
  reason: string | null
  /** What went wrong, of a failed one. */
  error: string | null
}

/** Two attendees whose faces a search takes for one person's: each is recognised, perhaps as the other. */
export interface LookAlikes {
  user_ids: [string, string]
  /** In percent. */
  similarity: number
}

/** What the worker's deployment says of photos. */
export interface PhotoRules {
  severalFaces: Calls['severalFaces']
  convertPhotos: boolean
}

/** What a rehearsal has found. */
export interface Rehearsals {
  attendees: Rehearsal[]
  alike: LookAlikes[]
}

const COLLECTION = 'rehearsal'
const REGION = 'us-east-1' // in no request that leaves this process
/** As many as the engine looks at side by side: a photo that waits is none that it refuses. */
const AT_ONCE = 2
const MOST_PHOTO_BYTES = 15 * 1024 * 1024
/** At which similarity, in percent, Rekognition calls it a match unless told otherwise. */
const MATCH = 80
const MOST_ALIKE = 10

/**
 * Does for these attendees what the worker would do, by the worker's own code, with a Rekognition in this process: an engine that
 * looks at the photos, and a collection that is gone afterwards. Nothing is written, and no photo leaves this machine.
 * @param tell told after each photo how many have been looked at
 */
export async function rehearseAttendees(
  wanted: Rehearsed[],
  photos: PhotoStore,
  rules: PhotoRules,
  engine: FaceEngine,
  tell: (done: number) => void = () => {},
): Promise<Rehearsals> {
  const server = await startRekognition({
    engine,
    region: REGION,
    s3Endpoint: (_bucket, key) => readPhoto(photos, key),
  })
  const rekognition = new RekognitionClient({
    region: REGION,
    endpoint: server.endpoint,
    credentials: { accessKeyId: 'rehearsal', secretAccessKey: 'rehearsal' },
    maxAttempts: 1,
  })
  try {
    await ensureCollection(rekognition, COLLECTION)
    const calls = callsOf(rekognition, photos, rules)
    let done = 0
    const attendees = await pMap(
      wanted,
      async (each) => {
        const rehearsal = await rehearse(each, calls)
        tell(++done)
        return rehearsal
      },
      { concurrency: AT_ONCE },
    )
    const faces = server.collection(COLLECTION) ?? []
    const alike = await lookAlikes(
      rekognition,
      faces.map(({ faceId }) => faceId),
    )
    return { attendees, alike }
  } finally {
    rekognition.destroy()
    await server.close()
  }
}

function callsOf(
  rekognition: RekognitionClient,
  photos: PhotoStore,
  { severalFaces, convertPhotos }: PhotoRules,
): Calls {
  const remaining = () => Number.POSITIVE_INFINITY
  const atOnce = { first_ms: 0, every_ms: 0 }
  return {
    rekognition,
    photos,
    convert: convertPhotos ? (photo) => convertObject(photo, photos) : undefined,
    severalFaces,
    collection: COLLECTION,
    list: async () => ({ faces: new Map(), foreign: 0 }),
    createCollection: async () => false,
    stillWanted: async () => true,
    remaining,
    pace: new Pace(atOnce, Number.POSITIVE_INFINITY, async () => atOnce, remaining),
    onIndexCall: () => {},
    onThrottled: () => {},
  }
}

async function rehearse({ user_id, photo_key, reason }: Rehearsed, calls: Calls): Promise<Rehearsal> {
  if (photo_key === null) return { user_id, photo_key, outcome: 'skipped', reason, error: null }
  const { result } = await followAttendee(firstJobOf(user_id, photo_key), calls)
  const { outcome, reason: why, error } = result
  if (outcome === 'indexed' || outcome === 'skipped')
    return { user_id, photo_key, outcome, reason: why, error: null }
  return { user_id, photo_key, outcome: 'failed', reason: why ?? 'unavailable', error }
}

/** A job that nobody has worked on yet, of somebody whose photo has had the time to arrive. */
const firstJobOf = (user_id: string, photo_key: string): LeasedJob => ({
  event_id: COLLECTION,
  user_id,
  version: 1,
  action: 'act',
  wait_seconds: null,
  photo_key,
  reason: null,
  face_id: null,
  face_key: null,
  face_etag: null,
  may_stay: false,
  refused: null,
  obsolete_face_ids: [],
  needs_listing: false,
  missing_seconds: MISSING_PATIENCE_SECONDS,
  unanswered: 0,
})

async function readPhoto(photos: PhotoStore, key: string): Promise<Uint8Array> {
  try {
    return await photos.readStart(key, MOST_PHOTO_BYTES)
  } catch (error) {
    if (error instanceof PhotoStoreError && error.status !== 404)
      throw new RekognitionError('InternalServerError', error.message)
    throw new RekognitionError('InvalidS3ObjectException')
  }
}

/** The pairs of faces that match, the most similar first. */
async function lookAlikes(rekognition: RekognitionClient, faceIds: string[]): Promise<LookAlikes[]> {
  const pairs = new Map<string, LookAlikes>()
  const userOf = new Map<string, string>()
  for (const FaceId of faceIds) {
    const { FaceMatches = [], SearchedFaceId = '' } = await rekognition.send(
      new SearchFacesCommand({
        CollectionId: COLLECTION,
        FaceId,
        FaceMatchThreshold: MATCH,
        MaxFaces: MOST_ALIKE,
      }),
    )
    for (const { Face, Similarity = 0 } of FaceMatches) {
      const { FaceId: other = '', ExternalImageId = '' } = Face ?? {}
      userOf.set(other, ExternalImageId)
      const pair = [SearchedFaceId, other].sort().join(' ')
      if (!pairs.has(pair)) pairs.set(pair, { user_ids: [SearchedFaceId, other], similarity: Similarity })
    }
  }
  return [...pairs.values()]
    .map(({ user_ids: [one, other], similarity }) => ({
      user_ids: [userOf.get(one) ?? one, userOf.get(other) ?? other].sort() as [string, string],
      similarity,
    }))
    .sort((one, other) => other.similarity - one.similarity)
}
