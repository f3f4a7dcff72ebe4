import { type ClaimedEvent, type EventStatus, openOf, type UnclaimedEvent } from '../status.ts'
import { plain, type Terminal, wrap } from '../terminal.ts'
import { amount, away, clock, span } from '../words.ts'
import { lateOf, type View } from './view.ts'

/** Something about an event that needs somebody. */
export interface Concern {
  label: 'LATE' | 'FAILED' | 'STUCK' | 'WAITS' | 'PAUSED'
  text: string
  /** What to type, and the words that lead to it. */
  command?: string
  lead?: string
}

const INDENT = 8

/** The label, the text behind it, and the command below. */
export function viewConcern({ label, text, command, lead }: Concern, { paint, columns }: Terminal): string {
  const words = [text, lead].filter(Boolean).join(' ')
  const said = paint('red', label.padEnd(INDENT)) + wrap(words, columns, INDENT).trimStart()
  return command ? `${said}\n${' '.repeat(INDENT)}${command}` : said
}

/** What of an event needs somebody, failed attendees aside. */
export function concernsOf(event: EventStatus, { now, option }: Pick<View, 'now' | 'option'>): Concern[] {
  if (event.state === 'unclaimed') {
    const text = whyUnclaimed(event, now)
    return [...pausedOf(event, option), ...(text ? [{ label: 'WAITS' as const, text }] : [])]
  }
  const concerns = pausedOf(event, option)
  if (event.late && event.ready_at) {
    const text = `ready at ${clock(event.ready_at, now)}, ${lateOf(event)} after its start, at the present pace; ${amount(event.missing_at_start, 'attendee')} will be missing then. ${FASTER}`
    concerns.push({ label: 'LATE', text })
  }
  if (event.state === 'failed' && event.reason === 'collection_failed') {
    const error = plain(event.collection_error ?? '')
    concerns.push({
      label: 'FAILED',
      text: `its collection could not be made. ${error} It is tried again by itself while the event lasts.`,
      lead: 'At once by:',
      command: `npx event-indexer replay${option} --event ${event.event_id}`,
    })
  } else if (event.collection_error !== null)
    concerns.push({
      label: 'STUCK',
      text: `its collection could not be ${event.collection === 'closing' ? 'deleted' : 'made'} yet. ${plain(event.collection_error)}`,
    })
  else if (isStuck(event, now)) concerns.push(stuck(event, now, option))
  return concerns
}

const FASTER =
  "If the account's quota of IndexFaces is higher than INDEX_FACES_TPS, deploy with that value; else ask AWS for more."

/** That an operator has paused it, while it has somebody to index. */
function pausedOf(event: EventStatus, option: string): Concern[] {
  const open = event.state === 'unclaimed' ? event.attendees : openOf(event)
  if (event.paused === null || open === 0) return []
  const what = event.paused === 'event' ? 'an operator has paused it' : 'an operator has paused everything'
  const late =
    event.state !== 'unclaimed' && event.late
      ? ` Even if it is resumed now, ${amount(event.missing_at_start, 'attendee')} will be missing at its start.`
      : ''
  return [
    {
      label: 'PAUSED',
      text: `${what}; ${amount(open, 'attendee')} wait, erasures go on.${late}`,
      lead: 'To go on:',
      command: `npx event-indexer resume${option} ${event.paused === 'event' ? `--event ${event.event_id}` : '--all'}`,
    },
  ]
}

const STUCK_AFTER_MS = 120_000 // what `ended_lately` looks back

/** Whether nobody of it has had an outcome of late though somebody waits, and it is its turn. */
const isStuck = ({ ahead, ended_lately, oldest_open, paused }: ClaimedEvent, now: Date): boolean =>
  paused === null &&
  ended_lately === 0 &&
  ahead === 0 &&
  oldest_open !== null &&
  now.getTime() - Date.parse(oldest_open) > STUCK_AFTER_MS

function stuck(event: ClaimedEvent, now: Date, option: string): Concern {
  const since = span(now.getTime() - Date.parse(event.last_ended ?? event.claimed_at))
  const [error] = Object.entries(event.open)
    .filter(([text]) => text !== '')
    .sort(([, a], [, b]) => b - a)
  const why = error
    ? ` The error of most: ${plain(error[0])}`
    : ' No attempt left an error: does the worker run?'
  return {
    label: 'STUCK',
    text: `${amount(openOf(event), 'attendee')} wait, and none had an outcome for ${since}.${why}`,
    command: `npx event-indexer status${option} --event ${event.event_id}`,
  }
}

/** That attendees have failed, and where to read why. */
export function failureOf(event: EventStatus, { option }: Pick<View, 'option'>): Concern[] {
  if (event.state === 'unclaimed' || event.attendees.failed === 0) return []
  const text = `${amount(event.attendees.failed, 'attendee')}.`
  return [
    {
      label: 'FAILED',
      text,
      lead: 'Why:',
      command: `npx event-indexer status${option} --event ${event.event_id}`,
    },
  ]
}

const CLAIM_MINUTES = 20 // before the start, unless the scheduler is called with another window
const GRACE_MINUTES = 3 // of the scheduler, which runs every minute

/** What keeps an event from its claim that should have been claimed by now. */
export function whyUnclaimed({ active, starts_at, status }: UnclaimedEvent, now: Date): string | undefined {
  if (starts_at === null) return undefined
  const minutes = (Date.parse(starts_at) - now.getTime()) / 60_000
  if (minutes > CLAIM_MINUTES - GRACE_MINUTES) return undefined
  const start = `${minutes < 0 ? 'started' : 'starts'} ${away(starts_at, now)}`
  if (!active) return `${start} and is not active: nobody is indexed.`
  if (status !== 'pending')
    return `${start}, and its indexing_status is ${status}: only pending events are claimed.`
  return `${start} and is not claimed yet. The scheduler comes every minute: if this stays, its log says why.`
}
