import { spawn } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command, InvalidArgumentError } from 'commander'

/** A promise broken on purpose: texts of files that are replaced. */
interface Mutation {
  name: string
  edits: { file: string; text: string; by: string }[]
}

const FUNCTIONS = 'supabase/migrations/20261126000002_event_indexer_functions.sql'
const ATTENDEE = 'src/worker/attendee.ts'
const WORKER = 'src/worker/worker.ts'
const POLICY = 'src/core/policy.ts'

/**
 * `npm run chaos:mutations` shows that the chaos can fail: it prints, for each of these, the first seed that found it out and the
 * promise that it broke, as a table. `-- --only lease` runs those of that name.
 *
 * Each breaks one promise's keeper. Texts are short, so that they outlive what else changes around them.
 */
const MUTATIONS: Mutation[] = [
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
  .description('Breaks the system on purpose, in a copy, and reports which seed of the chaos finds it out.')
  .option('--seeds <n>', 'how many seeds at most for each', whole, 60)
  .option('--only <pattern>', 'mutations whose name matches this regular expression', '')
  .parse()
  .opts<{ seeds: number; only: string }>()

/** Returns the first seed that finds the mutation out, with the promise that it broke; undefined when none does. */
async function findOut({ name, edits }: Mutation): Promise<{ seed: string; promise: string } | undefined> {
  const copy = await mkdtemp(join(tmpdir(), 'event-indexer-mutation-'))
  try {
    for (const folder of ['src', 'local', 'supabase', 'test', 'package.json', 'tsconfig.json'])
      await cp(join(ROOT, folder), join(copy, folder), { recursive: true })
    await symlink(join(ROOT, 'node_modules'), join(copy, 'node_modules'))
    for (const { file, text, by } of edits) {
      const before = await readFile(join(copy, file), 'utf8')
      if (!before.includes(text))
        throw new Error(`${name}: ${file} does not have the text ${JSON.stringify(text)}`)
      await writeFile(join(copy, file), before.replace(text, by))
    }
    const output = await chaos(copy)
    const [, seed] = /^seed (\d+): \d+ violations/m.exec(output) ?? []
    const [, promise] = /BROKEN: ([^:]+)/.exec(output) ?? []
    if (seed && promise) return { seed, promise }
    if (!/^\d+ seeds, 0 broken/m.test(output))
      throw new Error(`${name}: the chaos failed: ${output.slice(-2000)}`)
    return undefined
  } finally {
    await rm(copy, { recursive: true, force: true })
  }
}

async function chaos(directory: string): Promise<string> {
  const scale = ['--attendees', '40', '--events', '4', '--minutes', '3']
  const args = ['--import', 'tsx', 'test/chaos/main.ts', '--stop', '--seeds', String(options.seeds), ...scale]
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
  console.log(`| ${cells[0].padEnd(width)} | ${cells[1].padStart(6)} | ${cells[2]} |`)

let escaped = 0
row('broken on purpose', 'seed', 'the promise that was found broken')
row('-'.repeat(width), '-----:', '---')
for (const mutation of chosen) {
  const found = await findOut(mutation)
  if (!found) escaped++
  row(mutation.name, found?.seed ?? 'none', found?.promise ?? `NOT FOUND in ${options.seeds} seeds`)
}
process.exit(escaped > 0 ? 1 : 0)
