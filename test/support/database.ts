import { inject, onTestFinished } from 'vitest'
import { connectPostgres, type Database } from '../../local/postgres.ts'

/** The server of the test run, for whatever makes databases of its own. */
export const postgres = connectPostgres(inject('postgres'))

/** A fresh database with the app's schema and our migrations, for the length of a test. */
export async function freshDatabase(): Promise<Database> {
  const database = await postgres.createDatabase()
  onTestFinished(database.drop)
  return database
}
