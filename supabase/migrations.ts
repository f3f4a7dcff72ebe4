import { readdirSync, readFileSync } from 'node:fs'
import { type AppTables, withAppTables } from './app-tables.ts'

const MIGRATIONS = new URL('migrations/', import.meta.url)

/** A file of supabase/migrations. */
export interface Migration {
  /** Of the file, with its ending. */
  name: string
  sql: string
}

/** The names of the files of supabase/migrations, in their order. */
export const migrationNames = (): string[] =>
  readdirSync(MIGRATIONS)
    .filter((name) => name.endsWith('.sql'))
    .sort()

/**
 * The migrations in their order, each to be applied in one transaction.
 * @param tables the app's names, unless they are the default's
 */
export const migrations = (tables: AppTables = {}): Migration[] =>
  migrationNames().map((name) => ({
    name,
    sql: withAppTables(readFileSync(new URL(name, MIGRATIONS), 'utf8'), tables),
  }))
