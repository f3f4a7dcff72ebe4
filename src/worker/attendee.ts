import type { RekognitionClient } from '@aws-sdk/client-rekognition'
import { deleteFaces, type Indexed, indexFace, type Listing } from '../core/collection.ts'
import type { Result, Task } from '../core/database.ts'
import { pause, type Remaining } from '../core/time.ts'
import { classify, type Failure } from './failure.ts'
import type { Pace } from './pace.ts'

/** What the calls for one attendee need. */
export interface Calls {
  rekognition: RekognitionClient
  bucket: string
  /** The collection of the attendee's event. */
  collection: string
  /** Lists that collection; one listing serves all attendees of a batch. */
  list: () => Promise<Listing>
  /** Makes the collection that was found missing. False when its event is gone: then nothing may be indexed. */
  makeCollection: () => Promise<boolean>
  /** Milliseconds in which calls may still be begun. */
  remaining: Remaining
  /** When IndexFaces may be called; shared by the batch. */
  pace: Pace
  /** Told of each IndexFaces call: its duration in ms. */
  onIndexCall: (ms: number) => void
  /** Told of each IndexFaces call that Rekognition throttled. */
  onThrottled: () => void
}

/** What came of an attendee, and what went wrong, if anything did. */
export interface Attempt {
  result: Result
  failure: Failure | null
}

const TRIES = 4
const BACKOFF_MS = 150

/** No time is left to begin a call in. */
class OutOfTime extends Error {
  override name = 'OutOfTime'
}

/**
 * Makes the collection follow one attendee: indexes the photo, or none, and deletes every other face of theirs.
 * Never throws: what went wrong is in the result, together with what is known to be in the collection all the same.
 */
export async function followAttendee(task: Task, calls: Calls): Promise<Attempt> {
  const result: Result = {
    event_id: task.event_id,
    user_id: task.user_id,
    photo: task.photo,
    outcome: 'later',
    face_id: task.keep,
    faces: task.faces ?? [],
    certain: !task.list,
    reason: null,
    error: null,
    calls: 0,
  }
  if (calls.remaining() <= 0) return { result, failure: null }

  let failure: Failure | null = null
  try {
    if (task.list) await findFaces(result, calls)
    if (task.refused !== null) result.reason = task.refused
    else if (task.photo !== null && result.face_id === null)
      failure = await putFace(task.photo, result, calls)
    if (result.faces.length > 0) await removeFaces(result, calls)
    result.outcome =
      result.faces.length > 0 ? 'retry' : result.reason ? 'skipped' : task.photo ? 'indexed' : 'erased'
  } catch (error) {
    if (error instanceof OutOfTime) return { result, failure: null }
    failure = classify(error)
    result.outcome = OUTCOMES[failure.kind]
    if (failure.kind === 'photo_unreadable') await keepOneFace(result, task, calls)
  }
  result.reason ??= failure?.kind ?? null
  result.error = failure?.message ?? null
  return { result, failure }
}

const OUTCOMES: Record<Failure['kind'], Result['outcome']> = {
  throttled: 'later',
  unavailable: 'retry',
  unclear: 'unclear',
  photo_unusable: 'skipped',
  photo_unreadable: 'retry',
  collection_missing: 'retry',
  denied: 'retry',
  invalid: 'failed',
}

/** Lists what the collection really holds of the attendee. No call of an earlier lease can still land. */
async function findFaces(result: Result, calls: Calls): Promise<void> {
  const listed = await persist(calls.list, calls).then(
    (listing) => listing.get(result.user_id) ?? [],
    (error): string[] => {
      if (classify(error).kind === 'collection_missing') return []
      throw error
    },
  )
  if (result.face_id && !listed.includes(result.face_id)) result.face_id = null
  result.faces = listed.filter((face) => face !== result.face_id)
  result.certain = true
}

/** Indexes the photo. Returns the failure when it is the photo that Rekognition can't take; throws any other. */
async function putFace(photo: string, result: Result, calls: Calls): Promise<Failure | null> {
  const { certain } = result
  const call = async (): Promise<Indexed> => {
    const began = performance.now()
    result.calls++
    try {
      return await indexFace(calls.rekognition, calls.collection, result.user_id, {
        bucket: calls.bucket,
        key: photo,
      })
    } catch (error) {
      if (MAY_HAVE_LANDED.has(classify(error).kind)) result.certain = false
      throw error
    } finally {
      calls.onIndexCall(performance.now() - began)
    }
  }
  const index = () => atPace(call, calls)
  try {
    const indexed = await persist(index, calls).catch(async (error) => {
      if (classify(error).kind === 'collection_missing' && (await calls.makeCollection()))
        return persist(index, calls)
      throw error
    })
    // The same photo again is the same face: whatever a failed try of this one did, this is its id.
    result.certain = certain
    result.face_id = indexed.faceId
    result.faces = result.faces.filter((face) => face !== indexed.faceId)
    if (indexed.faceId === null) result.reason = indexed.reason
    return null
  } catch (error) {
    const failure = classify(error)
    if (failure.kind !== 'photo_unusable') throw error
    result.reason = failure.reason
    return failure
  }
}

const MAY_HAVE_LANDED: ReadonlySet<Failure['kind']> = new Set(['unavailable', 'unclear'])

/** Deletes the attendee's other faces. */
async function removeFaces(result: Result, calls: Calls): Promise<void> {
  try {
    result.faces = await persist(() => deleteFaces(calls.rekognition, calls.collection, result.faces), calls)
  } catch (error) {
    if (classify(error).kind !== 'collection_missing') throw error
    // Nothing is in a collection that is not there, a face that was just indexed included: that one is tried again.
    result.faces = []
    if (result.face_id === null) return
    result.face_id = null
    throw error
  }
}

/** While a photo cannot be read, a face of an earlier one stays, but no more than one. */
async function keepOneFace(result: Result, { faces }: Task, calls: Calls): Promise<void> {
  const kept = faces?.find((face) => result.faces.includes(face)) ?? result.faces[0]
  const others = result.faces.filter((face) => face !== kept)
  if (kept === undefined || others.length === 0) return
  try {
    const remaining = await deleteFaces(calls.rekognition, calls.collection, others)
    result.faces = [kept, ...remaining]
  } catch {
    // With the next try of the photo.
  }
}

/** Makes a call in its time slot; one that was throttled again in a later slot, as long as there is time. */
async function atPace<T>(call: () => Promise<T>, { onThrottled, pace, remaining }: Calls): Promise<T> {
  for (let refusal: unknown; ; ) {
    const slot = await pace.turn()
    if (remaining() <= 0) throw refusal ?? new OutOfTime()
    try {
      return await call()
    } catch (error) {
      if (classify(error).kind !== 'throttled') throw error
      refusal = error
      pace.refused(slot)
      onThrottled()
    }
  }
}

/** Repeats a call that was refused or failed in passing, with backoff and jitter, as long as there is time. */
async function persist<T>(call: () => Promise<T>, { remaining }: Calls): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call()
    } catch (error) {
      const { kind } = classify(error)
      const wait = BACKOFF_MS * 2 ** attempt * (0.5 + Math.random())
      const passing = kind === 'throttled' || kind === 'unavailable'
      if (!passing || attempt === TRIES || remaining() < wait) throw error
      await pause(wait)
    }
  }
}
