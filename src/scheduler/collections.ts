import type { RekognitionClient } from '@aws-sdk/client-rekognition'
import pMap from 'p-map'
import { dropCollection, ensureCollection, isThrottling } from '../core/collection.ts'
import type { CollectionResult } from '../core/contract.ts'
import type { Database } from '../core/database.ts'
import { count, logger } from '../core/log.ts'
import { CLOSING_QUIET_SECONDS } from '../core/policy.ts'
import { collectionId, type Settings } from '../core/settings.ts'
import { pause } from '../core/time.ts'

export interface CollectionParts {
  settings: Pick<Settings, 'collectionPrefix'>
  database: Database
  rekognition: RekognitionClient
}

/** How many collections are handed out at once. */
export const COLLECTIONS_PAGE = 25
const AT_ONCE = 5 // CreateCollection has a quota of its own, of a few a second
const THROTTLED_MS = 1_000
const THROTTLED_TRIES = 3

/** Creates and deletes a page of the collections that are due. Returns how many there were, and the errors. */
export async function tendCollections({
  database,
  rekognition,
  settings,
}: CollectionParts): Promise<{ due: number; errors: string[] }> {
  const due = await database.collections_due({ page: COLLECTIONS_PAGE })
  const tasks = [
    ...due.delete.map((event_id) => ({ event_id, act: 'delete' as const })),
    ...due.create.map((event_id) => ({ event_id, act: 'create' as const })),
  ]
  const results = await pMap(
    tasks,
    async ({ event_id, act }): Promise<CollectionResult | undefined> => {
      const collection = collectionId(settings, event_id)
      for (let attempt = 1; ; attempt++) {
        try {
          if (act === 'create') return { event_id, result: await ensureCollection(rekognition, collection) }
          await dropCollection(rekognition, collection)
          return { event_id, result: 'deleted' }
        } catch (error) {
          if (isThrottling(error)) {
            // It keeps its turn, or has the next one when it is handed out again.
            if (attempt === THROTTLED_TRIES) return undefined
            await pause(THROTTLED_MS)
            continue
          }
          logger.error(`could not ${act} the collection`, { event_id, collection, error: error as Error })
          return { event_id, result: 'failed', error: String(error) }
        }
      }
    },
    { concurrency: AT_ONCE },
  )
  const done = results.filter((result) => result !== undefined)
  if (done.length > 0)
    await database.collections_done({ results: done, quiet_seconds: CLOSING_QUIET_SECONDS })
  const errors = done.flatMap(({ error }) => error ?? [])
  count('CollectionsFailed', errors.length)
  return { due: tasks.length, errors }
}
