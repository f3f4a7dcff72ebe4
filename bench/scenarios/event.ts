import { setTimeout as sleep } from 'node:timers/promises'
import { RekognitionClient } from '@aws-sdk/client-rekognition'
import { makeLookup } from '../baselines/lookup.ts'
import { indexNaively } from '../baselines/naive.ts'
import { indexSequentially } from '../baselines/sequential.ts'
import type { Curve } from '../report/picture.ts'
import { type Bench, type Outcome, round, type Scenario } from '../scenario.ts'
import { type Counts, openStage, perAttendee, since, watch } from '../stage.ts'

const ATTENDEES = 1_000
const OF_SEQUENTIAL = 80
const TPS = 50
const NAIVE_PATIENCE_S = 90
const SECOND_QUEUE = 'NaiveQueue'

interface Measured {
  attendees: number
  /** Of them, those who were indexed in the time that there was. */
  indexed: number
  seconds: number
  counts: Counts
  curve: Curve
}

export const event: Scenario = {
  name: 'event',
  title: `${ATTENDEES} attendees at ${TPS} IndexFaces calls a second`,
  async run(bench) {
    const ours = await measureOurs(bench)
    bench.say(`ours: ${ours.seconds.toFixed(1)} s`)
    const naive = await measureNaive(bench)
    bench.say(`naive: ${naive.seconds.toFixed(1)} s`)
    const sequential = await measureSequential(bench)
    return report(ours, naive, sequential)
  },
}

async function measureOurs(bench: Bench): Promise<Measured & { workerSeconds: number }> {
  const stage = await openStage(bench, { tps: TPS })
  try {
    await stage.warmUp()
    const event = await stage.gather(ATTENDEES)
    const before = stage.counts()
    const billed = stage.system.functions.counts('worker').milliseconds
    const watching = watch('ours', () => stage.counts().indexCalls - before.indexCalls)
    await stage.schedule()
    const [run] = await stage.settled([event], 120)
    await sleep(500) // the last messages are deleted
    return {
      attendees: ATTENDEES,
      indexed: stage.system.rekognition.collection(`memento_event_${event}`)?.length ?? 0,
      seconds: run?.seconds ?? Number.NaN,
      counts: since(before, stage.counts()),
      curve: watching.stop(),
      workerSeconds: (stage.system.functions.counts('worker').milliseconds - billed) / 1000,
    }
  } finally {
    await stage.close()
  }
}

async function measureNaive(bench: Bench): Promise<Measured> {
  const stage = await openStage(bench, {
    tps: TPS,
    change: ({ queues }) =>
      queues.push({
        logicalId: SECOND_QUEUE,
        name: 'naive',
        arn: 'arn:aws:sqs:us-east-1:000000000000:naive',
        attributes: {},
      }),
  })
  const rekognition = plainClient(stage.system.rekognition.endpoint)
  try {
    const event = await stage.gather(ATTENDEES)
    const parts = {
      lookup: await makeLookup(stage),
      rekognition,
      bucket: stage.system.environment.S3_BUCKET_NAME ?? '',
      sqs: stage.system.aws.sqs,
      queueUrl: stage.system.aws.queueUrls.get(SECOND_QUEUE) ?? '',
    }
    const before = stage.counts()
    const inCollection = () => stage.system.rekognition.collection(event)?.length ?? 0
    const watching = watch('naive', inCollection)
    const began = performance.now()
    const indexed = await indexNaively(event, parts, AbortSignal.timeout(NAIVE_PATIENCE_S * 1000))
    return {
      attendees: ATTENDEES,
      indexed,
      seconds: (performance.now() - began) / 1000,
      counts: since(before, stage.counts()),
      curve: watching.stop(),
    }
  } finally {
    rekognition.destroy()
    await stage.close()
  }
}

async function measureSequential(bench: Bench): Promise<Measured> {
  const stage = await openStage(bench, { tps: TPS })
  const rekognition = plainClient(stage.system.rekognition.endpoint)
  try {
    const event = await stage.gather(OF_SEQUENTIAL)
    const lookup = await makeLookup(stage)
    const before = stage.counts()
    const watching = watch('sequential', () => stage.system.rekognition.collection(event)?.length ?? 0)
    const began = performance.now()
    await indexSequentially(event, {
      lookup,
      rekognition,
      bucket: stage.system.environment.S3_BUCKET_NAME ?? '',
    })
    return {
      attendees: OF_SEQUENTIAL,
      indexed: OF_SEQUENTIAL,
      seconds: (performance.now() - began) / 1000,
      counts: since(before, stage.counts()),
      curve: watching.stop(),
    }
  } finally {
    rekognition.destroy()
    await stage.close()
  }
}

/** A client as one gets it, with the SDK's own retries. */
const plainClient = (endpoint: string) =>
  new RekognitionClient({
    endpoint,
    region: 'us-east-1',
    credentials: { accessKeyId: 'local', secretAccessKey: 'local' },
  })

function figuresOf({ attendees, indexed, seconds, counts }: Measured) {
  const per = perAttendee(counts, attendees)
  return {
    limit_ratio: round(seconds / (attendees / TPS)),
    throttled_share: round(per.throttled_share, 4),
    index_calls_per_attendee: round(per.index_calls_per_attendee),
    db_calls_per_attendee: round(per.db_calls_per_attendee),
    sqs_requests_per_attendee: round(per.sqs_requests_per_attendee),
    indexed_share: round(indexed / attendees),
    seconds: round(seconds, 2),
    attendees,
  }
}

function report(ours: Measured & { workerSeconds: number }, naive: Measured, sequential: Measured): Outcome {
  const all = { ours: figuresOf(ours), naive: figuresOf(naive), sequential: figuresOf(sequential) }
  const row = (label: string, key: keyof typeof all.ours, goal: string) => [
    label,
    all.ours[key],
    goal,
    all.naive[key],
    all.sequential[key],
  ]
  return {
    figures: {
      ...all.ours,
      worker_seconds_per_attendee: round(ours.workerSeconds / ATTENDEES),
      naive: all.naive,
      sequential: all.sequential,
    },
    table: {
      head: ['', 'ours', 'goal', 'naive', 'sequential'],
      rows: [
        row('attendees', 'attendees', ''),
        row('of them indexed', 'indexed_share', '1'),
        row('seconds from claim to settled', 'seconds', ''),
        row('as a ratio to N / quota', 'limit_ratio', '≤ 1.05'),
        row('throttled share of IndexFaces calls', 'throttled_share', '< 0.005'),
        row('IndexFaces calls per attendee', 'index_calls_per_attendee', '1.000'),
        row('database calls per attendee', 'db_calls_per_attendee', '≤ 0.25'),
        row('SQS requests per attendee', 'sqs_requests_per_attendee', '≤ 0.35'),
      ],
    },
    picture: {
      title: `${ATTENDEES} attendees at ${TPS} calls a second`,
      x: { label: 'seconds since the claim' },
      y: { label: 'attendees' },
      curves: [
        {
          name: 'limit: N / quota',
          points: [
            [0, 0],
            [ATTENDEES / TPS, ATTENDEES],
          ],
          dashed: true,
        },
        ours.curve,
        naive.curve,
        sequential.curve,
      ],
    },
  }
}
