import { PRICES, type Prices } from './prices.ts'

/** What one attendee costs in calls and time, as a run of the bench counted it. */
export interface Usage {
  /** IndexFaces calls that Rekognition answered; it bills no call that it throttled. */
  indexCalls: number
  sqsRequests: number
  /** For which a function with the worker's memory is billed, at this rate of calls. */
  functionSeconds: number
  /** Invocations of such a function. */
  invocations: number
}

/** What is there whether anybody comes or not. */
export interface Standing {
  /** Runs of the scheduler a day, and how long each is billed for. */
  schedulerRuns: number
  schedulerRunSeconds: number
  /** Requests that Lambda makes to queues in which nothing lies. */
  idlePolls: number
  metrics: number
  alarms: number
}

/** What holds for all functions. */
export interface Sizes {
  memoryGb: number
  /** Written to the logs by one invocation. */
  logBytes: number
}

/** US dollars a day. */
export interface DailyCost {
  rekognition: number
  faceStorage: number
  lambda: number
  sqs: number
  logs: number
  standing: number
  total: number
}

export const DAYS_A_MONTH = 30

/**
 * What a day with so many attendees costs, when every day of the month is like it. Each face lies in its collection for
 * `daysKept` days.
 */
export function dailyCost(
  attendees: number,
  usage: Usage,
  standing: Standing,
  sizes: Sizes,
  daysKept = 1,
  prices: Prices = PRICES,
): DailyCost {
  const invocations = attendees * usage.invocations
  const parts = {
    rekognition: tiered(attendees * usage.indexCalls * DAYS_A_MONTH, prices.indexFaces) / DAYS_A_MONTH,
    faceStorage: (attendees * daysKept * prices.faceMonth) / DAYS_A_MONTH,
    lambda: lambdaCost(invocations, attendees * usage.functionSeconds, sizes, prices),
    sqs: attendees * usage.sqsRequests * prices.sqsRequest,
    logs: logCost(invocations, sizes, prices),
    standing: sum(standingCost(standing, sizes, prices)) / DAYS_A_MONTH,
  }
  return { ...parts, total: sum(parts) }
}

/** What stands there whether anybody comes or not, in US dollars a month. */
export function standingCost(
  { metrics, alarms, idlePolls, schedulerRuns, schedulerRunSeconds }: Standing,
  sizes: Sizes,
  prices: Prices = PRICES,
) {
  const runs = schedulerRuns * DAYS_A_MONTH
  return {
    metrics: metrics * prices.metricMonth,
    alarms: alarms * prices.alarmMonth,
    polls: idlePolls * DAYS_A_MONTH * prices.sqsRequest,
    runs: lambdaCost(runs, runs * schedulerRunSeconds, sizes, prices) + logCost(runs, sizes, prices),
  }
}

export const sum = (parts: Record<string, number>): number =>
  Object.values(parts).reduce((total, part) => total + part, 0)

const lambdaCost = (requests: number, seconds: number, { memoryGb }: Sizes, prices: Prices): number =>
  requests * prices.lambdaRequest + seconds * memoryGb * prices.lambdaGbSecond

const logCost = (runs: number, { logBytes }: Sizes, { logGb }: Prices): number =>
  ((runs * logBytes) / 1e9) * logGb

/** The price of so many, each tier of them at its own. */
export function tiered(count: number, tiers: { upTo: number; each: number }[]): number {
  let price = 0
  let from = 0
  for (const { upTo, each } of tiers) {
    price += Math.max(0, Math.min(count, upTo) - from) * each
    from = upTo
  }
  return price
}
