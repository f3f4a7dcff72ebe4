import { spawn } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command, InvalidArgumentError } from 'commander'
import { migrationNames } from '../../supabase/migrations.ts'

/** A promise broken on purpose: texts of files that are replaced. */
interface Mutation {
  name: string
  edits: { file: string; text: string; by: string }[]
}

/** The newest migration that has the text. */
const FUNCTIONS = 'supabase/migrations'
const ATTENDEE = 'src/worker/attendee.ts'
const WORKER = 'src/worker/worker.ts'
const POLICY = 'src/core/policy.ts'

/**
 * `npm run chaos:mutations` shows that the tests can fail: it prints, for each of these, the first test that found it out, or else the
 * first seed of the chaos and the promise that it broke, as a table. `-- --only lease` runs those of that name; `--seeds-alone` skips
 * the tests. Much of what a break does is mended by reconcile before the chaos looks, so the tests see more of them.
 *
 * Each breaks one promise's keeper. Texts are short, so that they outlive what else changes around them.
 */
const MUTATIONS: Mutation[] = [
  { name: 'nothing: this is to be found by nobody', edits: [] },
  {
    name: 'complete does not compare versions with the lease',
    edits: [{ file: FUNCTIONS, text: "when changed then 'again'", by: "when false then 'again'" }],
  },
  {
    name: 'complete believes a worker that has lost its lease',
    edits: [{ file: FUNCTIONS, text: "when not has_lease then 'lost'", by: "when false then 'lost'" }],
  },
  {
    name: 'a call without an answer does not hold the lease',
    edits: [
      {
        file: FUNCTIONS,
        text: "when outcome = 'unclear' then 'hold'",
        by: "when outcome = 'unclear' then 'retry'",
      },
    ],
  },
  {
    name: 'lease ignores the leases of others',
    edits: [
      {
        file: FUNCTIONS,
        text: "j.state = 'running' and j.lease_until > now as leased",
        by: 'false as leased',
      },
    ],
  },
  {
    name: 'lease takes messages of older versions',
    edits: [
      {
        file: FUNCTIONS,
        text: 'and f.asked_version >= f.version) or f.repeated_call',
        by: 'and true) or f.repeated_call',
      },
    ],
  },
  {
    name: 'the collection is not listed after a lost worker',
    edits: [
      {
        file: FUNCTIONS,
        text: "needs_listing = j.needs_listing or (j.state = 'running' and j.lease_token <> token)",
        by: 'needs_listing = j.needs_listing',
      },
    ],
  },
  {
    name: 'settle does not lock the run',
    edits: [
      {
        file: FUNCTIONS,
        text: '  order by r.event_id for update;\n\n  -- … and each',
        by: '  order by r.event_id;\n\n  -- … and each',
      },
    ],
  },
  {
    name: 'settle passes over failed events that have healed',
    edits: [
      {
        file: FUNCTIONS,
        text: "where r.event_id = any (events) and r.state in ('in_progress', 'failed') and r.fanned_out_at",
        by: "where r.event_id = any (events) and r.state = 'in_progress' and r.fanned_out_at",
      },
    ],
  },
  {
    name: 'changes of photos are dropped',
    edits: [
      {
        file: FUNCTIONS,
        text: '  jobs := indexing.queue_jobs(events, users, erases => erasing, listing => erasing);\n',
        by: '  jobs := 0;\n',
      },
    ],
  },
  {
    name: 'the collection of a closed event is deleted once only',
    edits: [{ file: FUNCTIONS, text: 'if now >= run.closed_at + quiet then', by: 'if true then' }],
  },
  {
    name: 'a worker may create the collection of a closed event',
    edits: [
      { file: WORKER, text: 'if (!may) return false', by: "if (!may && event_id === '') return false" },
    ],
  },
  {
    name: 'the worker leaves faces of earlier photos',
    edits: [
      {
        file: ATTENDEE,
        text: 'if (result.obsolete_face_ids.length === 0) return',
        by: 'if (result.photo_etag !== null || result.obsolete_face_ids.length === 0) return',
      },
    ],
  },
  {
    name: 'the worker knows photos by their keys alone',
    edits: [
      {
        file: ATTENDEE,
        text: 'const same = job.face_key === key && job.face_etag === object.etag',
        by: 'const same = job.face_key === key && job.face_etag !== null',
      },
    ],
  },
  {
    name: 'the worker indexes again what is there',
    edits: [
      {
        file: ATTENDEE,
        text: 'const same = job.face_key === key && job.face_etag === object.etag',
        by: "const same = job.face_key === key && job.face_etag === ''",
      },
    ],
  },
  {
    name: 'reconcile does not find missing faces',
    edits: [
      {
        file: FUNCTIONS,
        text: "when face_id is not null and face_id <> all (face_ids) and settled then 'missing'",
        by: "when false then 'missing'",
      },
    ],
  },
  {
    name: 'faces of a collection made anew are believed in',
    edits: [
      {
        file: FUNCTIONS,
        text: "update indexing.face_jobs j set face_id = null, obsolete_face_ids = '{}', needs_listing = j.state = 'running'",
        by: 'update indexing.face_jobs j set needs_listing = j.needs_listing',
      },
    ],
  },
  {
    name: 'lost messages are not rescued',
    edits: [
      {
        file: POLICY,
        text: 'export const LOST_AFTER_SECONDS = 480',
        by: 'export const LOST_AFTER_SECONDS = 48_000',
      },
    ],
  },
]

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

const whole = (text: string) => {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1)
    throw new InvalidArgumentError('It must be a whole number from 1.')
  return value
}

const options = new Command('chaos:mutations')
  .description(
    'Breaks the system on purpose, in a copy, and reports which test or seed of the chaos finds it out.',
  )
  .option('--seeds <n>', 'how many seeds at most for each', whole, 20)
  .option('--seeds-alone', 'without the tests')
  .option('--only <pattern>', 'mutations whose name matches this regular expression', '')
  .parse()
  .opts<{ seeds: number; seedsAlone?: boolean; only: string }>()

const COPIED = [
  'src',
  'local',
  'supabase',
  'test',
  'cli',
  'docs',
  'deployment',
  'serverless.yml',
  'vitest.config.ts',
  'package.json',
  'tsconfig.json',
]

/** Returns who finds the mutation out, and by what; undefined when nobody does. */
async function findOut({ name, edits }: Mutation): Promise<{ by: string; promise: string } | undefined> {
  const copy = await mkdtemp(join(tmpdir(), 'event-indexer-mutation-'))
  try {
    for (const file of COPIED) await cp(join(ROOT, file), join(copy, file), { recursive: true })
    await symlink(join(ROOT, 'node_modules'), join(copy, 'node_modules'))
    for (const { file, text, by } of edits) {
      const files = file === FUNCTIONS ? migrationNames().toReversed() : ['']
      const paths = files.map((each) => join(copy, file, each))
      const texts = await Promise.all(paths.map((path) => readFile(path, 'utf8')))
      const index = texts.findIndex((each) => each.includes(text))
      const [path, before] = [paths[index], texts[index]]
      if (path === undefined || before === undefined)
        throw new Error(`${name}: ${file} does not have the text ${JSON.stringify(text)}`)
      await writeFile(path, before.replace(text, by))
    }
    return (options.seedsAlone ? undefined : await failingTest(copy)) ?? (await brokenSeed(name, copy))
  } finally {
    await rm(copy, { recursive: true, force: true })
  }
}

/** The first test of the ledger or the worker that fails. */
async function failingTest(copy: string): Promise<{ by: string; promise: string } | undefined> {
  const report = join(copy, 'report.json')
  const vitest = join('node_modules', 'vitest', 'vitest.mjs')
  await run(copy, [
    vitest,
    'run',
    'test/ledger',
    'test/worker',
    '--bail',
    '1',
    '--reporter',
    'json',
    '--outputFile',
    report,
  ])
  const { testResults } = JSON.parse(await readFile(report, 'utf8')) as {
    testResults: { name: string; assertionResults: { status: string; fullName: string }[] }[]
  }
  for (const { name, assertionResults } of testResults)
    for (const { status, fullName } of assertionResults)
      if (status === 'failed') return { by: basename(name), promise: fullName }
  return undefined
}

async function brokenSeed(name: string, copy: string): Promise<{ by: string; promise: string } | undefined> {
  const scale = ['--attendees', '40', '--events', '4', '--minutes', '3']
  const output = await run(copy, [
    '--import',
    'tsx',
    'test/chaos/main.ts',
    '--stop',
    '--seeds',
    String(options.seeds),
    ...scale,
  ])
  const [, seed] = /^seed (\d+): \d+ violations/m.exec(output) ?? []
  const [, promise] = /BROKEN: ([^:]+)/.exec(output) ?? []
  if (seed && promise) return { by: `seed ${seed}`, promise }
  if (!/^\d+ seeds, 0 broken/m.test(output))
    throw new Error(`${name}: the chaos failed: ${output.slice(-2000)}`)
  return undefined
}

/** Runs Node in a directory, and returns what it prints. */
async function run(directory: string, args: string[]): Promise<string> {
  const child = spawn(process.execPath, args, { cwd: directory, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text) => {
      output += text
    })
  await new Promise((resolve) => child.once('close', resolve))
  return output
}

const chosen = MUTATIONS.filter(({ name }) => new RegExp(options.only).test(name))
const width = Math.max(...chosen.map(({ name }) => name.length))
const row = (...cells: [string, string, string]) =>
  console.log(`| ${cells[0].padEnd(width)} | ${cells[1].padEnd(24)} | ${cells[2]} |`)

let escaped = 0
row('broken on purpose', 'found by', 'the promise that was found broken')
row('-'.repeat(width), '-'.repeat(24), '---')
for (const mutation of chosen) {
  const found = await findOut(mutation)
  if (!found === mutation.edits.length > 0) escaped++
  row(
    mutation.name,
    found?.by ?? 'nobody',
    found?.promise ?? `NOT FOUND by the tests, nor in ${options.seeds} seeds`,
  )
}
process.exit(escaped > 0 ? 1 : 0)
