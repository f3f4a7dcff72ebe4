import { readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { runMigration } from '../supabase/migrate.ts'

/**
 * Runs the statements of a file in one transaction.
 * @throws {Error} naming the file and line of what failed
 */
export const runFile = async (url: string, file: URL): Promise<void> =>
  runMigration(url, { name: basename(fileURLToPath(file)), sql: await readFile(file, 'utf8') })

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
