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

const LEDGER = 'supabase/migrations/'
const WORK = `${LEDGER}20261123000008_work.sql`
const BURY = `${LEDGER}20261123000009_dead_letters.sql`
const OUTBOX = `${LEDGER}20261123000006_outbox.sql`
const CHANGES = `${LEDGER}20261123000013_changes.sql`

/** The second look, a minute after a change, mends what these break: it is taken away with them. */
const NO_SECOND_LOOK = {
  file: CHANGES,
  text: "clock_timestamp() + interval '1 minute'\n  from looked_at",
  by: 'null\n  from looked_at',
}

/**
 * `npm run chaos:mutations` shows that the chaos can fail: it prints, for each of these, the first seed that found it out and the
 * promise that it broke, as a table. `-- --only lease` runs those of that name.
 *
 * Each breaks one promise's keeper. Texts are short, so that they outlive what else changes around them.
 */
const MUTATIONS: Mutation[] = [
  {
    name: 'finish does not compare versions',
    edits: [
      { file: WORK, text: 'when j.version > j.leased_version ', by: 'when false ' },
      { file: WORK, text: ' or j.version > j.leased_version,', by: ',' },
      NO_SECOND_LOOK,
    ],
  },
  {
    name: 'begin ignores leases',
    edits: [
      {
        file: WORK,
        text: "(j.state = 'running' and (j.lease_until <= now or j.lease_token = token))",
        by: "j.state = 'running'",
      },
    ],
  },
  {
    name: 'settle does not lock the run',
    edits: [
      {
        file: `${LEDGER}20261123000003_settle.sql`,
        text: "r.state = 'in_progress'\n  order by r.event_id for update;",
        by: "r.state = 'in_progress'\n  order by r.event_id;",
      },
    ],
  },
  {
    name: 'begin does not mark what it begins as unconfirmed',
    edits: [
      {
        file: WORK,
        text: 'unconfirmed = j.unconfirmed or open.photo is not null',
        by: 'unconfirmed = j.unconfirmed',
      },
      NO_SECOND_LOOK,
    ],
  },
  {
    name: 'absorb does not mark what changed as unconfirmed',
    edits: [{ file: CHANGES, text: 'unconfirmed = true, due', by: 'due' }, NO_SECOND_LOOK],
  },
  {
    name: 'begin goes by what the app wanted when the job was queued',
    edits: [
      {
        file: `${LEDGER}20261123000001_ledger.sql`,
        text: '  ended_at        timestamptz,',
        by: '  wished text, wished_against text,\n  ended_at        timestamptz,',
      },
      {
        file: OUTBOX,
        text: "update indexing.face_jobs j set state = 'sent',",
        by: `update indexing.face_jobs j set
      wished = (select w.photo from indexing.wishes w where w.event_id = j.event_id and w.user_id = j.user_id),
      wished_against = (select w.reason from indexing.wishes w where w.event_id = j.event_id and w.user_id = j.user_id),
      state = 'sent',`,
      },
      {
        file: WORK,
        text: 'from found j\n    join indexing.wishes w using (event_id, user_id)',
        by: 'from found j\n    join (select k.event_id, k.user_id, k.wished as photo, k.wished_against as reason, false as tenure from indexing.face_jobs k) w using (event_id, user_id)',
      },
    ],
  },
  {
    name: 'nothing is swept',
    edits: [
      {
        file: 'src/scheduler/scheduler.ts',
        text: 'await database.sweep(LOST_AFTER_SECONDS)',
        by: '{ jobs: 0, failed: 0 }',
      },
    ],
  },
  {
    name: 'finish trusts a result without its lease',
    edits: [{ file: WORK, text: "when j.lease_token is distinct from token then 'lost'", by: '' }],
  },
  {
    name: 'a collection is deleted once',
    edits: [
      {
        file: `${LEDGER}20261123000005_collections.sql`,
        text: "when x.result = 'deleted' and r.collection = 'closing' then 'closing_again'",
        by: "when x.result = 'deleted' and r.collection = 'closing' then 'deleted'",
      },
    ],
  },
  {
    name: 'a begun message is acknowledged whatever came of it',
    edits: [{ file: 'src/worker/worker.ts', text: "if (next.next === 'retry') {", by: 'if (false) {' }],
  },
  {
    name: 'the finalizer does not compare versions',
    edits: [{ file: BURY, text: 'j.letter_version >= j.version', by: 'true' }],
  },
  {
    name: 'the finalizer does not settle the event',
    edits: [{ file: BURY, text: 'perform indexing.settle(ended);', by: 'null;' }],
  },
  {
    name: 'the finalizer drops what is no message of ours',
    edits: [{ file: 'src/finalizer/finalizer.ts', text: 'strangers.length > 0', by: 'false' }],
  },
  {
    name: 'expand believes what the ledger knew before the claim',
    edits: [
      { file: `${LEDGER}20261123000004_claim.sql`, text: 'unconfirmed = true, -- the collection', by: '--' },
    ],
  },
  {
    name: 'claim does not mark the event',
    edits: [
      {
        file: `${LEDGER}20261123000004_claim.sql`,
        text: "update public.events e set indexing_status = 'in_progress'",
        by: 'update public.events e set indexing_status = e.indexing_status',
      },
    ],
  },
  {
    name: 'a page that nobody confirmed and a message that is lost are forgotten',
    edits: [
      { file: OUTBOX, text: 'perform indexing.give_up_pages();', by: 'null;' },
      {
        file: `${LEDGER}20261123000010_sweep.sql`,
        text: "where j.state = 'sent' and j.sent_at <",
        by: 'where false and j.sent_at <',
      },
    ],
  },
  {
    name: 'nobody waits for a call that was not answered',
    edits: [
      { file: 'src/worker/attendee.ts', text: "unclear: 'unclear'", by: "unclear: 'retry'" },
      NO_SECOND_LOOK,
    ],
  },
  {
    name: 'a lease ends with its worker',
    edits: [{ file: 'src/worker/worker.ts', text: '/ 1000 + QUIET_SECONDS', by: '/ 1000 - 20' }],
  },
  {
    name: 'whatever brings jobs into the ledger does not take turns',
    edits: [
      {
        file: `${LEDGER}20261123000004_claim.sql`,
        text: "pg_advisory_xact_lock(hashtext('indexing.face_jobs'))",
        by: '',
      },
    ],
  },
  {
    name: 'an event that takes faces again is not looked at',
    edits: [
      {
        file: CHANGES,
        text: "if app.is_active and app.cleanup_status = 'pending' then",
        by: 'if false then',
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
