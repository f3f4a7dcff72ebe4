import * as z from 'zod'
import type { Sizes, Standing, Usage } from './cost.ts'

/** A way to do it, as far as time and cost depend on it. */
export interface Way {
  name: string
  usage: (tps: number) => Usage
  /** Until so many attendees are indexed. */
  seconds: (attendees: number, tps: number) => number
  standing: Standing
}

const counted = z.object({
  limit_ratio: z.number(),
  throttled_share: z.number(),
  index_calls_per_attendee: z.number(),
  db_calls_per_attendee: z.number(),
  sqs_requests_per_attendee: z.number(),
  seconds: z.number(),
  attendees: z.number(),
})
const measured = z.object({
  event: counted.extend({
    worker_seconds_per_attendee: z.number(),
    naive: counted,
    sequential: counted,
  }),
  idle: z.object({ idle_run_ms: z.number() }),
})

const MEASURED_TPS = 50 // of the scenario `event`
const NAIVE_WORKERS = 10
const LONGEST_FUNCTION_S = 900
const RUNS_A_DAY = 24 * 60
// Lambda polls a queue in which nothing lies with five requests of 20 s.
const IDLE_POLLS_A_DAY = (5 * 86_400) / 20
export const QUEUES = 4 // work, urgent, photo events and dead letters
export const METRICS = 60 // the names in `src/`, and three that are split, for each value that comes: a dozen reasons and some kinds
export const ALARMS = 26 // in serverless.yml

/** A line of metrics, 600 bytes at ten attendees a batch, and Lambda's own three. */
const LOG_BYTES = 1_000

export const sizesOf = (memoryMb: number): Sizes => ({ memoryGb: memoryMb / 1024, logBytes: LOG_BYTES })

const NOTHING: Standing = { schedulerRuns: 0, schedulerRunSeconds: 0, idlePolls: 0, metrics: 0, alarms: 0 }

/** Of this system, with idle runs of the scheduler that take so long. */
export const standingOf = (idleRunMs: number): Standing => ({
  schedulerRuns: RUNS_A_DAY,
  schedulerRunSeconds: idleRunMs / 1000,
  idlePolls: QUEUES * IDLE_POLLS_A_DAY,
  metrics: METRICS,
  alarms: ALARMS,
})

/**
 * The ways that the scenario `event` compares, from the figures of a run.
 * @returns undefined when the run has not measured all that is needed
 */
export function waysOf(scenarios: unknown): Way[] | undefined {
  const read = measured.safeParse(scenarios)
  if (!read.success) return undefined
  const { event, idle } = read.data
  const { naive, sequential } = event
  const answeredCalls = (of: z.output<typeof counted>) =>
    of.index_calls_per_attendee * (1 - of.throttled_share)
  const secondsEach = sequential.seconds / sequential.attendees
  return [
    {
      name: 'ours',
      seconds: (attendees, tps) => (attendees / tps) * event.limit_ratio,
      usage: (tps) => ({
        indexCalls: answeredCalls(event),
        sqsRequests: event.sqs_requests_per_attendee,
        // As many workers are at it as at the pace that was measured, the longer the lower it is.
        functionSeconds: (event.worker_seconds_per_attendee * MEASURED_TPS) / tps,
        invocations: event.db_calls_per_attendee / 2,
      }),
      standing: standingOf(idle.idle_run_ms),
    },
    {
      name: 'naive',
      seconds: (attendees, tps) => (attendees / tps) * naive.limit_ratio,
      usage: (tps) => ({
        indexCalls: answeredCalls(naive),
        sqsRequests: naive.sqs_requests_per_attendee,
        functionSeconds: (NAIVE_WORKERS / tps) * naive.limit_ratio,
        invocations: 0.1,
      }),
      standing: { ...NOTHING, idlePolls: IDLE_POLLS_A_DAY },
    },
    {
      name: 'sequential',
      seconds: (attendees, tps) => attendees * Math.max(secondsEach, 1 / tps),
      usage: (tps) => ({
        indexCalls: answeredCalls(sequential),
        sqsRequests: 0,
        functionSeconds: Math.max(secondsEach, 1 / tps),
        invocations: secondsEach / LONGEST_FUNCTION_S,
      }),
      standing: NOTHING,
    },
  ]
}
