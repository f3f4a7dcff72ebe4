import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { readDeployment } from '../../local/deployment.ts'
import { bundleFunctions, type Contents } from '../../local/lambda-host/bundle.ts'
import { writeMessage } from '../../src/core/message.ts'
import { copyService, packageService } from '../../test/deployment/serverless.ts'
import { type FirstRequest, listenForFirstRequest } from '../fresh-process/first-request.ts'
import { startFreshProcess } from '../fresh-process/process.ts'
import { type Figures, median, round, type Scenario } from '../scenario.ts'
import { openStage, type Stage, withoutWorkers } from '../stage.ts'

const RUNS = 15
const INPUTS = 8 // shown of each bundle
const ROOT = new URL('../../', import.meta.url)

/** The functions, each with the first request that does its work, and the least that could make such a request. */
const FUNCTIONS = {
  scheduler: { first: 'AmazonSQS.', reference: 'only-sqs', referenceFirst: 'AmazonSQS.' },
  worker: {
    first: 'RekognitionService.',
    reference: 'only-rekognition',
    referenceFirst: 'RekognitionService.',
  },
  // Calls neither of them: its work begins with the database.
  finalizer: { first: '/rest/v1/rpc/', reference: 'only-ssm', referenceFirst: 'AmazonSSM.' },
} as const
type Name = keyof typeof FUNCTIONS
const NAMES = Object.keys(FUNCTIONS) as Name[]

interface Packaged {
  module: string
  bundleKb: number
  zipKb: number
}

interface Start {
  loadMs: number
  firstRequestMs: number
}

export const cold: Scenario = {
  name: 'cold',
  title: 'the packaged functions in fresh processes, beside ones that only import the AWS client they use',
  async run(bench) {
    const service = await copyService()
    const deployment = await readDeployment(new URL('serverless.yml', ROOT))
    const [like] = deployment.functions
    if (!like) throw new Error('there is no function')
    const references = await bundleFunctions(
      {
        ...deployment,
        functions: NAMES.map((name) => ({
          ...like,
          name: FUNCTIONS[name].reference,
          module: `bench/baselines/${FUNCTIONS[name].reference}`,
        })),
      },
      ROOT,
    )
    const stage = await openStage(bench, { tps: 50, change: withoutWorkers })
    try {
      const packaged = await packageFunctions(service)
      bench.say('packaged')
      const starts = await measure(stage, packaged, references.modules)
      return report(packaged, starts, bench.bundle.contents)
    } finally {
      await stage.close()
      await references.close()
      await service.remove()
    }
  },
}

/** As `serverless package` makes them, taken out of their zips. */
async function packageFunctions(
  service: Awaited<ReturnType<typeof copyService>>,
): Promise<Record<Name, Packaged>> {
  const { zips, directory } = await packageService(service)
  const unpack = async (name: Name): Promise<[Name, Packaged]> => {
    const { files, size } = zips[name]
    for (const [path, content] of Object.entries(files)) {
      const file = join(directory, 'unpacked', path)
      await mkdir(dirname(file), { recursive: true })
      await writeFile(file, content)
    }
    const path = `src/${name}/handler.mjs`
    const module = join(directory, 'unpacked', path)
    return [name, { module, bundleKb: (files[path]?.length ?? 0) / 1024, zipKb: size / 1024 }]
  }
  return Object.fromEntries(await Promise.all(NAMES.map(unpack))) as Record<Name, Packaged>
}

type Starts = Record<Name, { ours: Start[]; reference: Start[] }>

/** In turns, against the real database; what would go to AWS, the secrets included, goes to a server that notes its time. */
async function measure(
  stage: Stage,
  packaged: Record<Name, Packaged>,
  references: Record<string, string>,
): Promise<Starts> {
  const { gateway, functions } = stage.system
  const event = await stage.gather(RUNS)
  // Once only: a later run would send the jobs that are here for the scheduler to be measured.
  await functions.invoke('scheduler', { window_minutes: 20 })
  const jobs = await stage.sql<{ event_id: string; user_id: string; version: number }>(
    'select event_id, user_id, version from indexing.face_jobs where event_id = $1',
    [event],
  )
  const keyParameter = functions.environment('worker').SUPABASE_SERVICE_ROLE_KEY_PARAMETER ?? ''
  const server = await listenForFirstRequest({ [keyParameter]: gateway.serviceRoleKey })
  const environmentOf = (name: Name) => {
    const { SUPABASE_SERVICE_ROLE_KEY, NUDGE_SECRET, AWS_ENDPOINT_URL_REKOGNITION, ...environment } =
      functions.environment(name)
    return {
      ...environment,
      AWS_ENDPOINT_URL: server.url,
      WORK_QUEUE_URL: `${server.url}/000000000000/work`,
      URGENT_QUEUE_URL: `${server.url}/000000000000/urgent`,
      ...(name === 'finalizer' && { SUPABASE_URL: server.url }),
    }
  }
  const starts: Starts = {
    scheduler: { ours: [], reference: [] },
    worker: { ours: [], reference: [] },
    finalizer: { ours: [], reference: [] },
  }
  try {
    for (const job of jobs) {
      const records = {
        Records: [{ messageId: 'm', receiptHandle: 'r', body: writeMessage(job), attributes: {} }],
      }
      for (const name of NAMES) {
        const { first, reference, referenceFirst } = FUNCTIONS[name]
        if (name === 'scheduler')
          await stage.sql(
            `update indexing.face_jobs set state = 'queued', sent_at = null, send_batch = null
             where state in ('queued', 'sent')`,
          )
        const environment = environmentOf(name)
        const { module } = packaged[name]
        starts[name].ours.push(
          await start(server, module, environment, name === 'scheduler' ? {} : records, first),
        )
        starts[name].reference.push(
          await start(server, references[reference] ?? '', environment, {}, referenceFirst),
        )
      }
    }
  } finally {
    server.close()
  }
  return starts
}

async function start(
  server: FirstRequest,
  module: string,
  environment: Record<string, string>,
  event: unknown,
  first: string,
): Promise<Start> {
  const process = await startFreshProcess(module, environment)
  try {
    const { begunAt, loadedAt } = process.loaded
    const invokedAt = performance.timeOrigin + performance.now()
    const arrived = server.next(first)
    const ended = process.invoke(event).then(
      () => giveUp(`it ended without a request ${first}`),
      (error) => giveUp(String(error)),
    )
    const arrivedAt = await Promise.race([arrived, ended])
    ended.catch(() => {}) // it is killed now
    // Less the moment in which the process waited to be told of its event.
    return { loadMs: loadedAt - begunAt, firstRequestMs: arrivedAt - begunAt - (invokedAt - loadedAt) }
  } finally {
    process.close()
  }
}

/** After a moment, since a function may also have ended because of how its first request was answered. */
async function giveUp(problem: string): Promise<never> {
  await sleep(200)
  throw new Error(problem)
}

function report(packaged: Record<Name, Packaged>, starts: Starts, contents: Record<string, Contents>) {
  const figures: Figures = {}
  const rows: (string | number)[][] = []
  const notes: string[] = []
  for (const name of NAMES) {
    const { bundleKb, zipKb } = packaged[name]
    const { ours, reference } = starts[name]
    const of = (all: Start[], key: keyof Start) => median(all.map((one) => one[key]))
    const figure = {
      bundle_kb: round(bundleKb, 0),
      zip_kb: round(zipKb, 0),
      load_ms: round(of(ours, 'loadMs'), 0),
      first_request_ms: round(of(ours, 'firstRequestMs'), 0),
      reference_load_ms: round(of(reference, 'loadMs'), 0),
      reference_first_request_ms: round(of(reference, 'firstRequestMs'), 0),
      load_ratio: round(of(ours, 'loadMs') / of(reference, 'loadMs'), 2),
      first_request_ratio: round(of(ours, 'firstRequestMs') / of(reference, 'firstRequestMs'), 2),
    }
    const inputs = byPackage(contents[name] ?? {})
    figures[name] = {
      ...figure,
      inputs_kb: Object.fromEntries(inputs.map(([key, kb]) => [key, round(kb, 0)])),
    }
    rows.push([
      name,
      figure.bundle_kb,
      figure.zip_kb,
      figure.load_ms,
      figure.reference_load_ms,
      figure.load_ratio,
      figure.first_request_ms,
      figure.reference_first_request_ms,
      figure.first_request_ratio,
    ])
    const largest = inputs.slice(0, INPUTS).map(([key, kb]) => `${key} ${kb.toFixed(0)}`)
    notes.push(`In the ${name}, KB: ${largest.join(', ')}.`)
  }
  return {
    figures,
    table: {
      head: [
        '',
        'bundle, KB',
        'zip, KB',
        'load, ms',
        'client alone',
        'ratio',
        'first request, ms',
        'client alone',
        'ratio',
      ],
      rows,
    },
    notes: [
      `Medians of ${RUNS}. Both counted from the start of loading; the first request is the scheduler's first SendMessageBatch, the worker's first IndexFaces, the finalizer's first database call, with the secrets' request and the database's answers before it.`,
      ...notes,
    ],
  }
}

/** KB by npm package, or by our own folder, the largest first. */
function byPackage(contents: Contents): [name: string, kb: number][] {
  const sums = new Map<string, number>()
  for (const [file, bytes] of Object.entries(contents)) {
    const key =
      /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1] ?? file.split('/').slice(0, 2).join('/')
    sums.set(key, (sums.get(key) ?? 0) + bytes / 1024)
  }
  return [...sums].sort(([, a], [, b]) => b - a)
}
