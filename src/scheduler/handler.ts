import { connectRekognition } from '../core/collection.ts'
import { databaseOf, middleware } from '../core/handler.ts'
import { connectSqs } from '../core/queue.ts'
import { readSettings } from '../core/settings.ts'
import { readRequest, type SchedulerReport, schedule } from './scheduler.ts'

const settings = readSettings(process.env)
const database = databaseOf(settings)
const rekognition = connectRekognition()
const sqs = connectSqs()

export const handler = middleware<unknown, SchedulerReport>(settings).handler((event, context) => {
  const { windowMinutes } = readRequest(event)
  return schedule(windowMinutes, { settings, database: database(context), rekognition, sqs }, () =>
    context.getRemainingTimeInMillis(),
  )
})
