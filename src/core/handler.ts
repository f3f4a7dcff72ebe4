import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware'
import { logMetrics } from '@aws-lambda-powertools/metrics/middleware'
import middy from '@middy/core'
import { connectDatabase, type Database, requireSchemaVersion } from './database.ts'
import { logger, metrics } from './log.ts'
import { readSecret } from './secrets.ts'
import type { Settings } from './settings.ts'

/** Every function's handler is wrapped in this: logs with the invocation's context, and metrics flushed at its end. */
export const middleware = <Event, Result>() =>
  middy<Event, Result>().use(injectLambdaContext(logger)).use(logMetrics(metrics))

/**
 * The container's one connection to the database. It is made, and the schema version checked, when it is first asked for; an
 * attempt that fails is not kept.
 * @throws {SecretError} {@link DatabaseError} {@link SchemaVersionError}
 */
export function databaseOf(settings: Settings): () => Promise<Database> {
  let database: Database | undefined
  return async () => {
    if (database) return database
    const key = { value: settings.supabaseKey, parameter: settings.supabaseKeyParameter }
    const made = connectDatabase(settings.supabaseUrl, (renew) => readSecret('the Supabase key', key, renew))
    requireSchemaVersion(await made.schema_version({}))
    database = made
    return made
  }
}
