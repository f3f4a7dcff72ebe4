import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { LOST_AFTER_SECONDS, SEND_BATCH_SECONDS } from '../../src/core/policy.ts'
import { queueCaps } from '../../src/scheduler/outbox.ts'
import { type Bench, median, round, type Scenario } from '../scenario.ts'
import { openStage, type Stage } from '../stage.ts'

const PAST_EVENTS = 10_000
const ATTENDEES = 100 // of each: a million settled jobs
const TPS = 50
const RUNS = 10

/** Rows that a statement of an idle run may read of what has settled: none but by accident of a page or a bound. */
const FEW = 20
/** Tables that may be read whole: the app's events, few beside the jobs, on which we create no index. */
const READ_WHOLE = ['events']

/** What an idle run calls, as the scheduler does; that it is all of it is checked. */
const CALLS: Record<string, string> = {
  indexing_schema_version: 'select public.indexing_schema_version()', // by a container that has just started
  indexing_start_run: `select public.indexing_start_run(${TPS}, 0)`,
  indexing_rescue: `select public.indexing_rescue(${LOST_AFTER_SECONDS}, ${SEND_BATCH_SECONDS})`,
  indexing_process_changes:
    'select public.indexing_process_changes(true), public.indexing_process_changes(false)',
  indexing_claim: 'select public.indexing_claim(20)',
  indexing_collections_due: 'select public.indexing_collections_due(25)',
  indexing_fan_out: 'select public.indexing_fan_out(5000)',
  indexing_take_send_batch: `select public.indexing_take_send_batch(1000, ${queueCaps(TPS).work_cap}, ${queueCaps(TPS).urgent_cap})`,
  indexing_reconcile_due: 'select public.indexing_reconcile_due(100)',
  indexing_orphans_due: 'select public.indexing_orphans_due()',
  indexing_forecast: 'select public.indexing_forecast()',
  indexing_health: 'select public.indexing_health(20)',
}

/** One look of a statement at a table. */
interface Scan {
  how: string
  table: string
  index: string | undefined
  /** Read, also those that were then left out. */
  rows: number
}

interface Examined {
  /** One whole run of the deployed function, the median of some. */
  runMs: number
  /** Of each function, with all the statements inside it. */
  calls: Map<string, { ms: number; buffers: number; scans: Scan[] }>
}

export const idle: Scenario = {
  name: 'idle',
  title: `an idle scheduler run beside ${PAST_EVENTS * ATTENDEES} settled jobs of ${PAST_EVENTS} past events`,
  async run(bench) {
    const empty = await examine(bench, async () => {})
    bench.say('with an empty ledger: done')
    const full = await examine(bench, fill)

    const names = Object.keys(CALLS)
    const total = (of: Examined) => [...of.calls.values()].reduce((sum, { buffers }) => sum + buffers, 0)
    const offences = names.flatMap((name) => {
      const scans = full.calls.get(name)?.scans ?? []
      return scans
        .filter(({ rows, table }) => rows > FEW && !READ_WHOLE.includes(table))
        .map((scan) => `${name}: ${textOf(scan)}`)
    })
    return {
      figures: {
        idle_run_ms: round(full.runMs, 1),
        idle_run_ms_empty: round(empty.runMs, 1),
        buffers: total(full),
        buffers_empty: total(empty),
        scans_of_settled: offences,
      },
      table: {
        head: ['', 'ms', 'ms, empty', 'buffers', 'buffers, empty', 'rows read of'],
        rows: [
          ...names.map((name) => {
            const [of, ofEmpty] = [full.calls.get(name), empty.calls.get(name)]
            return [
              name,
              round(of?.ms ?? Number.NaN, 2),
              round(ofEmpty?.ms ?? Number.NaN, 2),
              of?.buffers ?? 0,
              ofEmpty?.buffers ?? 0,
              summaryOf(of?.scans ?? []),
            ]
          }),
          ['the whole run', round(full.runMs, 1), round(empty.runMs, 1), total(full), total(empty), ''],
        ],
      },
      broken: offences.map((offence) => `an idle run reads what has settled: ${offence}`),
    }
  },
}

async function examine(bench: Bench, prepare: (superuser: pg.Client) => Promise<void>): Promise<Examined> {
  const stage = await openStage(bench, { tps: TPS })
  const superuser = new pg.Client({ connectionString: superuserUrl(bench, stage) })
  try {
    await superuser.connect()
    await prepare(superuser)
    // What autovacuum sees to in a database that lives.
    await superuser.query('vacuum analyze')
    return { runMs: await timeRuns(stage), calls: await explainCalls(superuser) }
  } finally {
    await superuser.end()
    await stage.close()
  }
}

/** Only a superuser may load auto_explain and write past the triggers. */
function superuserUrl({ postgres }: Bench, { system }: Stage): string {
  const url = new URL(system.database.url)
  url.username = 'supabase_admin'
  url.password = postgres.access.password
  return url.href
}

/** The past: events that were indexed and are over, their attendees, and what the ledger keeps of them. */
async function fill(superuser: pg.Client): Promise<void> {
  await superuser.query(`
    set session_replication_role = replica;
    create temporary table past as
      select gen_random_uuid() as event_id, now() - n * interval '1 hour' as starts_at
      from generate_series(1, ${PAST_EVENTS}) n;
    create temporary table people as
      select gen_random_uuid() as user_id, n from generate_series(1, ${PAST_EVENTS * ATTENDEES} / 10) n;
    create temporary table attendances as
      select p.event_id, q.user_id, p.starts_at from (select *, row_number() over () as n from past) p
      join people q on q.n % (${PAST_EVENTS} / 10) = p.n % (${PAST_EVENTS} / 10);
    insert into auth.users (id) select user_id from people;
    insert into public.profiles (user_id, full_name, photo_path) select user_id, 'Somebody', 'a portrait' from people;
    insert into public.events (event_id, starts_at, indexing_status) select event_id, starts_at, 'completed' from past;
    insert into public.event_consents (event_id, user_id, allow_recognition, consented_at)
      select event_id, user_id, true, starts_at from attendances;
    insert into indexing.event_runs
        (event_id, state, starts_at, ends_at, claimed_at, fanned_out_at, settled_at, collection, reconcile_due, reconciled_at)
      select event_id, 'completed', starts_at, starts_at, starts_at, starts_at, starts_at, 'ready', 'infinity', starts_at from past;
    insert into indexing.face_jobs
        (event_id, user_id, state, priority, starts_at, queued_at, sent_at, face_id, photo_key, photo_etag, ended_at)
      select event_id, user_id, 'indexed', 1, starts_at, starts_at, starts_at, gen_random_uuid(), 'a portrait', 'an ETag', starts_at
      from attendances;
    set session_replication_role = origin`)
  const { rows } = await superuser.query<{ jobs: string }>('select count(*) as jobs from indexing.face_jobs')
  if (Number(rows[0]?.jobs) !== PAST_EVENTS * ATTENDEES) throw new Error(`${rows[0]?.jobs} jobs were made`)
}

async function timeRuns(stage: Stage): Promise<number> {
  const run = () => stage.system.functions.invoke('scheduler', {})
  await run() // starts the container
  const called = new Map(stage.system.gateway.calls)
  await run()
  for (const [name, count] of stage.system.gateway.calls)
    if (count > (called.get(name) ?? 0) && !(name in CALLS))
      throw new Error(`an idle run calls ${name}, which is not looked at here`)
  const times: number[] = []
  for (let count = 0; count < RUNS; count++) {
    const began = performance.now()
    await run()
    times.push(performance.now() - began)
    await sleep(100)
  }
  return median(times)
}

/** Makes each call once more, with Postgres explaining every statement in it. */
async function explainCalls(superuser: pg.Client): Promise<Examined['calls']> {
  const plans: Plan[] = []
  superuser.on('notice', ({ message = '' }) => {
    const json = /^duration: [\d.]+ ms {2}plan:\n([\s\S]*)$/.exec(message)?.[1]
    if (json) plans.push((JSON.parse(json) as { Plan: Plan }).Plan)
  })
  const calls: Examined['calls'] = new Map()
  for (const [name, text] of Object.entries(CALLS)) {
    const times: number[] = []
    for (let count = 0; count < RUNS; count++) {
      const began = performance.now()
      await superuser.query(text)
      times.push(performance.now() - began)
    }
    await superuser.query(`load 'auto_explain'; ${AUTO_EXPLAIN}`)
    plans.length = 0
    await superuser.query(text)
    await superuser.query('set auto_explain.log_min_duration = -1')
    // The outermost statement, the call itself, comes last and has all buffers of what is in it.
    const whole = plans.at(-1)
    if (!whole) throw new Error(`Postgres did not explain ${name}`)
    calls.set(name, {
      ms: median(times),
      buffers: buffersOf(whole),
      scans: plans.flatMap(scansOf),
    })
  }
  return calls
}

const AUTO_EXPLAIN = Object.entries({
  'auto_explain.log_min_duration': '0',
  'auto_explain.log_nested_statements': 'on',
  'auto_explain.log_analyze': 'on',
  'auto_explain.log_buffers': 'on',
  'auto_explain.log_format': 'json',
  'auto_explain.log_level': 'notice',
  client_min_messages: 'notice',
})
  .map(([name, value]) => `set ${name} = '${value}'`)
  .join('; ')

/** A node of a plan, as `explain (analyze, buffers, format json)` describes it. */
interface Plan {
  'Node Type': string
  'Relation Name'?: string
  'Index Name'?: string
  'Actual Rows'?: number
  'Actual Loops'?: number
  'Rows Removed by Filter'?: number
  'Rows Removed by Index Recheck'?: number
  'Shared Hit Blocks'?: number
  'Shared Read Blocks'?: number
  Plans?: Plan[]
}

const buffersOf = (plan: Plan): number => (plan['Shared Hit Blocks'] ?? 0) + (plan['Shared Read Blocks'] ?? 0)

function scansOf(plan: Plan): Scan[] {
  const below = plan.Plans?.flatMap(scansOf) ?? []
  if (!plan['Node Type'].endsWith('Scan') || !(plan['Relation Name'] ?? plan['Index Name'])) return below
  const perLoop =
    (plan['Actual Rows'] ?? 0) +
    (plan['Rows Removed by Filter'] ?? 0) +
    (plan['Rows Removed by Index Recheck'] ?? 0)
  const scan = {
    how: plan['Node Type'],
    table: plan['Relation Name'] ?? '',
    index: plan['Index Name'],
    rows: Math.round(perLoop * (plan['Actual Loops'] ?? 1)),
  }
  return [scan, ...below]
}

const textOf = ({ how, table, index, rows }: Scan) =>
  `${how}${index ? ` by ${index}` : ''} over ${table || 'its table'}, ${rows} rows`

/** The plans in short: each way in which a table was looked at, with the most rows that it read. */
function summaryOf(scans: Scan[]): string {
  const most = new Map<string, number>()
  for (const { how, table, index, rows } of scans) {
    const key = index ?? `${table} (${how})`
    most.set(key, Math.max(rows, most.get(key) ?? 0))
  }
  return [...most].map(([key, rows]) => `${key}: ${rows}`).join('\n')
}
