import pg from 'pg'
import { inject, onTestFinished } from 'vitest'
import { connectPostgres, type Database } from '../../local/postgres.ts'

/** The Postgres server of the test run, for tests that make databases of their own. */
export const postgres = connectPostgres(inject('postgres'))

/** A fresh database with the app's schema and our migrations, for the length of a test. */
export async function freshDatabase(): Promise<Database> {
  const database = await postgres.createDatabase()
  onTestFinished(database.drop)
  return database
}

/** Runs a statement as the superuser, who alone may write without triggers. */
export async function runAsSuperuser(databaseUrl: string, statement: string): Promise<void> {
  const { password } = inject('postgres')
  const superuser = new pg.Client(databaseUrl.replace(/\/\/[^@]+@/, `//supabase_admin:${password}@`))
  await superuser.connect()
  try {
    await superuser.query(statement)
  } finally {
    await superuser.end()
  }
}
