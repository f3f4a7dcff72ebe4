import { readFileSync } from 'node:fs'
import pg from 'pg'
import type { Database } from '../../local/postgres.ts'
import { readAppTables } from '../../supabase/app-tables.ts'
import { migrate } from '../../supabase/migrate.ts'
import { postgres } from './database.ts'

const FIXTURE = new URL('../fixtures/other-app/', import.meta.url)
export const OTHER_APP_NAMES = new URL('app-tables.yml', FIXTURE)

const UNINSTALL = readFileSync(new URL('../../supabase/uninstall.sql', import.meta.url), 'utf8')

/** Removes this system from a database: what is left is the app. */
export const WITHOUT_US = `${UNINSTALL};`

/** Removes the app of the default too: what is left is a project without tables. */
export const WITHOUT_DEFAULT_APP = `
  ${WITHOUT_US}
  drop table public.events, public.event_consents, public.profiles;
  drop type public.event_processing_status`

/** Makes a database with the other app's schema, not yet our migrations. */
export async function createOtherApp(): Promise<Database> {
  const database = await postgres.createDatabase()
  const client = new pg.Client({ connectionString: database.url })
  await client.connect()
  await client.query(WITHOUT_DEFAULT_APP)
  await client.query(readFileSync(new URL('schema.sql', FIXTURE), 'utf8'))
  await client.end()
  return database
}

/** The same with our migrations, for its names. */
export async function createMigratedOtherApp(): Promise<Database> {
  const database = await createOtherApp()
  await migrate(database.url, { tables: readAppTables(OTHER_APP_NAMES) })
  return database
}
