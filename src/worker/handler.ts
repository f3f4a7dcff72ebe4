import sqsPartialBatchFailure from '@middy/sqs-partial-batch-failure'
import type { SQSEvent } from 'aws-lambda'
import { connectRekognition } from '../core/collection.ts'
import { databaseOf, middleware } from '../core/handler.ts'
import { connectSqs } from '../core/queue.ts'
import { readSettings } from '../core/settings.ts'
import { work } from './worker.ts'

const settings = readSettings(process.env)
const database = databaseOf(settings)
const rekognition = connectRekognition()
const sqs = connectSqs()

export const handler = middleware<SQSEvent, unknown>(settings)
  .use(sqsPartialBatchFailure({ logger: () => undefined })) // the worker says itself what went wrong
  .handler((event, context) =>
    work(event.Records, { settings, database: database(context), rekognition, sqs }, () =>
      context.getRemainingTimeInMillis(),
    ),
  )
