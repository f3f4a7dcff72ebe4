import { type EventStatus, openOf } from './status.ts'
import { whyUnclaimed } from './views/concerns.ts'
import { readyOf } from './views/view.ts'
import { amount, away, span } from './words.ts'

/** Whether an event may open its doors: its attendees are recognised, and nothing waits that should be done. */
export interface Verdict {
  go: boolean
  /** What keeps it from that; when nothing does, what is worth knowing. */
  because: string[]
}

/** A change of the app is followed within seconds; one that waits for longer than this has met a problem. */
const UNDER_WAY_MS = 120_000

export function verdictOf(event: EventStatus, now: Date): Verdict {
  if (event.state === 'unclaimed') return { go: false, because: [notClaimed(event, now)] }
  const against: string[] = []
  if (event.status === null) against.push('it was deleted')
  else if (event.status === 'in_progress')
    against.push(
      ['it is still being indexed', `${amount(openOf(event), 'attendee')} open`, readyOf(event, now)]
        .filter(Boolean)
        .join(', '),
    )
  else if (event.status !== 'completed')
    against.push(`its indexing_status is ${event.status}: the app recognises nobody`)
  if (event.collection !== 'ready') against.push(`its collection is ${event.collection}`)

  const { indexed, skipped, failed } = event.attendees
  if (event.paused !== null && openOf(event) > 0)
    against.push(`an operator has paused ${event.paused === 'event' ? 'it' : 'everything'}`)
  const waited = event.oldest_open === null ? 0 : now.getTime() - Date.parse(event.oldest_open)
  if (event.status === 'completed' && waited > UNDER_WAY_MS)
    against.push(`${amount(openOf(event), 'change')} wait, the oldest for ${span(waited)}`)
  if (against.length > 0 && failed > 0) against.push(`${amount(failed, 'attendee')} failed`)
  if (against.length > 0) return { go: false, because: against }

  const counts = [`${amount(indexed, 'attendee')} indexed`]
  if (skipped > 0) counts.push(`${skipped} skipped`)
  if (failed > 0) counts.push(`${failed} failed`)
  if (waited > 0) counts.push(`${amount(openOf(event), 'change')} under way`)
  return { go: true, because: [counts.join(', ')] }
}

function notClaimed(event: EventStatus & { state: 'unclaimed' }, now: Date): string {
  const why = whyUnclaimed(event, now)
  if (why !== undefined) return why.replace(/\.$/, '') // as the others, it is a part of a sentence
  if (event.starts_at === null) return 'it has no start: only events with one are claimed'
  return `it is not claimed yet, and starts ${away(event.starts_at, now)}`
}
