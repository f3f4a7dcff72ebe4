import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import type { AppTables } from '../supabase/app-tables.ts'
import { type Migration, migrations } from '../supabase/migrations.ts'

/**
 * Applies this system's migrations in the order of their names, each in a transaction of its own.
 * @param url of a database with the app's schema, as its owner
 * @param tables the app's names, unless they are the default's
 * @throws {Error} naming the file and line of the migration that failed; those before it stay applied
 */
export async function applyMigrations(url: string, tables: AppTables = {}): Promise<void> {
  for (const migration of migrations(tables)) await applyMigration(url, migration)
}

/**
 * The same for a database that is kept: applies the migrations that it does not have.
 * @param applied SHA-256 of those it has, by name; those that are applied now are added
 * @throws {Error} naming a migration that was edited since it was applied, or that failed
 */
export async function applyNewMigrations(url: string, applied: Record<string, string>): Promise<void> {
  const hashed = migrations().map((migration) => ({
    ...migration,
    hash: createHash('sha256').update(migration.sql).digest('hex'),
  }))
  for (const { name, hash } of hashed)
    if (applied[name] && applied[name] !== hash)
      throw new Error(
        `${name} was edited since it was applied to the kept database. Undo that, or start with an empty one: npm run dev -- --reset`,
      )
  for (const { hash, ...migration } of hashed) {
    if (applied[migration.name]) continue
    await applyMigration(url, migration)
    applied[migration.name] = hash
  }
}

/** Runs the statements of a file in one transaction. */
export const runFile = async (url: string, file: URL): Promise<void> =>
  applyMigration(url, { name: basename(fileURLToPath(file)), sql: await readFile(file, 'utf8') })

/** Runs the statements of a migration in one transaction. */
export async function applyMigration(url: string, { name, sql }: Migration): Promise<void> {
  try {
    await runSql(url, sql)
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error
    const place = error.position ? `:${sql.slice(0, Number(error.position)).split('\n').length}` : ''
    const more = [error.detail, error.hint, error.where].filter(Boolean).join('\n')
    throw new Error(`${name}${place}: ${error.message}\n${more}`.trim(), { cause: error })
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
