import type { LambdaFunctionURLResult } from 'aws-lambda'
import { connectRekognition } from '../core/collection.ts'
import { databaseOf, middleware } from '../core/handler.ts'
import { connectSqs } from '../core/queue.ts'
import { readSettings } from '../core/settings.ts'
import { answerNudge, isHttpRequest } from './nudge.ts'
import { DEFAULT_WINDOW_MINUTES, readRequest, type SchedulerReport, schedule } from './scheduler.ts'

const settings = readSettings(process.env)
const database = databaseOf(settings)
const rekognition = connectRekognition()
const sqs = connectSqs()

/** Called by the schedule, by hand with `{"window_minutes": 20}`, and through its URL by the nudge. */
export const handler = middleware<unknown, SchedulerReport | LambdaFunctionURLResult>(settings, [
  'serviceRoleKey',
  'nudgeSecret',
]).handler((event, context) => {
  const parts = { settings, database: database(context), rekognition, sqs }
  const remaining = () => context.getRemainingTimeInMillis()
  if (isHttpRequest(event)) {
    const secret = settings.nudgeSecret ?? context.nudgeSecret
    return answerNudge(event, secret, parts, DEFAULT_WINDOW_MINUTES, remaining)
  }
  return schedule(readRequest(event).windowMinutes, parts, remaining)
})
