import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware'
import { logMetrics } from '@aws-lambda-powertools/metrics/middleware'
import middy from '@middy/core'
import ssm from '@middy/ssm'
import type { Context } from 'aws-lambda'
import { connectDatabase, type Database } from './database.ts'
import { logger, metrics } from './log.ts'
import type { Settings } from './settings.ts'

interface WithKey extends Context {
  serviceRoleKey?: string
}

/**
 * What every function's handler is wrapped in: logs with the invocation's context, metrics flushed at its end, and the
 * service role key, read from SSM Parameter Store once per container unless the environment has it.
 */
export function middleware<Event, Result>(settings: Settings) {
  const handler = middy<Event, Result, Error, WithKey>()
    .use(injectLambdaContext(logger))
    .use(logMetrics(metrics))
  if (!settings.serviceRoleKey && settings.serviceRoleKeyParameter) {
    handler.use(
      ssm({
        fetchData: { serviceRoleKey: settings.serviceRoleKeyParameter },
        setToContext: true,
        disablePrefetch: false,
      }),
    )
  }
  return handler
}

/** The container's one connection to the database, made when the key is known. */
export function databaseOf(settings: Settings): (context: Context) => Database {
  let database: Database | undefined
  return (context) => {
    const key = settings.serviceRoleKey ?? (context as WithKey).serviceRoleKey
    if (!key) throw new Error(`SSM parameter ${settings.serviceRoleKeyParameter} holds no service role key`)
    database ??= connectDatabase(settings.supabaseUrl, key)
    return database
  }
}
