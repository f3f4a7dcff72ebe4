import pg from 'pg'
import { ApiError } from './errors.ts'

const EXPOSED_SCHEMAS = ['public']
const MAX_ROWS = 1000

/** A database function that can be called through the API. */
export interface ApiFunction {
  name: string
  parameters: { name: string; type: string; required: boolean }[]
  returns: 'void' | 'value' | 'row' | 'values' | 'rows'
  /** Called in a read-only transaction: stable or immutable. */
  readOnly: boolean
}

/** What is in the exposed schemas, read again whenever something is asked for that is not there. */
export class FunctionCatalog {
  readonly #pool: pg.Pool
  #functions = new Map<string, ApiFunction[]>()

  constructor(pool: pg.Pool) {
    this.#pool = pool
  }

  /**
   * The function of this name that takes exactly these arguments; those with a default may be left out.
   * @throws {ApiError} 404 where there is none, 300 where there are several
   */
  async find(schema: string, name: string, args: string[]): Promise<ApiFunction> {
    if (!EXPOSED_SCHEMAS.includes(schema)) {
      const hint = `Only the following schemas are exposed: ${EXPOSED_SCHEMAS.join(', ')}`
      throw new ApiError(406, 'PGRST106', `Invalid schema: ${schema}`, { hint })
    }
    const qualified = `${schema}.${name}`
    let matches = this.#matching(qualified, args)
    if (matches.length === 0) {
      await this.read()
      matches = this.#matching(qualified, args)
    }
    const [found, ...others] = matches
    if (!found) throw notFound(qualified, args, this.#functions.get(qualified) ?? [])
    if (others.length > 0) throw ambiguous(qualified, matches)
    return found
  }

  #matching(qualified: string, args: string[]): ApiFunction[] {
    return (this.#functions.get(qualified) ?? []).filter(
      ({ parameters }) =>
        args.every((arg) => parameters.some(({ name }) => name === arg)) &&
        parameters.every(({ name, required }) => !required || args.includes(name)),
    )
  }

  async read(): Promise<void> {
    const { rows } = await this.#pool.query<ApiFunction & { schema: string }>(READ, [EXPOSED_SCHEMAS])
    const functions = new Map<string, ApiFunction[]>()
    for (const { schema, ...found } of rows) {
      const qualified = `${schema}.${found.name}`
      functions.set(qualified, [...(functions.get(qualified) ?? []), found])
    }
    this.#functions = functions
  }
}

/** Selects the answer of a function as one JSON text, `body`. Its arguments come as one JSON object, $1, if there are any. */
export function callOf(schema: string, { name, parameters, returns }: ApiFunction, args: string[]): string {
  const given = parameters.filter((parameter) => args.includes(parameter.name))
  const list = given.map(({ name }) => `${quote(name)} := args.${quote(name)}`)
  const call = `${quote(schema)}.${quote(name)}(${list.join(', ')})`
  const columns = given.map(({ name, type }) => `${quote(name)} ${type}`)
  const record = `json_to_record($1) as args(${columns.join(', ')})`
  const fromArgs = given.length > 0 ? `from ${record}` : ''
  const fromAnswer = given.length > 0 ? `from ${record}, lateral ${call} as answer` : `from ${call} as answer`
  switch (returns) {
    case 'void':
      return `select ${call}::text as body ${fromArgs}`
    case 'value':
      return `select coalesce(to_json(${call}), 'null')::text as body ${fromArgs}`
    case 'row':
      return `select to_json(answer)::text as body ${fromAnswer}`
    case 'values':
      return `select coalesce(json_agg(value), '[]')::text as body
        from (select ${call} as value ${fromArgs} limit ${MAX_ROWS}) as page`
    case 'rows':
      return `select coalesce(json_agg(page), '[]')::text as body
        from (select answer.* ${fromAnswer} limit ${MAX_ROWS}) as page`
  }
}

const quote = pg.escapeIdentifier

const READ = `
  select
    n.nspname as schema,
    p.proname as name,
    coalesce((
      select json_agg(json_build_object(
        'name', name,
        'type', format_type(p.proargtypes[number - 1], null),
        'required', number <= p.pronargs - p.pronargdefaults
      ) order by number)
      from (
        select name, row_number() over (order by position)::int as number
        from unnest(p.proargnames, p.proargmodes) with ordinality as a(name, mode, position)
        where coalesce(mode, 'i') in ('i', 'b', 'v')
      ) inputs
    ), '[]') as parameters,
    case
      when p.prorettype = 'void'::regtype then 'void'
      when t.typtype = 'c' or p.proargmodes::text[] && '{b,o,t}' then case when p.proretset then 'rows' else 'row' end
      else case when p.proretset then 'values' else 'value' end
    end as returns,
    p.provolatile <> 'v' as "readOnly"
  from pg_proc p
  join pg_namespace n on n.oid = p.pronamespace
  join pg_type t on t.oid = p.prorettype
  where n.nspname = any ($1) and p.prokind = 'f' and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
  order by p.oid`

function notFound(qualified: string, args: string[], sameName: ApiFunction[]): ApiError {
  const names = [...args].sort()
  const listed = names.length > 0 ? `(${names.join(', ')})` : ' without parameters'
  const searched =
    names.length > 0 ? ` with parameter${names.length > 1 ? 's' : ''} ${names.join(', ')}` : listed
  const [candidate] = sameName
  const meant = candidate?.parameters.map(({ name }) => name).sort()
  return new ApiError(
    404,
    'PGRST202',
    `Could not find the function ${qualified}${listed} in the schema cache`,
    {
      details: `Searched for the function ${qualified}${searched} or with a single unnamed json/jsonb parameter, but no matches were found in the schema cache.`,
      hint: meant ? `Perhaps you meant to call the function ${qualified}(${meant.join(', ')})` : null,
    },
  )
}

function ambiguous(qualified: string, matches: ApiFunction[]): ApiError {
  const signatures = matches.map(({ parameters }) => {
    const list = parameters.map(({ name, type }) => `${name} => ${type}`)
    return `${qualified}(${list.join(', ')})`
  })
  const message = `Could not choose the best candidate function between: ${signatures.join(', ')}`
  return new ApiError(300, 'PGRST203', message, {
    hint: 'Try renaming the parameters or the function itself in the database so function overloading can be resolved',
  })
}
