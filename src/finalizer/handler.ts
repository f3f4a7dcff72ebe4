import type { SQSEvent } from 'aws-lambda'
import { databaseOf, middleware } from '../core/handler.ts'
import { readSettings } from '../core/settings.ts'
import { finalize } from './finalizer.ts'

const settings = readSettings(process.env)
const connect = databaseOf(settings)

export const handler = middleware<SQSEvent, void>().handler(async (event) =>
  finalize(event.Records, { database: await connect() }),
)
