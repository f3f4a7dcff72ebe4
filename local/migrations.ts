import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'

const MIGRATIONS = new URL('../supabase/migrations/', import.meta.url)

/**
 * Applies this system's migrations in the order of their names, each in a transaction of its own.
 * @param url of a database with the app's schema, as its owner
 * @throws {Error} naming the file and line of the migration that failed; those before it stay applied
 */
export async function applyMigrations(url: string): Promise<void> {
  for (const name of await migrationNames()) await runFile(url, new URL(name, MIGRATIONS))
}

/**
 * The same for a database that is kept: applies the migrations that it does not have.
 * @param applied SHA-256 of those it has, by name; those that are applied now are added
 * @throws {Error} naming a migration that was edited since it was applied, or that failed
 */
export async function applyNewMigrations(url: string, applied: Record<string, string>): Promise<void> {
  const names = await migrationNames()
  const hashes = new Map<string, string>()
  for (const name of names) {
    const hash = createHash('sha256')
      .update(await readFile(new URL(name, MIGRATIONS)))
      .digest('hex')
    if (applied[name] && applied[name] !== hash)
      throw new Error(
        `${name} was edited since it was applied to the kept database. Undo that, or start with an empty one: npm run dev -- --reset`,
      )
    hashes.set(name, hash)
  }
  for (const [name, hash] of hashes) {
    if (applied[name]) continue
    await runFile(url, new URL(name, MIGRATIONS))
    applied[name] = hash
  }
}

const migrationNames = async () => (await readdir(MIGRATIONS)).filter((name) => name.endsWith('.sql')).sort()

/** Runs the statements of a file in one transaction. */
export async function runFile(url: string, file: URL): Promise<void> {
  const sql = await readFile(file, 'utf8')
  try {
    await runSql(url, sql)
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error
    const place = error.position ? `:${sql.slice(0, Number(error.position)).split('\n').length}` : ''
    const more = [error.detail, error.hint, error.where].filter(Boolean).join('\n')
    throw new Error(`${basename(fileURLToPath(file))}${place}: ${error.message}\n${more}`.trim(), {
      cause: error,
    })
  }
}

/** Runs statements in one transaction, on a connection of their own. */
export async function runSql(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}
