import type { EventStatus, UnclaimedEvent } from '../status.ts'
import { plain, type Terminal, wrap } from '../terminal.ts'
import { amount, away, clock } from '../words.ts'
import { lateOf, type View } from './view.ts'

/** Something about an event that needs somebody. */
export interface Concern {
  label: 'LATE' | 'FAILED' | 'STUCK' | 'WAITS'
  text: string
  /** What to type. */
  command?: string
}

const INDENT = 8

/** The label, the text behind it, and the command below. */
export function viewConcern({ label, text, command }: Concern, { paint, columns }: Terminal): string {
  const said = paint('red', label.padEnd(INDENT)) + wrap(text, columns, INDENT).trimStart()
  return command ? `${said}\n${' '.repeat(INDENT)}${command}` : said
}

/** What of an event needs somebody, failed attendees aside. */
export function concernsOf(event: EventStatus, { now, option }: View): Concern[] {
  if (event.state === 'unclaimed') {
    const text = whyUnclaimed(event, now)
    return text ? [{ label: 'WAITS', text }] : []
  }
  const concerns: Concern[] = []
  if (event.late && event.ready_at) {
    const text = `ready at ${clock(event.ready_at, now)}, ${lateOf(event)} after its start, at the present pace.`
    concerns.push({ label: 'LATE', text })
  }
  if (event.state === 'failed' && event.reason === 'event_inactive')
    concerns.push({ label: 'FAILED', text: 'it was deactivated before everybody was indexed.' })
  if (event.state === 'failed' && event.reason === 'collection_failed') {
    const error = plain(event.collection_error ?? '')
    concerns.push({
      label: 'FAILED',
      text: `its collection could not be made. ${error} Once that is mended:`,
      command: `npx event-indexer replay${option} --event ${event.event_id}`,
    })
  } else if (event.collection_error !== null)
    concerns.push({
      label: 'STUCK',
      text: `its collection could not be made yet. ${plain(event.collection_error)}`,
    })
  return concerns
}

/** That attendees have failed, and where to read why. */
export function failureOf(event: EventStatus, { option }: View): Concern[] {
  if (event.state === 'unclaimed' || event.attendees.failed === 0) return []
  const text = `${amount(event.attendees.failed, 'attendee')}. Why:`
  return [{ label: 'FAILED', text, command: `npx event-indexer status${option} --event ${event.event_id}` }]
}

const CLAIM_MINUTES = 20 // before the start, unless the scheduler is called with another window
const GRACE_MINUTES = 3 // of the scheduler, which runs every minute

/** What keeps an event from its claim that should have been claimed by now. */
function whyUnclaimed({ active, starts_at, status }: UnclaimedEvent, now: Date): string | undefined {
  if (starts_at === null) return undefined
  const minutes = (Date.parse(starts_at) - now.getTime()) / 60_000
  if (minutes > CLAIM_MINUTES - GRACE_MINUTES) return undefined
  const start = `${minutes < 0 ? 'started' : 'starts'} ${away(starts_at, now)}`
  if (!active) return `${start} and is not active: nobody is indexed.`
  if (status !== 'pending')
    return `${start}, and its indexing_status is ${status}: only pending events are claimed.`
  return `${start} and is not claimed yet. The scheduler comes every minute: if this stays, its log says why.`
}
