import type { RekognitionClient } from '@aws-sdk/client-rekognition'
import { deleteFaces, type Indexed, indexPhoto, type Listing, type Photo } from '../core/collection.ts'
import type { LeasedJob, Result } from '../core/contract.ts'
import { type Convert, MAX_CONVERTED_BYTES } from '../core/converter.ts'
import { formatOf, isConvertible } from '../core/photo-format.ts'
import type { PhotoObject, PhotoStore } from '../core/photo-store.ts'
import { CONVERT_TIMEOUT_MS, MISSING_GRACE_SECONDS, MISSING_PATIENCE_SECONDS } from '../core/policy.ts'
import { OutOfTime, pause, type Remaining } from '../core/time.ts'
import { classify, FacesRemainError, type Failure, type FailureKind } from './failure.ts'
import type { Pace } from './pace.ts'

/** What the calls for one attendee need. */
export interface Calls {
  rekognition: RekognitionClient
  photos: PhotoStore
  /** Makes a JPEG of a photo that Rekognition does not take; undefined where that is switched off. */
  convert: Convert | undefined
  severalFaces: 'skip' | 'largest'
  /** The collection of the attendee's event. */
  collection: string
  /** Lists that collection; one listing serves all attendees of a batch. */
  list: () => Promise<Listing>
  /** Creates the collection that was found missing. False when its event is closed: then nothing may be indexed. */
  createCollection: () => Promise<boolean>
  /** Whether the app still wants what it wanted when the job was leased; reads it again when that is too long ago. */
  stillWanted: (job: LeasedJob) => Promise<boolean>
  /** Milliseconds in which calls may still be begun. */
  remaining: Remaining
  /** When IndexFaces may be called; shared by the batch. */
  pace: Pace
  /** Told of each IndexFaces call: its duration in ms. */
  onIndexCall: (ms: number) => void
  /** Told of each IndexFaces call that Rekognition throttled. */
  onThrottled: () => void
}

/** The result for an attendee, and what went wrong, if anything did. */
export interface Attempt {
  result: Result
  failure: Failure | null
}

const TRIES = 4
const BACKOFF_MS = 150
const MAX_PHOTO_BYTES = 15 * 1024 * 1024 // Rekognition's, for a photo in S3
/** After so many calls without an answer, a face that has appeared meanwhile is taken for theirs. */
const UNANSWERED_ENOUGH = 2

/** The desired state has changed since the job was leased. */
class NoLongerWanted extends Error {
  override name = 'NoLongerWanted'
}

/** No JPEG can be made of the photo, for this reason. */
class NotConvertible extends Error {
  override name = 'NotConvertible'
}

/**
 * Makes the collection follow one attendee: indexes the photo, or none, and deletes every other face of theirs.
 * Never throws: what went wrong is in the result, together with what is known to be in the collection all the same.
 */
export async function followAttendee(job: LeasedJob, calls: Calls): Promise<Attempt> {
  const result: Result = {
    event_id: job.event_id,
    user_id: job.user_id,
    outcome: 'later',
    photo_key: job.photo_key,
    photo_etag: null,
    face_id: job.face_id,
    obsolete_face_ids: job.obsolete_face_ids,
    needs_listing: job.needs_listing,
    refused: null,
    reason: null,
    error: null,
    index_calls: 0,
    faces_deleted: 0,
  }
  try {
    if (calls.remaining() <= 0) throw new OutOfTime()
    if (job.needs_listing) await findFaces(result, calls)
    if (job.photo_key === null) {
      if (!job.may_stay) dismissFace(result)
      await removeFaces(result, calls)
      result.outcome = 'erased'
    } else {
      await followPhoto(job, job.photo_key, result, calls)
    }
    return { result, failure: null }
  } catch (error) {
    if (error instanceof OutOfTime) return { result: { ...result, outcome: 'later' }, failure: null }
    if (error instanceof NoLongerWanted) return { result: { ...result, outcome: 'retry' }, failure: null }
    const failure = classify(error)
    return {
      result: { ...result, outcome: outcomeOf(failure.kind), reason: failure.kind, error: failure.message },
      failure,
    }
  }
}

function outcomeOf(kind: FailureKind): Result['outcome'] {
  if (kind === 'throttled') return 'later'
  return kind === 'unclear' ? 'unclear' : 'retry'
}

async function followPhoto(job: LeasedJob, key: string, result: Result, calls: Calls): Promise<void> {
  const object = await persist(() => calls.photos.look(key), calls)
  if (!object) return missPhoto(job, key, result, calls)

  const same = job.face_key === key && job.face_etag === object.etag
  if (same && job.refused !== null) {
    refuse(result, object, job.refused)
  } else if (same && job.face_id !== null) {
    result.photo_etag = object.etag
  } else if (isLandedFace(job, result)) {
    result.face_id = result.obsolete_face_ids[0] ?? null
    result.obsolete_face_ids = []
    result.photo_etag = object.etag
  } else if (object.size === 0) {
    refuse(result, object, 'photo_empty')
  } else if (object.size > (calls.convert ? MAX_CONVERTED_BYTES : MAX_PHOTO_BYTES)) {
    refuse(result, object, 'photo_too_large')
  } else {
    await indexFace(job, key, object, result, calls)
  }
  await removeFaces(result, calls)
  result.outcome = result.reason === null ? 'indexed' : 'skipped'
}

/** The object is not there: it may be under way, or the app is replacing it. After a while, no face of it may stay. */
async function missPhoto(job: LeasedJob, key: string, result: Result, calls: Calls): Promise<void> {
  const patience = job.face_id === null ? MISSING_PATIENCE_SECONDS : MISSING_GRACE_SECONDS
  result.reason = 'photo_missing'
  result.error = `the object ${key} is not in bucket ${calls.photos.bucket}`
  if (job.missing_seconds === null || job.missing_seconds < patience) {
    result.outcome = 'photo_missing'
    return
  }
  dismissFace(result)
  await removeFaces(result, calls)
  result.outcome = 'skipped'
}

/** Whether the one face that a listing found is that of this photo, whose calls were not answered. */
const isLandedFace = (job: LeasedJob, result: Result): boolean =>
  job.unanswered >= UNANSWERED_ENOUGH && job.face_id === null && result.obsolete_face_ids.length === 1

/** No face of this photo may be in the collection. */
function refuse(result: Result, object: PhotoObject, reason: string): void {
  dismissFace(result)
  result.photo_etag = object.etag
  result.refused = reason
  result.reason = reason
}

function dismissFace(result: Result): void {
  if (result.face_id !== null) result.obsolete_face_ids = [...result.obsolete_face_ids, result.face_id]
  result.face_id = null
}

/** Lists the faces that the collection holds of the attendee. A listing may lag behind: it only adds to what is known. */
async function findFaces(result: Result, calls: Calls): Promise<void> {
  const listed = await persist(calls.list, calls).then(
    ({ faces }) => faces.get(result.user_id) ?? [],
    (error): string[] => {
      if (classify(error).kind === 'collection_missing') return []
      throw error
    },
  )
  const others = new Set([...result.obsolete_face_ids, ...listed])
  if (result.face_id !== null) others.delete(result.face_id)
  result.obsolete_face_ids = [...others]
  result.needs_listing = false
}

/** Indexes the photo. The face of the photo before it goes afterwards, so that the attendee is never without one. */
async function indexFace(
  job: LeasedJob,
  key: string,
  object: PhotoObject,
  result: Result,
  calls: Calls,
): Promise<void> {
  const { needs_listing } = result
  let photo: Photo = { bucket: calls.photos.bucket, key, versionId: object.versionId }
  const call = async (): Promise<Indexed> => {
    const began = performance.now()
    result.index_calls++
    try {
      return await indexPhoto(calls.rekognition, calls.collection, job.user_id, photo, calls.severalFaces)
    } catch (error) {
      if (MAY_HAVE_LANDED.has(classify(error).kind)) result.needs_listing = true
      throw error
    } finally {
      calls.onIndexCall(performance.now() - began)
    }
  }
  const index = () => atPace(job, call, calls)
  try {
    if (calls.convert && (object.size > MAX_PHOTO_BYTES || (await isToConvert(key, object, calls))))
      photo = await convertPhoto(key, object, calls.convert, calls)
    const indexed = await persist(index, calls).catch(async (error) => {
      if (classify(error).kind === 'collection_missing' && (await calls.createCollection()))
        return persist(index, calls)
      if (!calls.convert || 'bytes' in photo || !(await canConvert(error, key, calls))) throw error
      photo = await convertPhoto(key, object, calls.convert, calls)
      return persist(index, calls)
    })
    result.needs_listing = needs_listing // the same photo again is the same face, also where a failed try has landed
    if (result.face_id !== indexed.faceId) dismissFace(result)
    result.face_id = indexed.faceId
    result.obsolete_face_ids = [...new Set([...result.obsolete_face_ids, ...indexed.obsoleteFaceIds])].filter(
      (face) => face !== indexed.faceId,
    )
    result.photo_etag = object.etag
    result.refused = indexed.reason
    result.reason = indexed.reason
  } catch (error) {
    if (error instanceof NotConvertible) return refuse(result, object, error.message)
    const failure = classify(error)
    if (failure.kind === 'photo_unreadable' && !(await calls.photos.look(key))) throw new NoLongerWanted() // it was deleted just now: looked at again
    if (failure.kind !== 'photo_unusable') throw error
    refuse(result, object, await reasonOfUnusable(error as Error, key, object, calls))
    result.error = failure.message
  }
}

/** The photo as a JPEG that Rekognition takes. It is that of this object, whose key and ETag stay the face's. */
async function convertPhoto(
  key: string,
  { etag }: PhotoObject,
  convert: Convert,
  calls: Calls,
): Promise<Photo> {
  const answer = await persist(() => {
    if (calls.remaining() < CONVERT_TIMEOUT_MS) throw new OutOfTime()
    return convert({ key, etag })
  }, calls)
  if (answer.outcome === 'changed') throw new NoLongerWanted() // looked at again
  if (answer.outcome === 'refused') throw new NotConvertible(answer.reason)
  return { bytes: Buffer.from(answer.jpeg, 'base64') }
}

/** Whether Rekognition will not take a photo as it is. One that is uploaded as JPEG or PNG is taken for that, and costs no request. */
const isToConvert = async (key: string, { contentType }: PhotoObject, calls: Calls): Promise<boolean> =>
  contentType !== 'image/jpeg' && contentType !== 'image/png' && isConvertible(await readFormat(key, calls))

/**
 * Whether the converter can mend why Rekognition has refused a photo: it was uploaded under a wrong content type, or has too
 * many pixels, of which the limit is not documented.
 */
const canConvert = async ({ name }: Error, key: string, calls: Calls): Promise<boolean> =>
  name === 'ImageTooLargeException' ||
  (name === 'InvalidImageFormatException' && isConvertible(await readFormat(key, calls)))

const MAY_HAVE_LANDED: ReadonlySet<FailureKind> = new Set(['unavailable', 'unclear'])

const START_BYTES = 16

/** Why Rekognition cannot take a photo, in one word. */
async function reasonOfUnusable(
  { name }: Error,
  key: string,
  { size }: PhotoObject,
  { photos }: Calls,
): Promise<string> {
  if (name === 'ImageTooLargeException')
    return size > MAX_PHOTO_BYTES ? 'photo_too_large' : 'photo_dimensions'
  if (name === 'InvalidParameterException') return 'photo_refused'
  const format = await readFormat(key, { photos })
  if (format === 'jpeg' || format === 'png') return 'photo_damaged'
  return format === undefined ? 'photo_format' : `photo_${format}`
}

/** The format of a photo by its first bytes. Where these cannot be read, Rekognition's answer says what is wrong. */
async function readFormat(key: string, { photos }: Pick<Calls, 'photos'>): Promise<string | undefined> {
  return formatOf(await photos.readStart(key, START_BYTES).catch(() => new Uint8Array()))
}

/** Deletes the attendee's other faces. */
async function removeFaces(result: Result, calls: Calls): Promise<void> {
  if (result.obsolete_face_ids.length === 0) return
  const remove = () => deleteFaces(calls.rekognition, calls.collection, result.obsolete_face_ids)
  const asked = result.obsolete_face_ids.length
  try {
    result.obsolete_face_ids = await persist(remove, calls)
    result.faces_deleted += asked - result.obsolete_face_ids.length
  } catch (error) {
    if (classify(error).kind !== 'collection_missing') throw error
    result.faces_deleted += asked
    // Nothing is in a collection that is not there, a face that was just indexed included: that one is indexed again.
    result.obsolete_face_ids = []
    if (result.face_id === null) return
    result.face_id = null
    result.photo_etag = null
    throw error
  }
  const { length } = result.obsolete_face_ids
  if (length > 0) throw new FacesRemainError(`${length} faces could not be deleted`)
}

/** Makes a call in its time slot; one that was throttled again in a later slot, as long as there is time. */
async function atPace<T>(job: LeasedJob, call: () => Promise<T>, calls: Calls): Promise<T> {
  for (let refusal: unknown; ; ) {
    const slot = await calls.pace.turn()
    if (calls.remaining() <= 0) throw refusal ?? new OutOfTime()
    if (!(await calls.stillWanted(job))) throw new NoLongerWanted()
    try {
      return await call()
    } catch (error) {
      if (classify(error).kind !== 'throttled') throw error
      refusal = error
      calls.pace.refused(slot)
      calls.onThrottled()
    }
  }
}

/** Repeats a call that was throttled or failed in passing, with backoff and jitter, as long as there is time. */
async function persist<T>(call: () => Promise<T>, { remaining }: Calls): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call()
    } catch (error) {
      if (error instanceof OutOfTime || error instanceof NoLongerWanted) throw error
      const { kind } = classify(error)
      const wait = BACKOFF_MS * 2 ** attempt * (0.5 + Math.random())
      const passing = kind === 'throttled' || kind === 'unavailable'
      if (!passing || attempt === TRIES || remaining() < wait) throw error
      await pause(wait)
    }
  }
}
