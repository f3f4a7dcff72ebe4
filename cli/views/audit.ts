import { type Audited, differs } from '../audit.ts'
import { kindsOf, RECREATED } from '../differences.ts'
import type { Session } from '../session.ts'
import type { Terminal } from '../terminal.ts'
import { amount, figure } from '../words.ts'

const SHOWN = 20

/** How the collection of an event differs from what it should be. */
export function viewAudited(audited: Audited, { paint }: Terminal): string {
  const { differences, event_id, faces, foreign, recreated, who } = audited
  const head = `${paint('bold', event_id)}  ${amount(faces, 'face')} of attendees`
  if (!differs(audited)) return `${head}\n  ${paint('green', 'as it should be')}`
  const line = (kind: string, count: number, words: string) =>
    `  ${paint('yellow', kind.padEnd(14))}${figure(count).padStart(7)}  ${words}`
  const kinds = kindsOf(differences).map(({ count, kind, words }) => line(kind, count, words))
  if (recreated) kinds.push(`  ${RECREATED}`)
  if (foreign > 0)
    kinds.push(line('foreign', foreign, 'faces whose ExternalImageId is no user id; they are never touched'))
  const shown = who.slice(0, SHOWN).map(({ difference, user_id }) => `    ${user_id}  ${difference}`)
  const more = who.length > SHOWN ? [`    … and ${figure(who.length - SHOWN)} more: --json lists them`] : []
  return [head, ...kinds, ...shown, ...more].join('\n')
}

/** Collections that belong to no event, and how each is deleted. */
export function viewOrphans(orphans: string[], { system, terminal: { paint } }: Session): string {
  if (orphans.length === 0) return 'Every collection with our prefix belongs to an event.'
  return `${paint('yellow', `${amount(orphans.length, 'collection')} with our prefix and no event of ours. Another stage's, with the same prefix? Left by a restored backup?`)}
${orphans.map((collection) => `  ${collection}`).join('\n')}
To delete one: npx event-indexer audit${system.option} --delete-collection ID`
}
