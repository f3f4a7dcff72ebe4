import { middleware } from '../core/handler.ts'
import { count } from '../core/log.ts'
import { readSettings } from '../core/settings.ts'
import { connectScheduler } from './connect.ts'
import { readRequest, type SchedulerReport, schedule } from './scheduler.ts'

const connect = connectScheduler(readSettings(process.env))

/** Called by the schedule, and by hand with `{"window_minutes": 20}`. */
export const handler = middleware<unknown, SchedulerReport>().handler(async (event, context) => {
  const { windowMinutes } = readRequest(event)
  count('ScheduledRuns')
  return schedule(windowMinutes, await connect(), () => context.getRemainingTimeInMillis())
})
