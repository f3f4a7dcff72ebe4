import pg from 'pg'
import { describe, expect, it, onTestFinished } from 'vitest'
import { JOB_STATES, RUN_STATES } from '../../src/core/contract.ts'
import { migrate, runMigration } from '../../supabase/migrate.ts'
import { migrations } from '../../supabase/migrations.ts'
import { releasedFiles } from '../../supabase/write-migration.ts'
import { postgres } from '../support/database.ts'
import { functionsOn, one, openLedger } from '../support/ledger.ts'
import { WITHOUT_US } from '../support/other-app.ts'

const NONE = { sql: '' }
const [{ sql: TABLES } = NONE, { sql: FUNCTIONS } = NONE, ...LATER] = migrations()
/** What the last release consists of; before the first one, all that it will. */
const released = Object.keys(releasedFiles())
const RELEASED = migrations().filter(({ name }) => released.length === 0 || released.includes(name))

/** A text with another in a place that must be there. */
function edited(text: string, edits: [string, string][]): string {
  let result = text
  for (const [from, to] of edits) {
    expect(result).toContain(from)
    result = result.replace(from, to)
  }
  return result
}

// A release that there never was: another column, its index, a function of the API that is gone, one whose arguments were others, a trigger.
const OLDER_TABLES = edited(TABLES, [
  [
    '  look_again_at     timestamptz,                -- an ended job is queued again then\n',
    '  second_look       boolean not null default false,\n',
  ],
  [
    'create index face_jobs_look_again on indexing.face_jobs (look_again_at) where look_again_at is not null;',
    'create index face_jobs_second_look on indexing.face_jobs (user_id) where second_look;',
  ],
])
const OLDER_FUNCTIONS = `
  set local check_function_bodies = off;
  ${FUNCTIONS}
  create function public.indexing_sweep() returns integer language sql as 'select 1';
  create function indexing.lying(in_urgent boolean) returns integer language sql as 'select 1';
  create trigger indexing_consents_swept after insert on public.event_consents
    for each statement execute function indexing.on_truncate();`

const STEPS = [
  'alter table indexing.face_jobs add column look_again_at timestamptz;',
  'alter table indexing.face_jobs drop column second_look;',
  'create index face_jobs_look_again on indexing.face_jobs (look_again_at) where look_again_at is not null;',
  'drop function public.indexing_sweep();',
  'drop function indexing.lying(boolean);',
  'drop trigger indexing_consents_swept on public.event_consents;',
]

/** A database with the app alone. */
async function withoutUs() {
  const database = await postgres.createDatabase()
  const owner = new pg.Pool({ connectionString: database.url })
  owner.on('error', () => {}) // the database was dropped
  onTestFinished(async () => {
    await owner.end()
    await database.drop()
  })
  await owner.query(WITHOUT_US)
  return { database, owner }
}

/** An event run in each state, each with a job in each state. */
async function fill(owner: pg.Pool): Promise<void> {
  for (const state of RUN_STATES)
    await owner.query(
      `with made as (
         insert into public.events (starts_at, indexing_status) values (now() + interval '1 hour', $1::text::public.event_processing_status)
         returning event_id, starts_at
       )
       insert into indexing.event_runs (event_id, starts_at, ends_at, state, collection, fanned_out_at, settled_at)
       select event_id, starts_at, starts_at + interval '4 hours', $1::text, 'ready', now(), case when $1::text <> 'in_progress' then now() end from made`,
      [state],
    )
  for (const state of JOB_STATES)
    await owner.query(
      `insert into indexing.face_jobs (event_id, user_id, state, priority, starts_at, face_id, lease_token, lease_until, leased_version, sent_at, ended_at)
       select event_id, gen_random_uuid(), $1::text, 1, starts_at,
         case when $1 = 'indexed' then 'a face' end,
         case when $1 = 'running' then gen_random_uuid() end, case when $1 = 'running' then now() - interval '1 minute' end,
         case when $1 = 'running' then 1 end, case when $1 = 'sent' then now() end,
         case when $1 not in ('queued', 'sent', 'running') then now() end
       from indexing.event_runs`,
      [state],
    )
}

/** The jobs, by what both releases know of them. */
const rowsOf = (owner: pg.Pool) =>
  one<unknown[]>(
    owner,
    `select jsonb_agg(to_jsonb(j) - 'second_look' - 'look_again_at' order by event_id, user_id) from indexing.face_jobs j`,
  )

/** A database with the older release and rows in every state. */
async function olderRelease() {
  const { database, owner } = await withoutUs()
  await runMigration(database.url, { name: 'older tables', sql: OLDER_TABLES })
  await runMigration(database.url, { name: 'older functions', sql: OLDER_FUNCTIONS })
  await fill(owner)
  await owner.query('update indexing.face_jobs set second_look = true')
  return { database, owner, rows: () => rowsOf(owner) }
}

/** From the older release to the first that was, and on to the present. */
async function upgrade(url: string, steps: string[]): Promise<void> {
  await runMigration(url, { name: 'upgrade', sql: `${steps.join('\n')}\n${FUNCTIONS}` })
  for (const file of LATER) await runMigration(url, file)
}

/** Everything of ours in a database, but its rows: each with what makes it what it is. */
async function catalog(owner: pg.Pool): Promise<Record<string, string>> {
  const { rows } = await owner.query<{ what: string; is: string }>(`
    with ours as (
      select c.oid, c.relname, c.relacl, c.relrowsecurity from pg_class c where c.relnamespace = 'indexing'::regnamespace and c.relkind = 'r'
    )
    select 'function ' || p.oid::regprocedure as what,
      concat_ws(' ', pg_get_function_result(p.oid), p.prosecdef, p.provolatile, p.proconfig, p.proacl, md5(p.prosrc)) as is
    from pg_proc p where p.pronamespace = 'indexing'::regnamespace or (p.pronamespace = 'public'::regnamespace and p.proname like 'indexing\\_%')
    union all select 'table ' || relname, concat_ws(' ', relacl, relrowsecurity) from ours
    union all select 'column ' || relname || '.' || a.attname,
      concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, pg_get_expr(d.adbin, d.adrelid))
    from ours join pg_attribute a on a.attrelid = ours.oid and a.attnum > 0 and not a.attisdropped
      left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    union all select 'constraint ' || relname || '.' || k.conname, pg_get_constraintdef(k.oid) from ours join pg_constraint k on k.conrelid = ours.oid
    union all select 'index ' || i.indexrelid::regclass, pg_get_indexdef(i.indexrelid) from ours join pg_index i on i.indrelid = ours.oid
    union all select 'trigger ' || t.tgrelid::regclass || '.' || t.tgname, pg_get_triggerdef(t.oid)
    from pg_trigger t join pg_proc f on f.oid = t.tgfoid where f.pronamespace = 'indexing'::regnamespace`)
  return Object.fromEntries(rows.map(({ what, is }) => [what, is]))
}

describe('an upgrade from an older release', () => {
  it('ends with the catalog of a new installation: no overload, index, column or trigger is left behind', async () => {
    const { owner: fresh } = await openLedger()
    const { database, owner } = await olderRelease()
    await upgrade(database.url, STEPS)
    expect(await catalog(owner)).toEqual(await catalog(fresh))
  })

  it.each(STEPS.slice(1))('is found incomplete without %j', async (step) => {
    const { owner: fresh } = await openLedger()
    const { database, owner } = await olderRelease()
    await upgrade(
      database.url,
      STEPS.filter((other) => other !== step),
    )
    expect(await catalog(owner)).not.toEqual(await catalog(fresh))
  })

  it('keeps every row in every state, and the ledger goes on from there', async () => {
    const { database, owner, rows } = await olderRelease()
    const before = await rows()
    expect(before).toHaveLength(JOB_STATES.length * RUN_STATES.length)
    await upgrade(database.url, STEPS)
    expect(await rows()).toMatchObject(before)

    const { rescue, takeSendBatch } = functionsOn(owner)
    expect(await rescue()).toMatchObject({ jobs: RUN_STATES.length, failed: 0 }) // the workers whose leases have run out
    expect((await takeSendBatch({})).jobs).toHaveLength(2 * RUN_STATES.length)
  })

  it('that fails changes nothing', async () => {
    const { database, owner, rows } = await olderRelease()
    const before = { catalog: await catalog(owner), rows: await rows() }
    await expect(upgrade(database.url, [...STEPS, 'select 1 / 0;'])).rejects.toThrow('division by zero')
    expect({ catalog: await catalog(owner), rows: await rows() }).toEqual(before)
  })
})

describe('an upgrade from the last release', () => {
  it('ends with the catalog of a new installation, keeps every row, and the ledger goes on from there', async () => {
    const { owner: fresh } = await openLedger()
    const { database, owner } = await withoutUs()
    await migrate(database.url, { files: RELEASED })
    await fill(owner)
    const before = await rowsOf(owner)
    expect(before).toHaveLength(JOB_STATES.length * RUN_STATES.length)

    expect(await migrate(database.url)).toEqual(
      migrations().flatMap(({ name }) => (RELEASED.some((file) => file.name === name) ? [] : [name])),
    )
    expect(await catalog(owner)).toEqual(await catalog(fresh))
    expect(await rowsOf(owner)).toMatchObject(before)
    expect(await functionsOn(owner).rescue()).toMatchObject({ jobs: RUN_STATES.length, failed: 0 })
  })
})

describe('the migrations', () => {
  it('end with the same catalog for an app that has been there for longer', async () => {
    const { owner: fresh } = await openLedger()
    const { database, owner } = await withoutUs()
    await migrate(database.url)
    expect(await catalog(owner)).toEqual(await catalog(fresh))
  })
})
