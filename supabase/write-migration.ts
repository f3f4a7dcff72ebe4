/**
 * Writes the functions of supabase/source/ into a migration: `npm run migration -- <name>`.
 *
 * The newest migration of functions is written anew as long as it is not released. After that, a new file gets the sources
 * that have changed since, whole. `npm run migration -- --release` notes the checksums of all files: from then on they are
 * never edited, which a test proves.
 *
 * `npm run migration -- --to DIR` writes all migrations into a folder, with the names of app-tables.yml.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { ownAppTables } from './app-tables.ts'
import { migrationNames, migrations } from './migrations.ts'
import { writeReleasedContract } from './released-contract.ts'
import { checksum, migrationOf, SOURCES, sourceOf } from './sources.ts'

const MIGRATIONS = new URL('migrations/', import.meta.url)
const RELEASED = new URL('released.json', import.meta.url)
const MARK = /^-- ── (\S+)\.sql (\w{16})$/gm

const read = (name: string, base: URL): string => readFileSync(new URL(name, base), 'utf8')

/** The checksums of released files, by name. */
export const releasedFiles = (): Record<string, string> =>
  JSON.parse(read('released.json', new URL('.', RELEASED)))

/** The checksum of each source as the given migrations have it last. */
function writtenSources(files: string[]): Map<string, string> {
  const marks = files.flatMap((file) => [...read(file, MIGRATIONS).matchAll(MARK)])
  return new Map(marks.map(([, source = '', sum = '']) => [source, sum]))
}

/** Sources that are not, or not as they are now, in the given migrations. */
export const changedSources = (files: string[]): string[] => {
  const written = writtenSources(files)
  return SOURCES.filter((name) => written.get(name) !== checksum(sourceOf(name)))
}

const isOfFunctions = (file: string): boolean => writtenSources([file]).size > 0

/** Everything before the generated part: the steps that were written by hand. */
const handwritten = (file: string): string =>
  read(file, MIGRATIONS).split('\n-- Written by "npm run migration"')[0] ?? ''

function write(name: string | undefined): string {
  const files = migrationNames()
  const released = releasedFiles()
  const newest = files.filter(isOfFunctions).at(-1)
  const unreleased = newest !== undefined && !(newest in released) ? newest : undefined
  const before = files.filter((file) => file !== unreleased)
  const sources = changedSources(before)
  if (sources.length === 0) return 'No source has changed: nothing to write.'
  if (unreleased === undefined && !name)
    throw new Error('Give the new migration a name: npm run migration -- what_it_changes')
  const stamp = new Date().toISOString().replace(/\D/g, '').slice(0, 14)
  const file = unreleased ?? `${stamp}_event_indexer_${name}.sql`
  const heading = unreleased
    ? handwritten(unreleased)
    : `-- ${name?.replaceAll('_', ' ')}: steps by hand go here.`
  writeFileSync(new URL(file, MIGRATIONS), migrationOf(sources, heading))
  return `${file}: ${sources.join(', ')}`
}

function release(): string {
  const entries = migrationNames().map((file) => [file, checksum(read(file, MIGRATIONS))])
  writeFileSync(RELEASED, `${JSON.stringify(Object.fromEntries(entries), null, 2)}\n`)
  writeReleasedContract()
  return `${entries.length} migrations are released: they are not edited any more.`
}

/** Writes the migrations into a folder, for psql or the command line of Supabase. */
function writeTo(folder: string): string {
  const tables = ownAppTables()
  mkdirSync(folder, { recursive: true })
  const all = migrations(tables)
  for (const { name, sql } of all) writeFileSync(join(folder, name), sql)
  const names = Object.keys(tables).length > 0 ? 'the names of app-tables.yml' : 'the default names'
  return `${all.length} migrations with ${names} are in ${folder}.`
}

function main(): string {
  const options = { release: { type: 'boolean' }, to: { type: 'string' } } as const
  const { values, positionals } = parseArgs({ options, allowPositionals: true })
  if (values.release) return release()
  return values.to === undefined ? write(positionals[0]) : writeTo(values.to)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    console.log(main())
  } catch (error) {
    console.error((error as Error).message)
    process.exitCode = 1
  }
}
