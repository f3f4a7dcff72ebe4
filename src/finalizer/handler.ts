import type { SQSEvent } from 'aws-lambda'
import { databaseOf, middleware } from '../core/handler.ts'
import { readSettings } from '../core/settings.ts'
import { finalize } from './finalizer.ts'

const settings = readSettings(process.env)
const database = databaseOf(settings)

export const handler = middleware<SQSEvent, void>(settings).handler((event, context) =>
  finalize(event.Records, { database: database(context) }),
)
