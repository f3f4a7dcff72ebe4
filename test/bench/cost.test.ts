import { describe, expect, it } from 'vitest'
import { dailyCost, type Standing, tiered, type Usage } from '../../bench/cost/cost.ts'
import { PRICES } from '../../bench/cost/prices.ts'
import { costTable, duration } from '../../bench/cost/table.ts'
import { sizesOf, waysOf } from '../../bench/cost/usage.ts'

const nothing: Usage = { indexCalls: 0, sqsRequests: 0, functionSeconds: 0, invocations: 0 }
const idle: Standing = { schedulerRuns: 0, schedulerRunSeconds: 0, idlePolls: 0, metrics: 0, alarms: 0 }
const sizes = { memoryGb: 0.5, logBytes: 1000 }
const prices = {
  ...PRICES,
  indexFaces: [
    { upTo: 100, each: 1 },
    { upTo: Number.POSITIVE_INFINITY, each: 0.5 },
  ],
  faceMonth: 3,
  sqsRequest: 2,
  lambdaGbSecond: 4,
  lambdaRequest: 5,
  logGb: 6,
  metricMonth: 30,
  alarmMonth: 60,
}

describe('a price in tiers', () => {
  const tiers = PRICES.indexFaces

  it('bills each tier at its own price, up to the border and past it', () => {
    expect(tiered(0, tiers)).toBe(0)
    expect(tiered(1_000_000, tiers)).toBeCloseTo(1000)
    expect(tiered(1_000_001, tiers)).toBeCloseTo(1000.0008)
    expect(tiered(2_500_000, tiers)).toBeCloseTo(2200)
    expect(tiered(40_000_000, tiers)).toBeCloseTo(1000 + 3200 + 18_000 + 2000)
  })
})

describe('the cost of a day', () => {
  it('takes the tier from the calls of the whole month', () => {
    // 10 a day are 300 a month: 100 at 1, 200 at 0.5.
    expect(dailyCost(10, { ...nothing, indexCalls: 1 }, idle, sizes, 0, prices).rekognition).toBeCloseTo(
      200 / 30,
    )
  })

  it('bills a face for the days that it lies in its collection', () => {
    expect(dailyCost(10, nothing, idle, sizes, 15, prices).faceStorage).toBeCloseTo(10 * 3 * (15 / 30))
  })

  it('bills functions by their requests and by their seconds times their memory, and logs by what they write', () => {
    const cost = dailyCost(100, { ...nothing, functionSeconds: 2, invocations: 0.1 }, idle, sizes, 0, prices)
    expect(cost.lambda).toBeCloseTo(10 * 5 + 200 * 0.5 * 4)
    expect(cost.logs).toBeCloseTo(((10 * 1000) / 1e9) * 6)
  })

  it('bills SQS by requests', () => {
    expect(dailyCost(100, { ...nothing, sqsRequests: 0.3 }, idle, sizes, 0, prices).sqs).toBeCloseTo(60)
  })

  it('has a part that nobody has to come for', () => {
    const standing = { schedulerRuns: 10, schedulerRunSeconds: 2, idlePolls: 7, metrics: 2, alarms: 1 }
    const cost = dailyCost(0, nothing, standing, sizes, 1, prices)
    expect(cost.standing).toBeCloseTo(10 * 5 + 20 * 0.5 * 4 + 7 * 2 + (2 * 30 + 60) / 30, 3)
    expect(cost.total).toBe(cost.standing)
  })

  it('is the sum of its parts', () => {
    const usage = { indexCalls: 1, sqsRequests: 0.3, functionSeconds: 0.3, invocations: 0.1 }
    const { total, ...parts } = dailyCost(1000, usage, { ...idle, metrics: 3 }, sizes)
    expect(total).toBeCloseTo(Object.values(parts).reduce((sum, part) => sum + part, 0))
  })
})

const counted = {
  limit_ratio: 1.1,
  throttled_share: 0,
  index_calls_per_attendee: 1,
  db_calls_per_attendee: 0.2,
  sqs_requests_per_attendee: 0.3,
  seconds: 22,
  attendees: 1000,
}
const scenarios = {
  event: {
    ...counted,
    worker_seconds_per_attendee: 0.25,
    naive: { ...counted, limit_ratio: 2, throttled_share: 0.2, index_calls_per_attendee: 1.25 },
    sequential: { ...counted, seconds: 30, attendees: 100 },
  },
  idle: { idle_run_ms: 40 },
}

describe('the figures of a run, for what they cost', () => {
  const ways = () => {
    const [ours, naive, sequential] = waysOf(scenarios) ?? []
    if (!ours || !naive || !sequential) throw new Error('there are not three ways')
    return { ours, naive, sequential }
  }

  it('make no call cost anything that was throttled', () => {
    expect(ways().naive.usage(50).indexCalls).toBeCloseTo(1)
  })

  it("say that ours takes the limit's time, longer by the measured ratio", () => {
    expect(ways().ours.seconds(1000, 50)).toBeCloseTo(22)
    expect(ways().ours.seconds(1000, 5)).toBeCloseTo(220)
  })

  it('bill workers for waiting longer when the quota is lower', () => {
    expect(ways().ours.usage(50).functionSeconds).toBeCloseTo(0.25)
    expect(ways().ours.usage(5).functionSeconds).toBeCloseTo(2.5)
  })

  it('let the sequential way be no faster than its calls, nor than the quota', () => {
    expect(ways().sequential.seconds(1000, 50)).toBeCloseTo(300)
    expect(ways().sequential.seconds(1000, 2)).toBeCloseTo(500)
  })

  it.each([[{}], [{ event: scenarios.event }], [{ ...scenarios, event: { error: 'Error: late' } }]])(
    'are none where the run has not measured them',
    (incomplete) => {
      expect(waysOf(incomplete)).toBeUndefined()
    },
  )

  it('fill a table that says when a day is too short', () => {
    const { head, rows } = costTable(Object.values(ways()), sizesOf(512))
    expect(rows).toHaveLength(3 * 2 * 3)
    for (const row of rows) expect(row).toHaveLength(head.length)
    const time = (attendees: string, tps: number) =>
      rows.find((row) => row[0] === attendees && row[1] === tps && row[2] === 'ours')?.[3]
    expect(time('10,000', 50)).toBe('4 min')
    expect(time('1,000,000', 5)).toBe('61.1 h: no day has them')
  })
})

describe('a duration', () => {
  it.each([
    [42.4, '42 s'],
    [99.6, '100 s'],
    [200, '3 min'],
    [20_000, '5.6 h'],
  ])('of %d s is %s', (seconds, said) => {
    expect(duration(seconds)).toBe(said)
  })
})
