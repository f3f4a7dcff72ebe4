import { connectRekognition } from '../core/collection.ts'
import { databaseOf } from '../core/handler.ts'
import { connectPhotoStore } from '../core/photo-store.ts'
import { connectSqs } from '../core/queue.ts'
import type { Settings } from '../core/settings.ts'
import type { SchedulerParts } from './scheduler.ts'

/**
 * Connects a container to all that a run needs. The clients are made at once, the connection to the database with the first
 * run: see {@link databaseOf}.
 */
export function connectScheduler(settings: Settings): () => Promise<SchedulerParts> {
  const database = databaseOf(settings)
  const rekognition = connectRekognition()
  const photos = connectPhotoStore(settings.photoBucket, settings.region, rekognition)
  const sqs = connectSqs()
  return async () => ({ settings, database: await database(), rekognition, photos, sqs })
}
