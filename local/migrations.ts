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
  const names = (await readdir(MIGRATIONS)).filter((name) => name.endsWith('.sql')).sort()
  for (const name of names) await runFile(url, new URL(name, MIGRATIONS))
}

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
