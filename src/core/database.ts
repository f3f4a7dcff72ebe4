import type { WebSocketLikeConstructor } from '@supabase/supabase-js'
import { createClient, type SupabaseClient } from '@supabase/supabase-js'
import { type Answer, type Arguments, CONTRACT, type FunctionName, SCHEMA_VERSION } from './contract.ts'
import { DATABASE_TIMEOUT_MS } from './policy.ts'
import { pause } from './time.ts'
import * as z from './zod.ts'

/** A call of a database function failed. `code` is Postgres's or PostgREST's or an HTTP status, '' when no answer came. */
export class DatabaseError extends Error {
  override name = 'DatabaseError'
  readonly code: string

  constructor(call: string, code: string, message: string, options?: ErrorOptions) {
    super(`database function ${call}: ${message}${code ? ` (${code})` : ''}`, options)
    this.code = code
  }

  /**
   * Whether the same call may succeed a moment later: no answer, overload, a conflict with another transaction. Not one that
   * ran into the statement timeout (57014): it would again.
   */
  get passing(): boolean {
    return /^(|5\d\d|08...|40001|40P01|53...|55P03|57P..|PGRST00[0-3])$/.test(this.code)
  }

  /** Whether the data itself was refused (class 22 or 23): the same call can never succeed. */
  get refusesData(): boolean {
    return /^2[23]/.test(this.code)
  }
}

/** Thrown when the database's schema is not the one that this code needs. */
export class SchemaVersionError extends Error {
  override name = 'SchemaVersionError'
}

const RETRY_AFTER_MS = [100, 400, 1000]
const RETRY_WITHIN_MS = 5_000 // a call that has waited longer than this is not tried again, unless its caller insists
const PERSIST_AFTER_MS = 2000

/** Gives the key of the project's API; `renew` asks for it anew, after it was refused. */
export type ApiKey = (renew: boolean) => Promise<string>

/**
 * Calls a database function.
 * @param persist whether to go on trying, for as long as it says so, when a caller who gives up loses what it has done
 * @throws {DatabaseError}
 */
type Call = <Name extends FunctionName>(
  name: Name,
  args: Arguments<Name>,
  persist?: () => boolean,
) => Promise<Answer<Name>>

/**
 * Connects to the project's API as `service_role`. The functions are idempotent: a call that got no answer is tried again, up
 * to three times within about 1.5 s and the time that the calls themselves take. A key that is refused is read again once.
 */
function connectApi(url: string, apiKey: ApiKey): Call {
  let client: { key: string; supabase: SupabaseClient } | undefined

  async function connect(renew: boolean): Promise<SupabaseClient> {
    const key = await apiKey(renew)
    if (client?.key !== key) client = { key, supabase: makeClient(url, key) }
    return client.supabase
  }

  async function callOnce<Name extends FunctionName>(
    name: Name,
    args: Arguments<Name>,
    renew: boolean,
  ): Promise<Answer<Name>> {
    const supabase = await connect(renew)
    const { data, error, status } = await supabase.rpc(`indexing_${name}`, args)
    if (error)
      throw new DatabaseError(name, error.code || (status ? String(status) : ''), error.message, {
        cause: { status },
      })
    const read = CONTRACT[name].answer.safeParse(data)
    if (!read.success)
      throw new DatabaseError(
        name,
        status === 200 ? '' : String(status),
        `its answer does not fit its schema: ${z.prettifyError(read.error)}`,
      )
    return read.data as Answer<Name>
  }

  return async (name, args, persist = () => false) => {
    let renew = false
    const began = performance.now()
    for (let attempt = 0; ; attempt++) {
      try {
        return await callOnce(name, args, renew)
      } catch (error) {
        if (!(error instanceof DatabaseError)) throw error
        if ((error.cause as { status?: number } | undefined)?.status === 401 && !renew) {
          renew = true
          continue
        }
        const soon = performance.now() - began < RETRY_WITHIN_MS ? RETRY_AFTER_MS[attempt] : undefined
        const wait = soon ?? (persist() ? PERSIST_AFTER_MS : undefined)
        if (!error.passing || wait === undefined) throw error
        await pause(wait * (0.5 + Math.random()))
      }
    }
  }
}

function makeClient(url: string, key: string): SupabaseClient {
  return createClient(url, key, {
    // Without it supabase-js makes a client for auth, which the bundles have not: see unused-supabase.ts.
    accessToken: async () => key,
    // Node 20 has no WebSocket, without which the client cannot be made. Realtime is not used here.
    realtime: { transport: class {} as unknown as WebSocketLikeConstructor },
    global: {
      fetch: (input, init) => {
        const headers = new Headers(init?.headers)
        // A secret key is no JWT; Supabase wants it in the header apikey alone.
        if (key.startsWith('sb_')) headers.delete('Authorization')
        return fetch(input, { ...init, headers, signal: AbortSignal.timeout(DATABASE_TIMEOUT_MS) })
      },
    },
  })
}

/** @throws {SchemaVersionError} when the database's schema is not the one that this code needs */
export function requireSchemaVersion(found: number): void {
  if (found === SCHEMA_VERSION) return
  const what =
    found < SCHEMA_VERSION
      ? 'apply the migrations of this release before its functions are deployed'
      : 'deploy the functions of the release whose migrations were applied'
  throw new SchemaVersionError(
    `the database has schema version ${found}, these functions need ${SCHEMA_VERSION}: ${what}`,
  )
}

/** The functions of the database by their names: `database.lease({ … })`. See {@link CONTRACT} and {@link Call}. */
export type Database = {
  [Name in FunctionName]: (args: Arguments<Name>, persist?: () => boolean) => Promise<Answer<Name>>
}

/** See {@link connectApi}. */
export function connectDatabase(url: string, apiKey: ApiKey): Database {
  const call = connectApi(url, apiKey)
  const functions = Object.keys(CONTRACT).map((name) => [
    name,
    (args: never, persist?: () => boolean) => call(name as FunctionName, args, persist),
  ])
  return Object.fromEntries(functions) as Database
}
