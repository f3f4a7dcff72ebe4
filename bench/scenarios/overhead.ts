import { readFile } from 'node:fs/promises'
import { SourceMap } from 'node:module'
import { type Cpu, difference, postmasterOf, readCpu, threads } from '../profile/cpu.ts'
import { divide, type Place, type Profiles, startProfiler } from '../profile/profiler.ts'
import { type Bench, round, type Scenario } from '../scenario.ts'
import { openStage } from '../stage.ts'

const ATTENDEES = 20_000
const TPS = 10_000 // a pace that nobody notices
const SMALLEST_SHARE = 0.01 // that has a row of its own

interface Measured {
  seconds: number
  cpu: Cpu | undefined
  profiles: Profiles | undefined
}

export const overhead: Scenario = {
  name: 'overhead',
  title: `${ATTENDEES} attendees without latency and quota: what the system itself takes`,
  async run(bench) {
    const { seconds, cpu } = await measure(bench, false)
    bench.say(`${ATTENDEES} in ${seconds.toFixed(1)} s; once more with a profiler`)
    const { profiles } = await measure(bench, true)
    const parts = sharesOf(cpu, await divideAll(profiles, bench.bundle.modules.worker ?? ''))
    const total = cpu && cpu.main + cpu.functions + cpu.background + cpu.postgres

    const perSecond = ATTENDEES / seconds
    const small = parts.filter(({ share }) => share < SMALLEST_SHARE)
    const shown = parts.filter(({ share }) => share >= SMALLEST_SHARE)
    const rest = small.reduce((sum, { share }) => sum + share, 0)
    const row = (process: string, part: string, share: number) => [
      process,
      part,
      `${(share * 100).toFixed(1)} %`,
      total ? round((share * total) / ATTENDEES, 2) : '',
    ]
    return {
      figures: {
        attendees_per_second: round(perSecond, 0),
        seconds: round(seconds, 2),
        cpu_ms_per_attendee: total ? round(total / ATTENDEES, 2) : null,
        cpu_ms_per_attendee_by_process: cpu
          ? {
              postgres: round(cpu.postgres / ATTENDEES, 2),
              servers_and_host: round(cpu.main / ATTENDEES, 2),
              functions: round(cpu.functions / ATTENDEES, 2),
              background: round(cpu.background / ATTENDEES, 2),
            }
          : null,
        shares: Object.fromEntries(
          parts.map(({ process, part, share }) => [`${process}: ${part}`, round(share)]),
        ),
      },
      table: {
        head: ['', 'where the CPU time goes', 'share', 'ms per attendee'],
        rows: [
          ...shown.map(({ process, part, share }) => row(process, part, share)),
          row('', 'less than 1 % each', rest),
        ],
      },
      notes: [
        `${perSecond.toFixed(0)} attendees a second (goal: 500), with everything on the same cores.`,
        cpu
          ? "Each thread's CPU time is Linux's count in a run without a profiler; a second run with one says what it was spent on."
          : "There is no /proc here: shares of the profiler's samples, Postgres not among them.",
      ],
    }
  },
}

async function measure(bench: Bench, profiled: boolean): Promise<Measured> {
  const before = await threads()
  const stage = await openStage(bench, { tps: TPS, latency: null })
  try {
    await stage.warmUp()
    const event = await stage.gather(ATTENDEES)
    const [session] = await stage.sql<{ pid: number }>('select pg_backend_pid() as pid')
    const postmaster = await postmasterOf(session?.pid ?? 0)
    const profiler = profiled ? await startProfiler() : undefined
    const cpu = await readCpu(before, postmaster)
    await stage.schedule()
    const [run] = await stage.settled([event], 300)
    const cpuAfter = await readCpu(before, postmaster)
    return {
      seconds: run?.seconds ?? Number.NaN,
      cpu: cpu && cpuAfter && difference(cpu, cpuAfter),
      profiles: await profiler?.stop(),
    }
  } finally {
    await stage.close()
  }
}

interface Divided {
  main: Map<string, number>
  functions: Map<string, number>
}

async function divideAll(profiles: Profiles | undefined, workerModule: string): Promise<Divided> {
  if (!profiles) throw new Error('there is no profile')
  const inBundle = await partsOfBundle(workerModule)
  return {
    main: divide([profiles.main], (place) => firstMatch(place.url, SERVERS), 'Node: sockets, HTTP, timers'),
    functions: divide(
      profiles.workers,
      (place) => inBundle(place) ?? firstMatch(place.url, NODE_PARTS),
      'Node: sockets, HTTP, timers, start',
    ),
  }
}

type Patterns = [pattern: RegExp, part: string][]

const SERVERS: Patterns = [
  [/node_modules\/(fauxqs|fastify)\//, 'SQS and S3 emulator'],
  [/local\/gateway\/|node_modules\/(pg|jose)[^/]*\//, "Supabase's REST gateway"],
  [/local\/rekognition\//, 'Rekognition emulator'],
  [/local\/lambda-host\//, 'Lambda host'],
  [/node_modules\/@(aws-sdk|smithy)\//, 'Lambda host: SQS client'],
  [/\/bench\//, 'the bench itself'],
]

const NODE_PARTS: Patterns = [[/internal\/deps\/undici/, 'fetch']]

const SOURCES: Patterns = [
  [/node_modules\/@(aws-sdk|smithy|aws-crypto|aws)\//, 'AWS SDK'],
  [/node_modules\/@supabase\//, 'supabase-js'],
  [/node_modules\/zod\//, 'zod'],
  [/node_modules\/(@middy|@aws-lambda-powertools)\//, 'middy and Powertools'],
  [/src\/(worker|core|scheduler|finalizer)\//, 'our code'],
]

const firstMatch = (text: string, patterns: Patterns) => patterns.find(([pattern]) => pattern.test(text))?.[1]

/** By way of the bundles' source maps: in which package a place of a function's module is. */
async function partsOfBundle(workerModule: string): Promise<(place: Place) => string | undefined> {
  const maps = new Map<string, SourceMap>()
  for (const name of ['worker', 'scheduler', 'finalizer']) {
    const file = workerModule.replace(/worker(\.\w+)$/, `${name}$1.map`)
    maps.set(name, new SourceMap(JSON.parse(await readFile(file, 'utf8'))))
  }
  return ({ url, line, column }) => {
    const name = /(\w+)\.mjs$/.exec(url)?.[1]
    const entry = maps.get(name ?? '')?.findEntry(line, column)
    return entry && 'originalSource' in entry ? firstMatch(entry.originalSource, SOURCES) : undefined
  }
}

interface Part {
  process: string
  part: string
  share: number
}

/** The parts of all, the largest first: each thread's CPU time, divided as its samples are. */
function sharesOf(cpu: Cpu | undefined, { main, functions }: Divided): Part[] {
  const sum = (samples: Map<string, number>) =>
    [...samples.values()].reduce((total, value) => total + value, 0)
  const weights = cpu ?? { main: sum(main), functions: sum(functions), background: 0, postgres: 0 }
  const total = weights.main + weights.functions + weights.background + weights.postgres
  const divided = (process: string, samples: Map<string, number>, weight: number): Part[] =>
    [...samples].map(([part, count]) => ({ process, part, share: ((count / sum(samples)) * weight) / total }))
  return [
    { process: 'Postgres', part: 'all of it', share: weights.postgres / total },
    ...divided('servers', main, weights.main),
    ...divided('functions', functions, weights.functions),
    { process: 'Node', part: "V8's and libuv's helpers", share: weights.background / total },
  ].sort((a, b) => b.share - a.share)
}
