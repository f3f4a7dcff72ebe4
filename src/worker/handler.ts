import sqsPartialBatchFailure from '@middy/sqs-partial-batch-failure'
import type { SQSEvent } from 'aws-lambda'
import { connectRekognition } from '../core/collection.ts'
import { connectConverter } from '../core/converter.ts'
import { databaseOf, middleware } from '../core/handler.ts'
import { count, logger } from '../core/log.ts'
import { connectPhotoStore } from '../core/photo-store.ts'
import { connectSqs } from '../core/queue.ts'
import { readSettings } from '../core/settings.ts'
import { returnAll, work } from './worker.ts'

const settings = readSettings(process.env)
const connect = databaseOf(settings)
const rekognition = connectRekognition()
const photos = connectPhotoStore(settings.photoBucket, settings.region, rekognition)
const { convertPhotos, converterFunction } = settings
const convert =
  convertPhotos && converterFunction && connectConverter(converterFunction, settings.region, rekognition)
const sqs = connectSqs()

function failed(error: unknown): void {
  logger.critical('the worker could not do anything: its messages come again', { error: error as Error })
  count('InvocationsFailed')
}

export const handler = middleware<SQSEvent, unknown>()
  .use(sqsPartialBatchFailure({ logger: () => undefined })) // the worker logs what went wrong
  // The middleware above turns every error into failed messages, without a Lambda error. This one runs before it.
  .onError(({ error }) => failed(error))
  .handler(async ({ Records }, context) => {
    try {
      const database = await connect()
      return await work(
        Records,
        { settings, database, rekognition, photos, sqs, ...(convert && { convert }) },
        () => context.getRemainingTimeInMillis(),
      )
    } catch (error) {
      failed(error)
      return returnAll(Records, error, { settings, sqs })
    }
  })
