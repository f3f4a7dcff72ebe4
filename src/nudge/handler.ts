import type { LambdaFunctionURLEvent, LambdaFunctionURLResult } from 'aws-lambda'
import { middleware } from '../core/handler.ts'
import { readSecret } from '../core/secrets.ts'
import { readSettings } from '../core/settings.ts'
import { connectScheduler } from '../scheduler/connect.ts'
import { answerNudge } from './nudge.ts'

const settings = readSettings(process.env)
const connect = connectScheduler(settings)
const source = { value: settings.nudgeSecret, parameter: settings.nudgeSecretParameter }
const isSet = source.value !== undefined || source.parameter !== undefined

/**
 * Called through its URL by the nudge, and does what the scheduler does. It is a function of its own, since anybody may call a
 * public URL: however many do, the schedule has its own concurrency.
 */
export const handler = middleware<LambdaFunctionURLEvent, LambdaFunctionURLResult>().handler(
  async (event, context) => {
    const secret = isSet ? await readSecret("the nudge's secret", source) : undefined
    return answerNudge(event, secret, connect, () => context.getRemainingTimeInMillis())
  },
)
