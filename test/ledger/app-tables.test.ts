import { randomUUID } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Database } from '../../local/postgres.ts'
import { type AppTables, readAppTables, withAppTables } from '../../supabase/app-tables.ts'
import { migrate, renew } from '../../supabase/migrate.ts'
import { migrations } from '../../supabase/migrations.ts'
import { migrationOf, SOURCES } from '../../supabase/sources.ts'
import { postgres } from '../support/database.ts'
import { functionsOn, one, stepsOn } from '../support/ledger.ts'
import {
  createMigratedOtherApp,
  createOtherApp,
  OTHER_APP_NAMES,
  WITHOUT_DEFAULT_APP,
} from '../support/other-app.ts'

const read = (yaml: string): AppTables => {
  const folder = mkdtempSync(join(tmpdir(), 'app-tables-'))
  const file = join(folder, 'app-tables.yml')
  writeFileSync(file, yaml)
  try {
    return readAppTables(file)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Connections to a database, and the database itself, for the length of a test. */
async function open(database: Database) {
  const owner = new pg.Pool({ connectionString: database.url })
  const service = new pg.Pool({
    connectionString: database.authenticatorUrl,
    options: '-c role=service_role',
  })
  for (const pool of [owner, service]) pool.on('error', () => {})
  onTestFinished(async () => {
    await Promise.all([owner.end(), service.end()])
    await database.drop()
  })
  const functions = functionsOn(service)
  const states = (event: string) =>
    one(
      owner,
      `select coalesce(jsonb_object_agg(coalesce(reason, state), n), '{}') from (
         select state, reason, count(*) as n from indexing.face_jobs where event_id = $1 group by 1, 2) by_state`,
      [event],
    )
  return { database, owner, states, ...functions, ...stepsOn(functions) }
}

/** The other app with an event that is due and attendees who have consented. */
async function openOtherApp(attendees: number) {
  const place = await open(await createMigratedOtherApp())
  const { owner } = place
  const event = await one<string>(
    owner,
    `insert into club."Gatherings" (title, "startsAt") values ('{"en": "A ball"}', now() + interval '10 minutes') returning id`,
  )
  const join = async (count: number) => {
    const users = Array.from({ length: count }, () => randomUUID() as string).sort()
    await owner.query(`insert into auth.users (id) select unnest($1::uuid[])`, [users])
    await owner.query(
      `insert into club.members ("user", avatar_key) select id, 'photos/' || id from unnest($1::uuid[]) id`,
      [users],
    )
    await owner.query(
      `insert into club.attendances (gathering_id, member, face_answer) select $1, unnest($2::uuid[]), 'granted'`,
      [event, users],
    )
    return users
  }
  const users = await join(attendees)
  const work = async () => {
    await place.processChanges()
    await place.work(await place.sendAll())
  }
  const status = () => one<string>(owner, 'select face_state from club."Gatherings" where id = $1', [event])
  const triggers = async () =>
    (
      await owner.query<{ name: string }>(
        `select distinct tgrelid::regclass::text as name from pg_trigger where tgname like 'indexing\\_%' order by 1`,
      )
    ).rows.map(({ name }) => name)
  return { ...place, event, join, users, status, triggers, finish: work }
}

describe('an app with names of its own', () => {
  it('has its events claimed, its attendees indexed and its status set', async () => {
    const { event, finish, owner, prepare, states, status, users } = await openOtherApp(5)
    await owner.query(`update club.attendances set face_answer = 'refused' where member = $1`, [users[0]])
    await owner.query(`update club.attendances set withdrawn_at = now() where member = $1`, [users[1]])
    await owner.query(`update club.members set avatar_key = null where "user" = $1`, [users[2]])
    expect(await prepare()).toEqual([event])
    expect(await status()).toBe('in_progress')
    await finish()
    expect(await states(event)).toEqual({ indexed: 2, no_photo: 1 })
    expect(await status()).toBe('completed')
    expect(await one(owner, 'select name from indexing.app_events()')).toBe('A ball')
  })

  it('has each of its changes followed', async () => {
    const { event, finish, join, owner, prepare, states, users } = await openOtherApp(6)
    await prepare()
    await finish()
    expect(await states(event)).toEqual({ indexed: 6 })
    await join(1)
    await owner.query('update club.attendances set withdrawn_at = now() where member = $1', [users[0]])
    await owner.query('delete from club.attendances where member = $1', [users[1]])
    await owner.query('delete from auth.users where id = $1', [users[2]])
    await owner.query(`update club.members set avatar_key = 'photos/another' where "user" = $1`, [users[3]])
    await owner.query('update club.members set avatar_key = avatar_key where "user" = $1', [users[4]])
    await owner.query(`update club.members set nickname = 'Somebody' where "user" = $1`, [users[5]])
    const { rows } = await owner.query(
      'select source, erases, count(*)::int as n from indexing.changes group by 1, 2 order by 1, 2',
    )
    expect(rows).toEqual([
      { source: 'consents', erases: false, n: 1 },
      { source: 'consents', erases: true, n: 3 },
      { source: 'profiles', erases: false, n: 3 }, // one of them of the member who came,
      { source: 'profiles', erases: true, n: 1 },
    ])
    await finish()
    expect(await states(event)).toEqual({ indexed: 4, no_consent: 3 })
    expect(await one(owner, `select photo_key from indexing.face_jobs where user_id = $1`, [users[3]])).toBe(
      'photos/another',
    )
  })

  it('has a cancelled event skipped, and the collection of one that it has closed deleted', async () => {
    const { collectionsDue, event, finish, owner, prepare, processChanges, states } = await openOtherApp(3)
    await prepare()
    await owner.query('update club."Gatherings" set cancelled = true')
    await finish()
    expect(await states(event)).toEqual({ event_inactive: 3 })
    await owner.query('update club."Gatherings" set archived_at = now()')
    await processChanges()
    await owner.query("update indexing.event_runs set collection_due = now() - interval '1 second'")
    expect((await collectionsDue()).delete).toEqual([event])
  })

  it('fires the triggers as a member under its row-level security', async () => {
    const { event, owner, users } = await openOtherApp(2)
    await owner.query('truncate indexing.changes')
    const member = await owner.connect()
    await member.query('begin')
    await member.query("select set_config('request.jwt.claims', $1, true)", [
      JSON.stringify({ sub: users[0] }),
    ])
    await member.query('set local role authenticated')
    await member.query("update club.attendances set face_answer = 'refused'")
    await member.query('update club.members set avatar_key = null')
    await member.query('commit')
    member.release()
    const { rows } = await owner.query(
      'select source, event_id, user_id, erases from indexing.changes order by id',
    )
    expect(rows).toEqual([
      { source: 'consents', event_id: event, user_id: users[0], erases: true },
      { source: 'profiles', event_id: null, user_id: users[0], erases: true },
    ])
  })

  it('may drop and retype what we read, and its writes go on', async () => {
    const { owner, users } = await openOtherApp(1)
    await owner.query('alter table club."Gatherings" drop column archived_at')
    await owner.query('alter table club.attendances alter column face_answer type text')
    await owner.query('truncate indexing.changes')
    await owner.query('update club."Gatherings" set cancelled = true')
    await owner.query("update club.attendances set face_answer = 'refused' where member = $1", [users[0]])
    const { rows } = await owner.query('select source, erases from indexing.changes order by id')
    expect(rows).toEqual([
      { source: 'everything', erases: true },
      { source: 'consents', erases: true },
    ])
  })

  it('keeps its names: migrations with others are refused and change nothing, those with its own pass', async () => {
    const { event, finish, owner, prepare, states, triggers } = await openOtherApp(2)
    await prepare()
    await finish()
    const adapter = migrationOf(['app'], '')
    await expect(owner.query(adapter)).rejects.toMatchObject({
      message: expect.stringMatching(/the default instead of .*events.table: "club"."Gatherings"/),
      hint: expect.stringContaining('Apply it with the app-tables.yml of this database'),
    })
    await owner.query(withAppTables(adapter, readAppTables(OTHER_APP_NAMES)))
    expect(await triggers()).toEqual(['club."Gatherings"', 'club.attendances', 'club.members'])
    expect(await states(event)).toEqual({ indexed: 2 })
  })

  it('changes its names when that is allowed, and the old tables lose their triggers', async () => {
    const { database, event, finish, owner, prepare, states, triggers } = await openOtherApp(2)
    await prepare()
    await owner.query(
      'create table club.answers as select gathering_id as evening, member as guest from club.attendances',
    )
    const names = {
      ...readAppTables(OTHER_APP_NAMES),
      'consents.table': '"club"."answers"',
      'consents.event_id': '"evening"',
      'consents.user_id': '"guest"',
      'consents.allows': 'true',
    }
    await expect(renew(database.url, { tables: names })).rejects.toThrow('other names of the app')
    await renew(database.url, { tables: names, otherNames: true })
    expect(await triggers()).toEqual(['club."Gatherings"', 'club.answers', 'club.members'])
    await owner.query('delete from club.attendances')
    await finish()
    expect(await states(event)).toEqual({ indexed: 2 })
  })

  it('is told which column cannot be read or written, and nothing is left behind', async () => {
    const database = await createOtherApp()
    const { owner } = await open(database)
    const names = readAppTables(OTHER_APP_NAMES)
    for (const [changed, message] of [
      [{ 'events.ends_at': '"endsAt"' }, 'column "endsAt" does not exist'],
      [{ 'profiles.table': '"club"."people"' }, 'there is no table "club"."people" (profiles.table)'],
      [
        { 'events.status': '"cancelled"' },
        '"cancelled" is of type boolean, and must be text, or an enum (events.status)',
      ],
    ] as const) {
      await expect(migrate(database.url, { tables: { ...names, ...changed } })).rejects.toThrow(message)
      expect(await one(owner, "select to_regnamespace('indexing')")).toBeNull()
    }
  })
})

describe('the clean-up of an app with names of its own', () => {
  async function endedGathering(place: Awaited<ReturnType<typeof open>>) {
    const { cleanup, owner, prepare, startRun } = place
    await startRun(10_000, 0, 2)
    const event = await one<string>(
      owner,
      `insert into club."Gatherings" ("startsAt", "end") values (now() - interval '3 h', now() + interval '1 h') returning id`,
    )
    await prepare()
    await owner.query(`update club."Gatherings" set "end" = now() - interval '150 min'`)
    await place.processChanges()
    return { event, cleanup }
  }

  it('is noted in the column that is named for it', async () => {
    const database = await createOtherApp()
    const changed = `"changed"`
    await migrate(database.url, {
      tables: {
        ...readAppTables(OTHER_APP_NAMES),
        'events.cleanup': changed,
        'events.closed': `(coalesce(${changed}, 'pending') <> 'pending')`,
      },
    })
    const place = await open(database)
    const { cleanup } = await endedGathering(place)
    expect(await cleanup()).toMatchObject({ closing: 1 })
    await place.processChanges()
    expect(await one(place.owner, 'select collection from indexing.event_runs')).toBe('closing')
    await place.owner.query("update indexing.event_runs set collection = 'deleted'")
    expect(await cleanup()).toMatchObject({ completed: 1 })
    expect(await one(place.owner, 'select changed from club."Gatherings"')).toBe('completed')
  })

  it('without such a column is refused, and says what to do', async () => {
    const place = await open(await createMigratedOtherApp())
    const { cleanup, event } = await endedGathering(place)
    const refusal = { code: '0A000', message: expect.stringContaining('app-tables.yml as events.cleanup') }
    await expect(cleanup()).rejects.toMatchObject(refusal)
    await expect(place.eraseEvent(event)).rejects.toMatchObject(refusal)
    expect(await one(place.owner, 'select collection from indexing.event_runs')).toBe('ready')
    await place.startRun()
    expect(await cleanup()).toMatchObject({ closing: 0 })
  })
})

describe('an app that knows neither ends, nor inactive events, nor a clean-up', () => {
  it('is served all the same', async () => {
    const database = await postgres.createDatabase()
    const place = await open(database)
    const { owner, prepare, sendAll, states, work } = place
    await owner.query(WITHOUT_DEFAULT_APP)
    await owner.query(`
      create table public.shows (id uuid primary key default gen_random_uuid(), starts_at timestamptz, faces text);
      create table public.guests (show_id uuid, person_id uuid, face text)`)
    await migrate(database.url, {
      tables: read(`
        events: { table: shows, event_id: id, name: null, ends_at: null, active: true, closed: false, status: faces }
        consents: { table: guests, event_id: show_id, user_id: person_id, allows: true }
        profiles: { table: guests, user_id: person_id, photo: face }`),
    })
    const event = await one<string>(owner, 'insert into shows (starts_at) values (now()) returning id')
    await owner.query(`insert into guests values ($1, gen_random_uuid(), 'a.jpg')`, [event])
    expect(await prepare()).toEqual([event])
    await work(await sendAll())
    expect(await states(event)).toEqual({ indexed: 1 })
    expect(await one(owner, 'select faces from shows')).toBe('completed')
    expect(
      await one(owner, `select ends_at - starts_at = interval '12 hours' from indexing.app_events()`),
    ).toBe(true)
    await owner.query('update shows set starts_at = starts_at')
    expect(await one(owner, `select count(*)::int from indexing.changes where source = 'events'`)).toBe(0)
    await owner.query("update shows set starts_at = starts_at + interval '1 hour'")
    expect(await one(owner, `select count(*)::int from indexing.changes where source = 'events'`)).toBe(1)
  })
})

describe('the check of the app’s tables and the diagnosis', () => {
  it('have the names that the adapter has', () => {
    const factsIn = (...files: string[]) =>
      new Set(
        files.flatMap((file) => {
          const source = readFileSync(new URL(`../../supabase/source/${file}.sql`, import.meta.url), 'utf8')
          return [...source.matchAll(/\{([a-z]+\.\w+)\}/g)].map(([, name]) => name)
        }),
      )
    const adapter = factsIn('app')
    adapter.delete('profiles.photo_columns')
    expect(factsIn('fit', 'doctor')).toEqual(adapter)
  })
})

describe('app-tables.yml', () => {
  it.each([
    ['an unknown table', 'people: { table: a }', /people/],
    ['an unknown fact', 'events: { start: begins_at }', /start/],
    ['a table that is none', 'events: { table: a.b.c }', /events.table: must be a table/],
    [
      'a status that is no column',
      'events: { status: a || b }',
      /events.status: must be the name of a column/,
    ],
    [
      'more than one expression',
      "consents: { allows: 'true; drop table a' }",
      /consents.allows: must be one SQL/,
    ],
    ['an open parenthesis', 'consents: { allows: (a }', /consents.allows: must be one SQL/],
    ['an open quote', `consents: { allows: "a = 'b" }`, /consents.allows: must be one SQL/],
    ['a comment', 'consents: { allows: a /* b */ }', /consents.allows: must be one SQL/],
    ['an event without a start', 'events: { starts_at: null }', /events.starts_at/],
    [
      'a photo of several columns',
      'profiles: { photo: "coalesce(a, b)" }',
      /profiles.photo_columns: must list/,
    ],
  ])('is refused with %s, by name', (_, yaml, message) => {
    expect(() => read(yaml)).toThrow(message)
  })

  it('takes names as they are written, also reserved words and capitals', () => {
    expect(
      read(`
        events: { table: Gatherings, starts_at: startsAt, ends_at: end, active: NOT "isCancelled" }
        profiles: { user_id: user, photo: 'coalesce(a, b)', photo_columns: [a, b] }`),
    ).toEqual({
      'events.table': '"public"."Gatherings"',
      'events.starts_at': '"startsAt"',
      'events.ends_at': '"end"',
      'events.active': '(NOT "isCancelled")',
      'profiles.user_id': '"user"',
      'profiles.photo': '(coalesce(a, b))',
      'profiles.photo_columns': '"a", "b"',
    })
  })

  it('replaces every name of the default, and is the default where it is empty', () => {
    const all = migrations()
    expect(migrations(read(''))).toEqual(all)
    const names = readAppTables(OTHER_APP_NAMES)
    for (const { name, sql } of migrations(names)) {
      const code = sql.replaceAll(/--.*/g, '')
      expect(code, name).not.toMatch(
        /allow_recognition|cleanup_status|indexing_status|event_consents|is_active|public\.(events|profiles)/,
      )
    }
  })

  it('has in the documentation the names of the default', () => {
    const page = readFileSync(new URL('../../docs/your-tables.md', import.meta.url), 'utf8')
    const [, listing = ''] = /```yaml\n(# The default.*?)```/s.exec(page) ?? []
    const listed = Object.entries(read(listing))
    const adapter = migrationOf([...SOURCES], '')
    const marked = [...adapter.matchAll(/\/\*='?([a-z]+\.\w+)'?\*\/(.*?)\/\*=\*\//g)]
    const plain = (text = '') => text.replaceAll(/["'()]/g, '')
    for (const [, name, text] of marked) {
      expect([name, plain(listed.find(([key]) => key === name)?.[1])]).toEqual([name, plain(text)])
    }
    expect(new Set(marked.map(([, name]) => name))).toEqual(new Set(listed.map(([name]) => name)))
  })
})
