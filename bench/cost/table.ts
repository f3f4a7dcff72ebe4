import type { Table } from '../report/table.ts'
import { DAYS_A_MONTH, dailyCost, type Sizes, type Standing, standingCost, sum } from './cost.ts'
import { ALARMS, METRICS, QUEUES, type Way } from './usage.ts'

const ATTENDEES = [10_000, 100_000, 1_000_000]
const TPS = [50, 5]
const DAY_S = 86_400

/** Time and cost of a day, for each number of attendees, quota and way. */
export function costTable(ways: Way[], sizes: Sizes): Table {
  const rows = ATTENDEES.flatMap((attendees) =>
    TPS.flatMap((tps) =>
      ways.map((way) => {
        const cost = dailyCost(attendees, way.usage(tps), way.standing, sizes)
        const seconds = way.seconds(attendees, tps)
        return [
          attendees.toLocaleString('en'),
          tps,
          way.name,
          seconds > DAY_S ? `${duration(seconds)}: no day has them` : duration(seconds),
          dollars(cost.rekognition + cost.faceStorage),
          dollars(cost.lambda),
          dollars(cost.sqs),
          dollars(cost.logs + cost.standing),
          dollars(cost.total),
        ]
      }),
    ),
  )
  return {
    head: [
      'attendees a day',
      'calls a second',
      'way',
      'time',
      'Rekognition',
      'Lambda',
      'SQS',
      'logs, metrics, schedule',
      'a day',
    ],
    rows,
  }
}

/** What stands there whether anybody comes or not, by the month. */
export function standingTable(standing: Standing, sizes: Sizes): Table {
  const parts = standingCost(standing, sizes)
  const total = sum(parts)
  return {
    head: ['whether anybody comes or not', 'a month'],
    rows: [
      [`at most ${METRICS} metrics`, dollars(parts.metrics)],
      [`${ALARMS} alarms`, dollars(parts.alarms)],
      [`Lambda's polls of ${QUEUES} queues`, dollars(parts.polls)],
      ['runs of the scheduler, and their logs', dollars(parts.runs)],
      [`all of it, ${dollars(total / DAYS_A_MONTH)} a day`, dollars(total)],
    ],
  }
}

const dollars = (amount: number) =>
  `$${amount.toLocaleString('en', { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`

/** Like `3 min` or `5.6 h`. */
export function duration(seconds: number): string {
  if (seconds < 100) return `${seconds.toFixed(0)} s`
  if (seconds < 100 * 60) return `${(seconds / 60).toFixed(0)} min`
  return `${(seconds / 3600).toFixed(1)} h`
}
