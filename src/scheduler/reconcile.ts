import type { RekognitionClient } from '@aws-sdk/client-rekognition'
import pMap from 'p-map'
import { ensureCollection, isError, type Listing, listCollections, listFaces } from '../core/collection.ts'
import type { Differences, Reconciled } from '../core/contract.ts'
import type { Database } from '../core/database.ts'
import { count, countBy, logger } from '../core/log.ts'
import type { PhotoStore } from '../core/photo-store.ts'
import { CLOSING_QUIET_SECONDS, LISTING_LAG_SECONDS } from '../core/policy.ts'
import { collectionId, type Settings } from '../core/settings.ts'

export interface ReconcileParts {
  settings: Pick<Settings, 'collectionPrefix'>
  database: Database
  rekognition: RekognitionClient
  photos: PhotoStore
}

/** What one event needs of them. */
type EventParts = Omit<ReconcileParts, 'database'> & {
  database: Pick<
    Database,
    'reconcile' | 'reconcile_done' | 'note_photos' | 'may_create_collection' | 'collections_done'
  >
}

/** What the comparison of an event's collection has found. */
export interface Found {
  differences: Differences
  /** Faces whose ExternalImageId is no user id: they are left there. */
  foreign: number
  /** The collection was gone, and is there again: whoever was in it is indexed anew. */
  recreated: boolean
  /** Faces that the collection holds of attendees. */
  faces: number
  /** Which attendees differ: of each page of the comparison a thousand at most. */
  who: { user_id: string; difference: string }[]
}

const ATTENDEES_PAGE = 2_000
const EVENTS_PAGE = 5
const LOOKS_AT_ONCE = 32

/** Reconciles the events that are due, as long as there is time. Returns the sum of what it found. */
export async function reconcileDue(
  parts: ReconcileParts,
  timeIsUp: () => boolean,
): Promise<{ events: number; differences: number; errors: string[] }> {
  const report = { events: 0, differences: 0, errors: [] as string[] }
  while (!timeIsUp()) {
    const due = await parts.database.reconcile_due({ page: EVENTS_PAGE })
    for (const { event_id, as_of } of due) {
      if (timeIsUp()) return report
      try {
        const found = await reconcileEvent(event_id, as_of, parts)
        report.events++
        report.differences += tell(event_id, found)
      } catch (error) {
        logger.error('could not reconcile an event', { event_id, error: error as Error })
        report.errors.push(String(error))
      }
    }
    if (due.length < EVENTS_PAGE) return report
  }
  return report
}

function tell(event_id: string, { differences, foreign }: Found): number {
  let sum = 0
  for (const [kind, n] of Object.entries(differences)) {
    if (n > 0) countBy('Drift', 'kind', kind, n)
    sum += n
  }
  if (sum > 0) logger.warn('the collection differed from what it should be', { event_id, ...differences })
  if (foreign > 0)
    logger.warn('a collection has faces whose ExternalImageId is no user id: they are left there', {
      event_id,
      faces: foreign,
    })
  return sum
}

/**
 * Compares the collection of an event with the desired state and the ledger, page by page of attendees, and queues a job for
 * each difference. Keeps no more in memory than the ids of the listing; one ListFaces call per 4,096 faces.
 * @param repair whether to queue jobs; otherwise the differences are only counted
 */
export async function reconcileEvent(
  event: string,
  as_of: string,
  parts: EventParts,
  repair = true,
): Promise<Found> {
  const { database } = parts
  const listing = await list(event, parts, repair)
  const users = [...listing.faces.keys()].sort()
  const sum: Differences = {
    extra: 0,
    missing: 0,
    doubled: 0,
    unnoticed: 0,
    stale_photos: 0,
  }
  const who: Found['who'] = []
  let after: string | null = null
  let compared = 0 // of the listed users
  do {
    const listed: string[] = users.slice(compared, compared + ATTENDEES_PAGE)
    const last = users.length <= compared + ATTENDEES_PAGE
    const found: Reconciled = await database.reconcile({
      event,
      as_of,
      after,
      through: last ? null : (listed.at(-1) ?? null),
      faces: listed.map((user_id) => ({ user_id, face_ids: listing.faces.get(user_id) ?? [] })),
      lag_seconds: LISTING_LAG_SECONDS,
      repair,
    })
    const { through } = found
    after = through
    compared += listed.filter((user) => through !== null && user <= through).length
    sum.extra += found.extra
    sum.missing += found.missing
    sum.doubled += found.doubled
    sum.unnoticed += found.unnoticed
    const changed = await changedPhotos(found.photos, parts.photos)
    sum.stale_photos += changed.length
    who.push(...found.who, ...changed.map(({ user_id }) => ({ user_id, difference: 'stale_photo' })))
    if (repair && changed.length > 0)
      await database.note_photos({ photo_keys: changed.map(({ photo_key }) => photo_key) })
  } while (after !== null)
  const { foreign, recreated } = listing
  if (repair) await database.reconcile_done({ event, as_of, differences: { ...sum, recreated } })
  const faces = [...listing.faces.values()].reduce((count, { length }) => count + length, 0)
  return { differences: sum, foreign, recreated, faces, who }
}

/** The faces of the collection. One that is gone is created again: whatever was in it is indexed anew. */
async function list(
  event: string,
  { database, rekognition, settings }: EventParts,
  repair: boolean,
): Promise<Listing & { recreated: boolean }> {
  const collection = collectionId(settings, event)
  let recreated = false
  try {
    return { ...(await listFaces(rekognition, collection)), recreated }
  } catch (error) {
    if (!isError(error, 'ResourceNotFoundException')) throw error
    if (repair && (await database.may_create_collection({ event }))) {
      const result = await ensureCollection(rekognition, collection)
      logger.warn('the collection was missing', { event_id: event, collection, result })
      count('CollectionsMissing')
      recreated = true
      await database.collections_done({
        results: [{ event_id: event, result }],
        quiet_seconds: CLOSING_QUIET_SECONDS,
      })
    }
    return { faces: new Map(), foreign: 0, recreated }
  }
}

/** Those photos whose object is another one than was indexed, or has come or gone. */
async function changedPhotos(
  looked_at: Reconciled['photos'],
  photos: PhotoStore,
): Promise<Reconciled['photos']> {
  const changed = await pMap(
    looked_at,
    async (photo) => {
      const object = await photos.look(photo.photo_key)
      return (object?.etag ?? null) === photo.photo_etag ? [] : [photo]
    },
    { concurrency: LOOKS_AT_ONCE },
  )
  return changed.flat()
}

/** The events whose collection has our prefix, and which are none of ours. */
export const findOrphans = async ({ database, rekognition, settings }: ReconcileParts): Promise<string[]> =>
  database.orphans({ events: await listCollections(rekognition, settings.collectionPrefix) })

/** Once an hour: collections with our prefix that belong to no event of ours. They are reported and left alone. */
export async function reportOrphans(parts: ReconcileParts): Promise<string[]> {
  if (!(await parts.database.orphans_due({}))) return []
  const orphans = await findOrphans(parts)
  if (orphans.length > 0)
    logger.warn('collections with our prefix belong to no event: they are left alone', {
      orphans: orphans.length,
      events: orphans.slice(0, 20),
    })
  count('OrphanCollections', orphans.length)
  return orphans
}
