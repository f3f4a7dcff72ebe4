/**
 * The app's table and column names. The adapter (`source/app.sql`) has `{events.table}` and the like in their place. The migrations have
 * the default name there, between two marks, so that it can be replaced in any of them.
 */
import { existsSync, readFileSync } from 'node:fs'
import { parse } from 'yaml'
import { z } from 'zod'

/** Each fact that the adapter reads, and where it is unless `app-tables.yml` says otherwise. */
const DEFAULTS: Readonly<Record<string, string>> = {
  names: "'the default'",
  'events.table': 'public.events',
  'events.event_id': 'event_id',
  'events.name': 'name',
  'events.starts_at': 'starts_at',
  'events.ends_at': 'ends_at',
  'events.active': 'is_active',
  'events.closed': "cleanup_status::text <> 'pending'",
  'events.status': 'indexing_status',
  'events.cleanup': 'cleanup_status',
  'consents.table': 'public.event_consents',
  'consents.event_id': 'event_id',
  'consents.user_id': 'user_id',
  'consents.allows': 'allow_recognition',
  'profiles.table': 'public.profiles',
  'profiles.user_id': 'user_id',
  'profiles.photo': 'photo_path',
  'profiles.photo_columns': 'photo_path',
}

const IDENTIFIER = /^(?:[a-z_][\w$]*|"[^"]+")$/i
const TABLE = /^(?:([a-z_][\w$]*|"[^"]+")\.)?([a-z_][\w$]*|"[^"]+")$/i
const CONSTANT = /^(?:true|false|null)$/i
const FORBIDDEN = /;|\$\$|--|\/\*|\*\//

/** As the name is written: capitals count, and a reserved word is a name too. */
const quoted = (name: string): string => (name.startsWith('"') ? name : `"${name}"`)
const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** Whether each parenthesis is closed, outside of the quoted parts. */
function isBalanced(expression: string): boolean {
  let open = 0
  for (const character of expression.replaceAll(/'(?:[^']|'')*'|"[^"]*"/g, '')) {
    if (character === '(') open++
    if (character === ')' && --open < 0) return false
    if (character === "'" || character === '"') return false
  }
  return open === 0
}

/** `schema.table`, as SQL. */
const table = z
  .string()
  .regex(TABLE, 'must be a table, such as attendances or club.attendances')
  .transform((name) => {
    const [, schema = 'public', own = ''] = TABLE.exec(name) ?? []
    return `${quoted(schema)}.${quoted(own)}`
  })

/** The name of a column, as SQL. */
const column = z
  .string()
  .regex(IDENTIFIER, 'must be the name of a column')
  .transform((name) => quoted(name))

/** The name of a column or an SQL expression over the columns of a row, as SQL. */
const fact = z
  .string()
  .trim()
  .min(1, 'must be a column or an SQL expression')
  .refine((text) => !FORBIDDEN.test(text) && isBalanced(text), {
    message: 'must be one SQL expression: quotes and parentheses closed, no semicolon and no comment',
  })
  .transform((text) => (CONSTANT.test(text) ? text : IDENTIFIER.test(text) ? quoted(text) : `(${text})`))

/** The same of a fact that an app may not have, where YAML has true, false or nothing. */
const factOrNone = z.preprocess(
  (value) => (value === null || typeof value === 'boolean' ? String(value) : value),
  fact,
)

const shape = z.strictObject({
  events: z
    .strictObject({
      table,
      event_id: fact,
      name: factOrNone,
      starts_at: fact,
      ends_at: factOrNone,
      active: factOrNone,
      closed: factOrNone,
      status: column,
      cleanup: column.nullable(),
    })
    .partial()
    // Where the app closes its events in another way, there is such a column only if it is named.
    .transform(({ cleanup, ...events }) => ({
      ...events,
      ...((cleanup !== undefined || events.closed) && { cleanup: cleanup ?? 'null' }),
    }))
    .optional(),
  consents: z
    .strictObject({
      table,
      event_id: fact,
      user_id: fact,
      allows: factOrNone,
    })
    .partial()
    .optional(),
  profiles: z
    .strictObject({ table, user_id: fact, photo: fact, photo_columns: z.array(column).min(1) })
    .partial()
    .refine(({ photo, photo_columns }) => !photo || photo.startsWith('"') || photo_columns, {
      path: ['photo_columns'],
      message: 'must list the columns that the expression of photo reads',
    })
    .transform(({ photo_columns, ...profiles }) => ({
      ...profiles,
      ...(profiles.photo && { photo_columns: photo_columns?.join(', ') ?? profiles.photo }),
    }))
    .optional(),
})

/** Names of the app that are not the default's, as SQL: `{ "events.event_id": "\"id\"" }`. */
export type AppTables = Readonly<Record<string, string>>

/**
 * Reads names from a YAML file.
 * @throws {Error} naming each entry that is not as it must be
 */
export function readAppTables(path: string | URL): AppTables {
  const result = shape.safeParse(parse(readFileSync(path, 'utf8')) ?? {})
  if (result.success) return flat(result.data)
  const problems = result.error.issues.map(({ path, message }) => `  ${path.join('.')}: ${message}`)
  throw new Error(`${path} cannot be used:\n${problems.join('\n')}`)
}

const OWN = new URL('../app-tables.yml', import.meta.url)

/** The names of app-tables.yml in the root of this repository; the default's, where there is none. */
export const ownAppTables = (): AppTables => (existsSync(OWN) ? readAppTables(OWN) : {})

const flat = (tables: Record<string, Record<string, string | undefined> | undefined>): AppTables =>
  Object.fromEntries(
    Object.entries(tables)
      .flatMap(([of, facts = {}]) =>
        Object.entries(facts).flatMap(([fact, text]) =>
          text === undefined ? [] : [[`${of}.${fact}`, text] as const],
        ),
      )
      .sort(([one], [other]) => (one < other ? -1 : 1)),
  )

const described = (tables: AppTables): string =>
  Object.entries(tables)
    .map(([name, text]) => `${name}: ${text}`)
    .join(', ')

/**
 * The text of a source with the default names, marked, where it has names in braces; in quotes it becomes a literal.
 * @throws {Error} naming a fact that there is not
 */
export const withMarks = (source: string): string =>
  source.replaceAll(/('?)\{([a-z]+(?:\.[a-z_]+)?)\}\1/g, (_, quote: string, name: string) => {
    const text = DEFAULTS[name]
    if (text === undefined) throw new Error(`{${name}} is no fact of the app: see DEFAULTS in app-tables.ts`)
    return `/*=${quote}${name}${quote}*/${quote ? literal(text) : text}/*=*/`
  })

const MARKED = /(\/\*=('?)([\w.]+)\2\*\/)(.*?)(\/\*=\*\/)/gs

/** The text of a migration with other names of the app than the default's. */
export function withAppTables(sql: string, tables: AppTables): string {
  if (Object.keys(tables).length === 0) return sql
  const texts: Record<string, string> = { ...tables, names: literal(described(tables)) }
  return sql.replaceAll(MARKED, (whole, mark: string, quote: string, name: string, _default, end: string) => {
    const text = texts[name]
    return text === undefined ? whole : `${mark}${quote ? literal(text) : text}${end}`
  })
}

/** The text of a migration without any names of the app, to compare one that was written for other names. */
export const withoutAppTables = (sql: string): string => sql.replaceAll(MARKED, '$1$5')
