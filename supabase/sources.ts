import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { withMarks } from './app-tables.ts'

/** Later files use functions of earlier ones; `rights` comes last, over all of them. */
export const SOURCES = [
  'app',
  'notes',
  'jobs',
  'pace',
  'settle',
  'receipts',
  'claim',
  'collections',
  'pause',
  'actions',
  'outbox',
  'lease',
  'complete',
  'dead-letters',
  'rescue',
  'changes',
  'reconcile',
  'retention',
  'replay',
  'report',
  'fit',
  'doctor',
  'rights',
] as const

const SOURCE = new URL('source/', import.meta.url)

export const sourceOf = (name: string): string => readFileSync(new URL(`${name}.sql`, SOURCE), 'utf8')

export const checksum = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16)

/** The text of a migration: steps by hand, then the given sources, whole. */
export function migrationOf(sources: string[], heading: string): string {
  // Supabase grants new functions of schema public to everybody, so the rights are given anew each time.
  const names = SOURCES.filter((name) => sources.includes(name) || name === 'rights')
  const parts = names.map((name) => {
    const text = sourceOf(name)
    return `-- ── ${name}.sql ${checksum(text)}\n\n${withMarks(text)}`
  })
  return `${heading}\n-- Written by "npm run migration" from supabase/source. Edit there.\n\n${parts.join('\n')}`
}
