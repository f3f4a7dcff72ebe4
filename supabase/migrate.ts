/**
 * Applies the migrations to a database and removes them again, for `event-indexer migrate` and `uninstall` and for the local system.
 * What is applied is recorded in supabase_migrations.schema_migrations as the command line of Supabase does it, so that both can be
 * used on one database.
 */
import { readFileSync } from 'node:fs'
import pg from 'pg'
import { type AppTables, withAppTables, withMarks, withoutAppTables } from './app-tables.ts'
import { type Migration, migrations } from './migrations.ts'
import { migrationOf, SOURCES } from './sources.ts'

/** Why migrations were not applied, or not all of them, in words that say what to do. */
export class MigrationError extends Error {
  override name = 'MigrationError'
}

/** An applied migration as the history has it; `statements` is null or empty where it was only marked as applied. */
interface Entry {
  version: string
  name: string | null
  statements: string[] | null
}

export interface MigrateOptions {
  /** The app's names, unless they are the default's. */
  tables?: AppTables
  /** The migrations; those of supabase/migrations unless given. */
  files?: Migration[]
  /** Called after each that was applied, with the name of its file. */
  onApplied?: (name: string) => void
}

// Chosen once, at random: of the lock that all who migrate take.
const LOCK = '7306913824410231'
const LOCK_SECONDS = 120

/** As the command line of Supabase makes it. */
const HISTORY = `
  create schema if not exists supabase_migrations;
  create table if not exists supabase_migrations.schema_migrations (version text not null primary key);
  alter table supabase_migrations.schema_migrations add column if not exists statements text[];
  alter table supabase_migrations.schema_migrations add column if not exists name text`

/**
 * Applies the migrations that the database does not have, in the order of their names, each with its entry in the history in one
 * transaction. Of several who do so at once, one applies each. Works through a connection pooler, too.
 * @param url of a database with the app's schema, as its owner
 * @returns the names of the files that were applied, by this call
 * @throws {MigrationError} when the app's tables do not fit, the history is another one, or a migration fails; those before it stay
 */
export const migrate = (url: string, options: MigrateOptions = {}): Promise<string[]> =>
  withClient(url, async (client) => {
    const applied: string[] = []
    for (const file of await pendingOn(client, options)) {
      if (!(await applyOnce(client, file))) continue // somebody else was first
      applied.push(file.name)
      options.onApplied?.(file.name)
    }
    return applied
  })

/**
 * The names of the files that `migrate` would apply. Changes nothing.
 * @throws {MigrationError} as `migrate`, for all that can be seen before
 */
export const pendingMigrations = (url: string, options: MigrateOptions = {}): Promise<string[]> =>
  withClient(url, async (client) => (await pendingOn(client, options)).map(({ name }) => name))

async function pendingOn(
  client: pg.Client,
  { tables = {}, files = migrations(tables) }: MigrateOptions,
): Promise<Migration[]> {
  // Before the history: both come in one transaction of somebody who migrates at this moment.
  const isThere = (await one(client, "select to_regnamespace('indexing')")) !== null
  const history = await readHistory(client)
  const pending = files.filter((file) => !isApplied(file, history))
  if (pending.length === 0) return []
  if (pending.length === files.length && isThere)
    throw new MigrationError(
      'The schema "indexing" is there, but the history of migrations knows none of ours: it was applied by other means. Record them with "supabase migration repair --status applied", or remove all with "event-indexer uninstall", and migrate again. Nothing was changed.',
    )
  await requireFit(client, tables)
  return pending
}

async function requireFit(client: pg.Client, tables: AppTables): Promise<void> {
  const misfits = await misfitsOf(client, tables)
  if (misfits.length > 0)
    throw new MigrationError(
      `The app's tables do not fit:\n${misfits.map((misfit) => `  ${misfit}`).join('\n')}\nNothing was changed. Other names are given in app-tables.yml: see docs/your-tables.md.`,
    )
}

/**
 * Writes all functions and triggers anew, as this release has them, into a database that has every migration: what was dropped, replaced or
 * disabled by hand comes back.
 * @param otherNames whether the app's tables may have other names than before
 * @throws {MigrationError} when a migration is missing, or the app's tables do not fit; then nothing is changed
 */
export const renew = (
  url: string,
  { tables = {}, otherNames = false }: { tables?: AppTables; otherNames?: boolean } = {},
): Promise<void> =>
  withClient(url, async (client) => {
    if ((await pendingOn(client, { tables })).length > 0)
      throw new MigrationError(
        'The database does not have every migration of this release: apply them first, with "event-indexer migrate". Nothing was changed.',
      )
    await requireFit(client, tables)
    if (otherNames) await client.query("set indexing.other_names = 'yes'")
    const file = {
      name: 'all functions and triggers',
      sql: withAppTables(migrationOf([...SOURCES], ''), tables),
    }
    await client.query(file.sql).catch((error) => {
      throw failureOf(file, error)
    })
  })

/** The version, and the name that the history has: `20261126000001` and `event_indexer_tables`. */
function versionOf({ name }: Migration): { version: string; title: string } {
  const [, version = '', title = ''] = /^(\d+)_(.*)\.sql$/.exec(name) ?? []
  return { version, title }
}

/** @throws {MigrationError} when the history has another migration under its version, or another text of it */
function isApplied(file: Migration, history: Entry[]): boolean {
  const { version, title } = versionOf(file)
  const entry = history.find((each) => each.version === version)
  if (!entry) return false
  if (entry.name !== null && entry.name !== '' && entry.name !== title)
    throw new MigrationError(
      `The database has applied another migration with the version of ${file.name}: ${version}, ${entry.name}. Nothing was changed.`,
    )
  // Recorded by us: the command line of Supabase takes a file apart, and each statement ends without a line break.
  const [text, ...more] = entry.statements ?? []
  const isWhole = more.length === 0 && text?.endsWith('\n')
  if (isWhole && withoutAppTables(text ?? '') !== withoutAppTables(file.sql))
    throw new MigrationError(
      `${file.name} was edited since it was applied to this database. An applied migration is never applied again: undo the edit, and make the change in a new file. Nothing was changed.`,
    )
  return true
}

async function readHistory(client: pg.Client): Promise<Entry[]> {
  if ((await one(client, "select to_regclass('supabase_migrations.schema_migrations')")) === null) return []
  const { rows } = await client.query<{ entry: Entry }>(
    'select to_jsonb(m) as entry from supabase_migrations.schema_migrations m', // an old one has the version alone
  )
  return rows.map(({ entry }) => ({
    version: entry.version,
    name: entry.name ?? null,
    statements: entry.statements ?? null,
  }))
}

/** What of the app's tables does not fit, asked by a function that is gone afterwards. */
async function misfitsOf(client: pg.Client, tables: AppTables): Promise<string[]> {
  const source = readFileSync(new URL('source/fit.sql', import.meta.url), 'utf8')
  const temporary = withAppTables(withMarks(source), tables).replaceAll(
    'indexing.app_misfits',
    'pg_temp.app_misfits',
  )
  await client.query('begin')
  try {
    await client.query(temporary)
    return (await one(client, 'select pg_temp.app_misfits()')) as string[]
  } finally {
    await client.query('rollback')
  }
}

/** Applies a migration unless it has been applied meanwhile; returns whether it did. */
async function applyOnce(client: pg.Client, file: Migration): Promise<boolean> {
  await client.query('begin')
  try {
    await client.query(`set local lock_timeout = '${LOCK_SECONDS}s'`)
    await client.query(`select pg_advisory_xact_lock(${LOCK})`)
    // Unlike the lock of a table, that one does not make a session notice the schemas that others have made while it waited.
    await client.query('lock table pg_catalog.pg_namespace in access share mode')
    await client.query("set local lock_timeout = '4s'")
    await client.query(HISTORY)
    const isPending = !isApplied(file, await readHistory(client))
    if (isPending) {
      const { version, title } = versionOf(file)
      await client.query('set local statement_timeout = 0') // a migration bounds its waits by itself
      await client.query(file.sql).catch((error) => {
        throw failureOf(file, error)
      })
      await client.query(
        'insert into supabase_migrations.schema_migrations (version, name, statements) values ($1, $2, $3)',
        [version, title, [file.sql]],
      )
    }
    await client.query('commit')
    return isPending
  } catch (error) {
    await client.query('rollback').catch(() => {}) // the connection may be gone
    throw error
  }
}

function failureOf({ name, sql }: Migration, error: unknown): unknown {
  if (!(error instanceof pg.DatabaseError)) return error
  const place = error.position ? `:${sql.slice(0, Number(error.position)).split('\n').length}` : ''
  const more = [error.detail, error.hint, error.where].filter(Boolean).join('\n')
  return new MigrationError(`${name}${place}: ${error.message}\n${more}`.trim(), { cause: error })
}

/** What `uninstall` removes, or null where nothing of ours is there. */
export interface Installed {
  /** Of the app, with triggers of ours. */
  triggers: { app_table: string; count: number }[]
  functions: number
  /** In the schema indexing, with how many rows they have. */
  tables: { name: string; rows: number }[]
  /** Entries in the history of migrations. */
  migrations: string[]
  /** Ids of events whose collection may hold faces. */
  collections: string[]
}

/** Looks at what is installed. Changes nothing. */
export const installedOn = (url: string): Promise<Installed | null> =>
  withClient(url, async (client) => {
    const rows = async <Row extends pg.QueryResultRow>(sql: string) => (await client.query<Row>(sql)).rows
    const names = await rows<{ name: string }>(`
      select c.relname as name from pg_class c
      where c.relnamespace = to_regnamespace('indexing') and c.relkind = 'r' order by 1`)
    const tables: Installed['tables'] = []
    for (const { name } of names)
      tables.push({
        name,
        rows: Number(await one(client, `select count(*) from indexing.${client.escapeIdentifier(name)}`)),
      })
    const [{ functions } = { functions: 0 }] = await rows<{ functions: number }>(`
      select count(*)::int as functions from pg_proc p
      where p.pronamespace = to_regnamespace('indexing')
        or (p.pronamespace = 'public'::regnamespace and p.proname like 'indexing\\_%')`)
    const entries = (await readHistory(client)).filter(({ name }) => name?.startsWith('event_indexer_'))
    if (tables.length === 0 && functions === 0 && entries.length === 0) return null
    return {
      triggers: await rows(`
        select t.tgrelid::regclass::text as app_table, count(*)::int as count
        from pg_trigger t join pg_proc f on f.oid = t.tgfoid
        where f.pronamespace = to_regnamespace('indexing') group by 1 order by 1`),
      functions,
      tables,
      migrations: entries.map(({ version, name }) => `${version}_${name}`).sort(),
      collections: tables.some(({ name }) => name === 'event_runs')
        ? (
            await rows<{ event_id: string }>(
              "select event_id from indexing.event_runs where collection in ('ready', 'closing') order by 1",
            )
          ).map(({ event_id }) => event_id)
        : [],
    }
  })

/**
 * Removes everything of ours from a database, in one transaction; see uninstall.sql.
 * @throws {MigrationError} when the app holds its tables locked; then nothing is removed
 */
export const uninstall = (url: string): Promise<void> =>
  withClient(url, async (client) => {
    const name = 'uninstall.sql'
    const file = { name, sql: readFileSync(new URL(name, import.meta.url), 'utf8') }
    await client.query(file.sql).catch((error) => {
      throw failureOf(file, error)
    })
  })

/** Runs the statements of a file in one transaction. */
export const runMigration = (url: string, file: Migration): Promise<void> =>
  withClient(url, async (client) => {
    await client.query(file.sql).catch((error) => {
      throw failureOf(file, error)
    })
  })

const one = async (client: pg.Client, sql: string): Promise<unknown> =>
  Object.values((await client.query(sql)).rows[0] ?? {})[0]

async function withClient<T>(url: string, act: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: 15_000,
    application_name: 'event-indexer',
  })
  client.on('error', () => {}) // the query that is under way, or the next one, says it
  await client.connect()
  try {
    return await act(client)
  } finally {
    await client.end().catch(() => {})
  }
}
