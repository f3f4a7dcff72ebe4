import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware'
import { logMetrics } from '@aws-lambda-powertools/metrics/middleware'
import middy from '@middy/core'
import ssm from '@middy/ssm'
import type { Context } from 'aws-lambda'
import { connectDatabase, type Database } from './database.ts'
import { logger, metrics } from './log.ts'
import type { Settings } from './settings.ts'

/** The names by which an invocation's context carries the secrets that were read from SSM Parameter Store. */
interface WithSecrets extends Context {
  serviceRoleKey?: string
  nudgeSecret?: string
}

/**
 * What every function's handler is wrapped in: logs with the invocation's context, metrics flushed at its end, and the
 * named secrets, read from SSM Parameter Store once per container unless the environment has them.
 */
export function middleware<Event, Result>(
  settings: Settings,
  secrets: ('serviceRoleKey' | 'nudgeSecret')[] = ['serviceRoleKey'],
) {
  const fetchData = Object.fromEntries(
    secrets.flatMap((name) => {
      const parameter = settings[`${name}Parameter`]
      return parameter && !settings[name] ? [[name, parameter]] : []
    }),
  )
  const handler = middy<Event, Result, Error, WithSecrets>()
    .use(injectLambdaContext(logger))
    .use(logMetrics(metrics))
  return Object.keys(fetchData).length > 0 ? handler.use(ssm({ fetchData, setToContext: true })) : handler
}

/** The container's one connection to the database, made when the key is known. */
export function databaseOf(settings: Settings): (context: WithSecrets) => Database {
  let database: Database | undefined
  return (context) => {
    const key = settings.serviceRoleKey ?? context.serviceRoleKey
    if (!key) throw new Error(`SSM parameter ${settings.serviceRoleKeyParameter} holds no service role key`)
    database ??= connectDatabase(settings.supabaseUrl, key)
    return database
  }
}
