import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { describe, expect, it, onTestFinished } from 'vitest'
import { installedOn, migrate, uninstall } from '../../supabase/migrate.ts'
import { migrationNames, migrations } from '../../supabase/migrations.ts'
import { postgres } from '../support/database.ts'
import { startCli } from '../support/operator.ts'
import { createOtherApp, OTHER_APP_NAMES } from '../support/other-app.ts'

const NAMES = migrationNames()
const HISTORY = 'select version, name, statements from supabase_migrations.schema_migrations order by version'

/** A database with a connection of its owner, for the length of a test. */
async function open(database: Awaited<ReturnType<typeof postgres.createDatabase>>) {
  const owner = new pg.Client(database.url)
  owner.on('error', () => {}) // the database is dropped under it
  await owner.connect()
  onTestFinished(async () => {
    await owner.end()
    await database.drop()
  })
  const rows = async (sql: string) => (await owner.query(sql)).rows
  const run = (...args: string[]) => startCli(args, { DATABASE_URL: database.url }).ended
  return { url: database.url, owner, rows, run }
}

/** A database with the app's tables and nothing of ours. */
async function openApp() {
  const database = await postgres.createDatabase()
  await uninstall(database.url)
  const opened = await open(database)
  await opened.owner.query('drop schema supabase_migrations cascade')
  return opened
}

/** Schemas that the app's database has not by itself. */
const OURS =
  "select nspname from pg_namespace where nspname in ('indexing', 'supabase_migrations') order by 1"

describe('event-indexer migrate', () => {
  it('applies each migration once, in order, and records it as the Supabase CLI does', async () => {
    const { owner, rows, run } = await openApp()
    const first = await run('migrate')
    expect(first).toMatchObject({ code: 0, error: '' })
    expect(first.out.match(/(?<=^applied ).*$/gm)).toEqual(NAMES)
    const history = await rows(HISTORY)
    expect(history).toEqual(
      migrations().map(({ name, sql }) => ({
        version: name.slice(0, 14),
        name: name.slice(15, -4),
        statements: [sql],
      })),
    )
    expect(await rows('select public.indexing_schema_version() as version')).toEqual([{ version: 1 }])

    await owner.query('insert into indexing.changes (source) values ($1)', ['everything'])
    const second = await run('migrate')
    expect(second).toMatchObject({ code: 0, error: '' })
    expect(second.out).toContain('Nothing to apply: the database has every migration.')
    expect(await rows('select source from indexing.changes')).toEqual([{ source: 'everything' }])
    expect(await rows(HISTORY)).toEqual(history)
  })

  it('tells with --dry-run what it would apply, and changes nothing', async () => {
    const { rows, run } = await openApp()
    const { code, out } = await run('migrate', '--dry-run')
    expect(code).toBe(0)
    expect(out.match(/(?<=^would apply ).*$/gm)).toEqual(NAMES)
    expect(await rows(OURS)).toEqual([])
  })

  it('may run several times at once', async () => {
    const { rows, run } = await openApp()
    const both = await Promise.all([run('migrate'), run('migrate'), run('migrate')])
    expect(both.map(({ code, error }) => [code, error])).toEqual([
      [0, ''],
      [0, ''],
      [0, ''],
    ])
    const applied = both.flatMap(({ out }) => out.match(/(?<=^applied ).*$/gm) ?? [])
    expect(applied.sort()).toEqual(NAMES)
    expect(await rows(HISTORY)).toHaveLength(NAMES.length)
  })

  it('stops at the first that fails, names file and line, keeps those before, and goes on from there', async () => {
    const { owner, rows, run } = await openApp()
    await owner.query(
      "create function public.indexing_schema_version() returns text language sql as $$ select '' $$",
    )
    const failed = await run('migrate')
    expect(failed.code).toBe(2)
    expect(failed.error).toMatch(
      new RegExp(`^${NAMES[1]}(:\\d+)?: cannot change return type of existing function`),
    )
    expect(failed.out.match(/(?<=^applied ).*$/gm)).toEqual(NAMES.slice(0, 1))
    expect(await rows(HISTORY)).toHaveLength(1)
    expect(await rows("select to_regprocedure('indexing.app_events()') as f")).toEqual([{ f: null }])

    await owner.query('drop function public.indexing_schema_version')
    const mended = await run('migrate')
    expect(mended.out.match(/(?<=^applied ).*$/gm)).toEqual(NAMES.slice(1))
    expect(mended.code).toBe(0)
  })

  it.each([
    [
      'a table that is not there',
      'alter table events rename to gatherings',
      ['there is no table public.events (events.table)'],
    ],
    [
      'columns that are not there',
      'alter table profiles drop column photo_path; alter table event_consents rename user_id to attendee',
      [
        'public.profiles: column "photo_path" does not exist; it must be text (profiles.photo)',
        'public.event_consents: column "user_id" does not exist; it must be uuid (consents.user_id)',
      ],
    ],
    [
      'columns of other types',
      `alter table events alter starts_at type text;
       alter table event_consents alter allow_recognition drop default, alter allow_recognition type integer using 0`,
      [
        'public.events: starts_at is of type text, and must be timestamp with time zone (events.starts_at)',
        'public.event_consents: allow_recognition is of type integer, and must be boolean (consents.allows)',
      ],
    ],
    [
      'an enum without our words',
      `create type mood as enum ('pending', 'failed');
       alter table events alter indexing_status drop default, alter indexing_status type mood using null`,
      [
        "public.events: the enum public.mood of indexing_status has no value 'in_progress' (events.status)",
        "public.events: the enum public.mood of indexing_status has no value 'completed' (events.status)",
      ],
    ],
  ])('refuses %s, by name, before it changes anything', async (_, change, misfits) => {
    const { owner, rows, run } = await openApp()
    await owner.query(change)
    for (const args of [['migrate', '--dry-run'], ['migrate']]) {
      const { code, error } = await run(...args)
      expect(code).toBe(2)
      for (const misfit of misfits) expect(error).toContain(`  ${misfit}\n`)
    }
    expect(await rows(OURS)).toEqual([])
  })

  it('waits for a transaction of the app in short tries, and no write of the app queues behind it', async () => {
    const { owner, rows, run, url } = await openApp()
    const app = new pg.Client(url)
    app.on('error', () => {})
    await app.connect()
    onTestFinished(() => app.end())
    await app.query(
      "begin; update event_consents set allow_recognition = false; update profiles set full_name = 'Held'",
    )
    const applying = run('migrate')
    const began = performance.now()
    let longest = 0
    while (performance.now() - began < 4_000) {
      const before = performance.now()
      await owner.query(
        "update events set name = 'Still writing'; update event_consents set allow_recognition = true",
      )
      longest = Math.max(longest, performance.now() - before)
    }
    expect(longest).toBeLessThan(2_000)
    const triggers = "select from pg_trigger where tgname like 'indexing%'"
    expect(await rows(triggers)).toEqual([])
    await app.query('commit')
    expect(await applying).toMatchObject({ code: 0 })
    expect((await rows(triggers)).length).toBeGreaterThan(8)
  })

  it('refuses a role from which row-level security hides rows, or that may not make triggers', async () => {
    const { owner, url } = await openApp()
    const role = `guest_${Date.now()}`
    await owner.query(
      `create role ${role} login password 'secret-of-the-guest'; grant create on database ${new URL(url).pathname.slice(1)} to ${role}; grant ${role} to postgres`,
    )
    const asGuest = new URL(url)
    Object.assign(asGuest, { username: role, password: 'secret-of-the-guest' })
    const { code, error } = await startCli(['migrate'], { DATABASE_URL: asGuest.href }).ended
    await owner.query(
      `revoke all on database ${new URL(url).pathname.slice(1)} from ${role}; drop role ${role}`,
    )
    expect(code).toBe(2)
    expect(error).toContain(`public.events: the role ${role} has no right to TRIGGER`)
    expect(error).not.toContain('secret-of-the-guest')
  })

  it('applies no file again that the Supabase CLI has applied', async () => {
    const { owner, rows, run } = await openApp()
    await owner.query(`
      create schema supabase_migrations;
      create table supabase_migrations.schema_migrations (version text not null primary key, statements text[], name text)`)
    for (const { name, sql } of migrations()) {
      await owner.query(sql)
      await owner.query('insert into supabase_migrations.schema_migrations values ($1, $2, $3)', [
        name.slice(0, 14),
        ['create schema if not exists indexing', 'taken apart'],
        name.slice(15, -4),
      ])
    }
    await owner.query("insert into supabase_migrations.schema_migrations values ('013', null, 'of_the_app')")
    const { code, out } = await run('migrate')
    expect([code, out]).toEqual([0, expect.stringContaining('Nothing to apply')])
    expect(await rows(HISTORY)).toHaveLength(NAMES.length + 1)
  })

  it('goes on with a history of an old Supabase CLI, which has versions alone', async () => {
    const { owner, rows, run } = await openApp()
    await owner.query(`
      create schema supabase_migrations;
      create table supabase_migrations.schema_migrations (version text not null primary key);
      insert into supabase_migrations.schema_migrations values ('001')`)
    expect((await run('migrate')).code).toBe(0)
    expect((await rows(HISTORY)).map(({ name }) => name)).toEqual([
      null,
      ...NAMES.map((name) => name.slice(15, -4)),
    ])
  })

  it('refuses a file that was edited since it was applied, and another under its version', async () => {
    const { owner, rows, run } = await openApp()
    await run('migrate')
    const change = (what: string) =>
      owner.query(`update supabase_migrations.schema_migrations set ${what} where name like '%tables'`)
    await change("statements = array['-- another text' || E'\\n']")
    const edited = await run('migrate')
    expect([edited.code, edited.error]).toEqual([
      2,
      expect.stringContaining(`${NAMES[0]} was edited since it was applied to this database.`),
    ])
    await owner.query(
      "update supabase_migrations.schema_migrations set name = 'of_the_app' where name like '%tables'",
    )
    const other = await run('migrate')
    expect([other.code, other.error]).toEqual([2, expect.stringContaining('of_the_app')])
    expect(await rows('select count(*)::int as n from indexing.face_jobs')).toEqual([{ n: 0 }])
  })

  it('brings back with --again what was dropped, disabled or replaced by hand', async () => {
    const { owner, rows, run } = await openApp()
    const early = await run('migrate', '--again')
    expect([early.code, early.error]).toEqual([
      2,
      expect.stringContaining('does not have every migration of this release'),
    ])
    await run('migrate')
    const ours = () =>
      rows(`select tgname, tgrelid::regclass::text as on, tgenabled::text as state from pg_trigger where tgname like 'indexing%'
        union all select oid::regprocedure::text, md5(prosrc), proacl::text from pg_proc where proname like 'indexing\\_%' order by 1, 2`)
    const before = await ours()
    await owner.query(`
      drop trigger indexing_profiles_updated on profiles;
      alter table event_consents disable trigger indexing_consents_updated;
      grant execute on function public.indexing_pause to anon;
      create or replace function public.indexing_schema_version() returns integer language sql as 'select 99'`)
    expect(await ours()).not.toEqual(before)
    expect(await run('migrate', '--again')).toMatchObject({ code: 0, error: '' })
    expect(await ours()).toEqual(before)
  })

  it('refuses a database whose tables were made by other means', async () => {
    const { owner, run } = await openApp()
    for (const { sql } of migrations()) await owner.query(sql)
    const { code, error } = await run('migrate')
    expect([code, error]).toEqual([2, expect.stringContaining('supabase migration repair --status applied')])
  })

  it('takes other names of the app’s tables from a file', async () => {
    const { rows, run } = await open(await createOtherApp())
    const without = await run('migrate')
    expect([without.code, without.error]).toEqual([
      2,
      expect.stringContaining('there is no table public.events'),
    ])
    const names = fileURLToPath(OTHER_APP_NAMES)
    expect(await run('migrate', '--app-tables', names)).toMatchObject({ code: 0, error: '' })
    expect(
      await rows('select count(*)::int as triggers from pg_trigger where tgname like $$indexing%$$'),
    ).toEqual([{ triggers: 12 }])
    const again = await run('migrate')
    expect([again.code, again.out]).toEqual([0, expect.stringContaining('Nothing to apply')])
  })

  it('says what is wrong with a connection, and never its password', async () => {
    const { url } = await openApp()
    const wrong = new URL(url)
    wrong.password = 'not-the-password'
    for (const [given, code, said] of [
      [undefined, 1, 'No database is named.'],
      ['https://abc.supabase.co', 1, 'DATABASE_URL is not a connection string'],
      ['postgresql://postgres:not-the-password@127.0.0.1:1/app', 3, 'No answer from 127.0.0.1:1/app'],
      [wrong.href, 3, 'does not let us in: password authentication failed'],
    ] as const) {
      const ended = await startCli(['migrate'], { DATABASE_URL: given }).ended
      expect([ended.code, ended.error]).toEqual([code, expect.stringContaining(said)])
      expect(ended.out + ended.error).not.toContain('not-the-password')
    }
  })
})

/** The app's tables: every row, and what watches over them. */
const APP = `
  select jsonb_build_array(
    (select jsonb_agg(e order by event_id) from events e), (select jsonb_agg(c order by user_id) from event_consents c),
    (select jsonb_agg(p order by user_id) from profiles p),
    (select count(*) from pg_policies where schemaname = 'public')
  ) as everything`

describe('event-indexer uninstall', () => {
  const PEOPLE = `
    insert into auth.users (id) select ('00000000-0000-4000-8000-00000000000' || n)::uuid from generate_series(1, 3) n;
    insert into profiles (user_id, full_name, photo_path) select id, 'Somebody', 'photos/' || id from auth.users;
    insert into events (event_id, name, starts_at) values ('10000000-0000-4000-8000-000000000000', 'Party', now());
    insert into event_consents (event_id, user_id, allow_recognition) select event_id, id, true from events, auth.users`

  it('tells what it would remove; with --yes removes all of it and nothing of the app; migrate installs anew', async () => {
    const { owner, rows, run } = await open(await postgres.createDatabase())
    await owner.query(PEOPLE)
    await owner.query("select public.indexing_claim(20); update indexing.event_runs set collection = 'ready'")
    const before = await rows(APP)
    expect(before[0].everything[0][0].indexing_status).toBe('in_progress')

    const preview = await run('uninstall')
    expect(preview).toMatchObject({ code: 1, error: '' })
    for (const line of [
      'What would be removed:',
      '  4 triggers of event_consents',
      '  5 triggers of profiles',
      '  3 triggers of events',
      '  indexing.event_runs, 1 row',
      `  the entry ${NAMES[0]?.slice(0, -4)} of supabase_migrations.schema_migrations`,
      '1 collection of events may hold faces.',
      '  10000000-0000-4000-8000-000000000000',
      'Nothing was removed.',
    ])
      expect(preview.out).toContain(line)
    expect(await rows('select count(*)::int as runs from indexing.event_runs')).toEqual([{ runs: 1 }])

    const removed = await run('uninstall', '--yes')
    expect(removed).toMatchObject({ code: 0, error: '' })
    expect(await rows(APP)).toEqual(before)
    expect(
      await rows(`
        select proname as left from pg_proc where proname like 'indexing\\_%' union all
        select tgname from pg_trigger where tgname like 'indexing%' union all
        select nspname from pg_namespace where nspname = 'indexing' union all
        select name from supabase_migrations.schema_migrations`),
    ).toEqual([])
    await owner.query(`
      update profiles set photo_path = 'another'; update events set ends_at = now();
      update event_consents set allow_recognition = false; delete from auth.users; truncate event_consents`)

    expect(await run('migrate')).toMatchObject({ code: 0, error: '' })
    await owner.query("insert into events (name, starts_at) values ('Next', now())")
    expect(await rows("select jsonb_array_length(public.indexing_claim(20) -> 'events') as claimed")).toEqual(
      [{ claimed: 1 }],
    )
  })

  it('waits for a transaction of the app in short tries, and the app does not wait for it', async () => {
    const { owner, rows, run, url } = await open(await postgres.createDatabase())
    await owner.query(PEOPLE)
    const app = new pg.Client(url)
    app.on('error', () => {})
    await app.connect()
    onTestFinished(() => app.end())
    await app.query("begin; update profiles set full_name = 'Held'")
    const removing = run('uninstall', '--yes')
    await app.query("set lock_timeout = '5s'")
    for (let write = 0; write < 20; write++)
      await owner.query("set lock_timeout = '5s'; update events set name = 'Still writing'")
    await app.query('commit')
    expect(await removing).toMatchObject({ code: 0, error: '' })
    expect(await rows("select to_regnamespace('indexing') as schema")).toEqual([{ schema: null }])
    expect(await rows('select distinct full_name from profiles')).toEqual([{ full_name: 'Held' }])
  })

  it('says that nothing is installed where nothing is', async () => {
    const { run, url } = await openApp()
    expect(await installedOn(url)).toBeNull()
    for (const args of [['uninstall'], ['uninstall', '--yes']]) {
      const { code, out } = await run(...args)
      expect([code, out]).toEqual([
        1,
        expect.stringContaining('Nothing of the event indexer is in this database.'),
      ])
    }
  })
})

it('--version is that of the package, and loads no command', async () => {
  const { code, out } = await startCli(['--version'], {}).ended
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  expect([code, out]).toEqual([0, `${version}\n`])
})

it('migrate is what the local system and the tests are made with', async () => {
  const { url } = await openApp()
  expect(await migrate(url)).toEqual(NAMES)
  expect(await migrate(url)).toEqual([])
})
