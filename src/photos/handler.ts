import type { SQSEvent } from 'aws-lambda'
import { databaseOf, middleware } from '../core/handler.ts'
import { readSettings } from '../core/settings.ts'
import { notePhotos } from './photos.ts'

const settings = readSettings(process.env)
const connect = databaseOf(settings)

/** Called with events of the photo bucket, which EventBridge puts into a queue. */
export const handler = middleware<SQSEvent, void>().handler(async (event) =>
  notePhotos(event.Records, { bucket: settings.photoBucket, database: await connect() }),
)
