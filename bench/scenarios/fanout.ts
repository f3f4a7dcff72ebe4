import { readDeployment } from '../../local/deployment.ts'
import { bundleFunctions } from '../../local/lambda-host/bundle.ts'
import { startFreshProcess } from '../fresh-process/process.ts'
import { type Bench, median, round, type Scenario } from '../scenario.ts'
import { openStage, withoutWorkers } from '../stage.ts'

/** How many attendees, and how often that is measured: a small event is over before a busy machine is itself again. */
const SIZES = [
  { attendees: 1_000, rounds: 3 },
  { attendees: 10_000, rounds: 2 },
  { attendees: 100_000, rounds: 1 },
]
const TPS = 10_000 // so high that all of it may lie in the queue at once
const MOST_RUNS = 20
const LANES = 32 // requests under way, as the scheduler has them: sixteen for each of two batches
const WARM_UP = 3_000 // messages
const STATEMENT_TIMEOUT_MS = 8_000 // of the API
const BARE_QUEUE = 'BareQueue'
const ROOT = new URL('../../', import.meta.url)

interface Measured {
  perSecond: number
  barePerSecond: number
  peakMb: number
  runs: number
  slowest: { call: string; ms: number }
  /** Of the whole time, that in which jobs were written; those that are written already are sent meanwhile. */
  writingShare: number
}

export const fanout: Scenario = {
  name: 'fanout',
  title: 'claimed and sent, beside a bare loop of SendMessageBatch against the same server',
  async run(bench) {
    const deployment = await readDeployment(new URL('serverless.yml', ROOT))
    const [scheduler] = deployment.functions
    if (!scheduler) throw new Error('there is no function to take the settings of')
    const bare = await bundleFunctions(
      { ...deployment, functions: [{ ...scheduler, name: 'bare', module: 'bench/baselines/bare-send' }] },
      ROOT,
    )
    const measured: (Measured & { attendees: number; ratio: number })[] = []
    try {
      for (const { attendees, rounds } of SIZES) {
        const all: Measured[] = []
        for (let count = 0; count < rounds; count++)
          all.push(await measure(bench, bare.modules.bare ?? '', attendees))
        const of = (figure: (one: Measured) => number) => median(all.map(figure))
        const slowest = all.map((one) => one.slowest).sort((a, b) => b.ms - a.ms)[0]
        measured.push({
          attendees,
          perSecond: of((one) => one.perSecond),
          barePerSecond: of((one) => one.barePerSecond),
          ratio: of((one) => one.perSecond / one.barePerSecond),
          peakMb: of((one) => one.peakMb),
          runs: Math.max(...all.map((one) => one.runs)),
          writingShare: of((one) => one.writingShare),
          slowest: slowest ?? { call: '', ms: 0 },
        })
        bench.say(`${attendees}: done`)
      }
    } finally {
      await bare.close()
    }
    const by = (figure: (one: (typeof measured)[number]) => number) =>
      Object.fromEntries(measured.map((one) => [one.attendees, figure(one)]))
    const growth = (measured.at(-1)?.peakMb ?? Number.NaN) / (measured[0]?.peakMb ?? Number.NaN)
    return {
      figures: {
        send_ratio: by(({ ratio }) => round(ratio)),
        messages_per_second: by(({ perSecond }) => round(perSecond, 0)),
        bare_messages_per_second: by(({ barePerSecond }) => round(barePerSecond, 0)),
        peak_mb: by(({ peakMb }) => round(peakMb, 0)),
        peak_growth: round(growth, 2),
        slowest_call_ms: by(({ slowest }) => round(slowest.ms, 0)),
        writing_share: by(({ writingShare }) => round(writingShare)),
        scheduler_runs: by(({ runs }) => runs),
      },
      table: {
        head: [
          'attendees',
          'messages a second',
          'bare loop',
          'ratio (goal ≥ 0.8)',
          'of the time: writing the jobs',
          'peak memory, MB',
          'slowest database call',
          'runs',
        ],
        rows: measured.map((one) => [
          one.attendees,
          round(one.perSecond, 0),
          round(one.barePerSecond, 0),
          round(one.ratio),
          `${(one.writingShare * 100).toFixed(0)} %`,
          round(one.peakMb, 0),
          `${one.slowest.call}, ${one.slowest.ms.toFixed(0)} ms`,
          one.runs,
        ]),
      },
      notes: [
        `The memory is that of a process with the bundled scheduler in it and nothing else; from the smallest event to the largest it grows ${growth.toFixed(2)} ×.`,
      ],
      broken: measured
        .filter(({ slowest }) => slowest.ms >= STATEMENT_TIMEOUT_MS)
        .map(({ slowest }) => `${slowest.call} took ${slowest.ms.toFixed(0)} ms, past the statement timeout`),
      picture: {
        title: 'Claimed and sent',
        x: { label: 'attendees', logarithmic: true },
        y: { label: 'messages a second' },
        curves: [
          { name: 'the scheduler', points: measured.map((one) => [one.attendees, one.perSecond]) },
          {
            name: 'a bare loop of SendMessageBatch',
            points: measured.map((one) => [one.attendees, one.barePerSecond]),
            dashed: true,
          },
        ],
      },
    }
  },
}

/** Each in a process of its own, against servers of their own: first ours, then the bare loop into another queue. */
async function measure(bench: Bench, bareModule: string, attendees: number): Promise<Measured> {
  const stage = await openStage(bench, {
    tps: TPS,
    latency: null,
    change: (deployment) => {
      withoutWorkers(deployment)
      deployment.queues.push({ ...EMPTY_QUEUE, arn: `arn:aws:sqs:${deployment.region}:000000000000:bare` })
    },
  })
  try {
    await stage.gather(attendees)
    await stage.sql('analyze')
    const environment = stage.system.functions.environment('scheduler')
    const bareQueue = stage.system.aws.queueUrls.get(BARE_QUEUE) ?? ''
    const bareEnvironment = { ...environment, WORK_QUEUE_URL: bareQueue }
    // Before and after: the server is a young process and grows faster, and a shared machine has its moods.
    await sendBare(bareModule, bareEnvironment, WARM_UP)
    const bareBefore = await sendBare(bareModule, bareEnvironment, attendees)
    const ours = await schedule(bench.bundle.modules.scheduler ?? '', environment, attendees)
    const lying = await stage.sql<{ sent: string }>(
      `select count(*) as sent from indexing.face_jobs where state = 'sent'`,
    )
    if (Number(lying[0]?.sent) !== attendees)
      throw new Error(`${lying[0]?.sent} of ${attendees} jobs were sent`)

    const bareAfter = await sendBare(bareModule, bareEnvironment, attendees)
    return { ...ours, barePerSecond: (2000 * attendees) / (bareBefore + bareAfter) }
  } finally {
    await stage.close()
  }
}

const EMPTY_QUEUE = { logicalId: BARE_QUEUE, name: 'bare', attributes: {} }

async function schedule(module: string, environment: Record<string, string>, attendees: number) {
  const process = await startFreshProcess(module, environment)
  try {
    await process.invoke({ window_minutes: 0 }) // connects
    let ms = 0
    let writing = 0
    let sent = 0
    for (let runs = 1; ; runs++) {
      const run = await process.invoke({ window_minutes: 20 })
      ms += run.ms
      writing += run.spentMs.indexing_fan_out ?? 0
      sent += (run.result as { messages_sent: number }).messages_sent
      if (sent >= attendees) {
        const [slowest] = Object.entries(run.slowestMs).sort(([, a], [, b]) => b - a)
        return {
          perSecond: (attendees / ms) * 1000,
          peakMb: run.peakMb,
          runs,
          writingShare: writing / ms,
          slowest: { call: slowest?.[0] ?? '', ms: slowest?.[1] ?? 0 },
        }
      }
      if (runs === MOST_RUNS)
        throw new Error(`after ${runs} runs only ${sent} of ${attendees} messages are sent`)
    }
  } finally {
    process.close()
  }
}

async function sendBare(module: string, environment: Record<string, string>, messages: number) {
  const process = await startFreshProcess(module, environment)
  try {
    await process.invoke({ messages: 10, lanes: 1 }) // connects
    return (await process.invoke({ messages, lanes: LANES })).ms
  } finally {
    process.close()
  }
}
