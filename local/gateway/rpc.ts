import { createHash } from 'node:crypto'
import pg from 'pg'
import { ApiError, toApiError } from './errors.ts'
import { callOf, FunctionCatalog } from './functions.ts'
import type { Claims } from './keys.ts'

/** One call of a database function, as it comes in. */
export interface Call {
  schema: string
  name: string
  /** A JSON object: the arguments by name. */
  body: string
  claims: Claims
}

/** Calls database functions as the role of the request, each call in a transaction of its own, as PostgREST does. */
export class RpcPool {
  readonly #pool: pg.Pool
  readonly #catalog: FunctionCatalog
  #roleSettings: Promise<Map<string, string[]>> | undefined

  private constructor(pool: pg.Pool) {
    this.#pool = pool
    this.#catalog = new FunctionCatalog(pool)
  }

  /** @param url of the database, as role `authenticator` */
  static async connect(url: string, connections: number): Promise<RpcPool> {
    const pool = new pg.Pool({ connectionString: url, max: connections, connectionTimeoutMillis: 10_000 })
    pool.on('error', () => {}) // an idle connection broke; the next call makes a new one, or says why not
    const rpc = new RpcPool(pool)
    try {
      await rpc.#catalog.read()
      return rpc
    } catch (error) {
      await pool.end()
      throw error
    }
  }

  /**
   * Returns the answer as JSON text; null for a function that returns nothing.
   * @throws {ApiError} for whatever goes wrong; then the transaction has been rolled back
   */
  async call(call: Call): Promise<string | null> {
    try {
      const args = argumentsOf(call.body)
      const found = await this.#catalog.find(call.schema, call.name, args)
      const text = callOf(call.schema, found, args)
      const settings = await this.#settingsOf(call.claims.role)
      const body = await this.#transact(begin(found.readOnly, call, settings), {
        name: createHash('md5').update(text).digest('hex'), // prepared once per connection
        text,
        values: args.length > 0 ? [call.body] : [],
      })
      return found.returns === 'void' ? null : (body ?? 'null')
    } catch (error) {
      throw toApiError(error, call.claims.role !== 'anon')
    }
  }

  async #transact(begin: string, query: pg.QueryConfig): Promise<string | null | undefined> {
    const client = await this.#pool.connect()
    try {
      await client.query(begin)
      const { rows } = await client.query<{ body: string | null }>(query)
      await client.query('commit')
      client.release()
      return rows[0]?.body
    } catch (error) {
      await client.query('rollback').then(
        () => client.release(),
        (broken) => client.release(broken),
      )
      throw error
    }
  }

  close(): Promise<void> {
    return this.#pool.end()
  }

  /** Settings of the role, such as its statement_timeout, which hold for whoever logs in as it: here they are set by hand. */
  async #settingsOf(role: string): Promise<string[]> {
    this.#roleSettings ??= this.#pool
      .query<{ rolname: string; rolconfig: string[] }>(
        'select rolname, rolconfig from pg_roles where rolconfig is not null',
      )
      .then(({ rows }) => new Map(rows.map(({ rolname, rolconfig }) => [rolname, rolconfig])))
    return (await this.#roleSettings).get(role) ?? []
  }
}

function argumentsOf(body: string): string[] {
  try {
    const args: unknown = JSON.parse(body)
    if (typeof args === 'object' && args !== null && !Array.isArray(args)) return Object.keys(args)
  } catch {} // answered below
  throw new ApiError(400, 'PGRST102', 'Empty or invalid json')
}

function begin(readOnly: boolean, { schema, claims }: Call, roleSettings: string[]): string {
  const settings: [name: string, value: string][] = [
    ['search_path', `${pg.escapeIdentifier(schema)}, public, extensions`],
    ...roleSettings.map((setting): [string, string] => {
      const [name = '', ...value] = setting.split('=')
      return [name, value.join('=')]
    }),
    ['role', claims.role],
    ['request.jwt.claims', JSON.stringify(claims)],
  ]
  const set = settings.map(
    ([name, value]) => `set_config(${pg.escapeLiteral(name)}, ${pg.escapeLiteral(value)}, true)`,
  )
  return `begin ${readOnly ? 'read only' : 'read write'}; select ${set.join(', ')}`
}
