import type { LambdaFunctionURLResult } from 'aws-lambda'
import { connectRekognition } from '../core/collection.ts'
import { databaseOf, middleware } from '../core/handler.ts'
import { count } from '../core/log.ts'
import { connectPhotoStore } from '../core/photo-store.ts'
import { connectSqs } from '../core/queue.ts'
import { readSecret } from '../core/secrets.ts'
import { readSettings } from '../core/settings.ts'
import { answerNudge, isHttpRequest } from './nudge.ts'
import {
  DEFAULT_WINDOW_MINUTES,
  readRequest,
  type SchedulerParts,
  type SchedulerReport,
  schedule,
} from './scheduler.ts'

const settings = readSettings(process.env)
const database = databaseOf(settings)
const rekognition = connectRekognition()
const photos = connectPhotoStore(settings.photoBucket, settings.region, rekognition)
const sqs = connectSqs()

const connect = async (): Promise<SchedulerParts> => ({
  settings,
  database: await database(),
  rekognition,
  photos,
  sqs,
})

/** Called by the schedule, by hand with `{"window_minutes": 20}`, and through its URL by the nudge. */
export const handler = middleware<unknown, SchedulerReport | LambdaFunctionURLResult>().handler(
  async (event, context) => {
    const remaining = () => context.getRemainingTimeInMillis()
    if (!isHttpRequest(event)) {
      const { windowMinutes } = readRequest(event)
      count('ScheduledRuns')
      return schedule(windowMinutes, await connect(), remaining)
    }
    // Only a nudge needs its secret: without one, scheduled runs work, and every nudge is refused.
    const source = { value: settings.nudgeSecret, parameter: settings.nudgeSecretParameter }
    const isSet = source.value !== undefined || source.parameter !== undefined
    const secret = isSet ? await readSecret("the nudge's secret", source) : undefined
    return answerNudge(event, secret, connect, DEFAULT_WINDOW_MINUTES, remaining)
  },
)
