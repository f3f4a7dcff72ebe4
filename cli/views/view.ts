import { type ClaimedEvent, type EventStatus, openOf } from '../status.ts'
import { plain, type Style, type Terminal, wrap } from '../terminal.ts'
import { amount, clock, figure, span } from '../words.ts'

/** What a view needs besides what it shows. */
export interface View {
  terminal: Terminal
  now: Date
  /** The option that leads commands to this system. */
  option: string
}

/** Columns before the value of a fact. */
export const FACT_INDENT = 12

/** A name and its value, which may take several lines. */
export const fact = (name: string, value: string, { columns, paint }: Terminal): string =>
  paint('dim', `  ${name}`.padEnd(FACT_INDENT)) + wrap(value, columns, FACT_INDENT).trimStart()

export const nameOf = ({ name }: EventStatus): string => plain(name ?? '') || '(without a name)'

/** The app's word for how an event stands, where it has one that fits. */
export function statusOf(event: EventStatus): string {
  if (event.state === 'unclaimed') return event.active ? (event.status ?? 'no status') : 'inactive'
  if (event.paused !== null && openOf(event) > 0) return 'paused'
  return event.status === null ? 'deleted' : event.status.replace('_', ' ')
}

export const STYLES: Record<EventStatus['state'], Style> = {
  unclaimed: 'dim',
  in_progress: 'cyan',
  completed: 'green',
  failed: 'red',
}

/** When an event ended or is expected to; '' where that is not known. */
export function readyOf({ settled_at, ready_at, collection }: ClaimedEvent, now: Date): string {
  if (settled_at !== null) return `ended ${clock(settled_at, now)}`
  if (ready_at !== null) return `ready ${clock(ready_at, now)}`
  return collection === 'ready' ? '' : 'its collection is being made'
}

/** By how much an event will be late; '' when it will not be. */
export const lateOf = ({ late, ready_at, starts_at }: ClaimedEvent): string =>
  late && ready_at !== null ? span(Date.parse(ready_at) - Date.parse(starts_at)) : ''

const LATELY_MS = 120_000 // what `ended_lately` looks back

/** How many attendees of these events had an outcome of late, and what rate that is; since the first claim, if that was just now. */
export function measured(events: EventStatus[], now: Date): string {
  const claimed = events.filter((event) => event.state !== 'unclaimed')
  const ended = claimed.reduce((sum, { ended_lately }) => sum + ended_lately, 0)
  const ages = claimed.map(({ claimed_at }) => now.getTime() - Date.parse(claimed_at))
  const ms = Math.min(LATELY_MS, Math.max(1_000, ...ages))
  const time = ms < LATELY_MS ? span(ms) : 'two minutes'
  return `${amount(ended, 'attendee')} in the last ${time} (${Number(((ended / ms) * 1000).toFixed(1))} a second)`
}

/** An event on one line, where nothing can be redrawn. */
export function viewLine(event: EventStatus): string {
  if (event.state === 'unclaimed') return `${nameOf(event)}: ${statusOf(event)}, not claimed`
  const { indexed, skipped, failed } = event.attendees
  const counts = `${figure(indexed)} indexed, ${figure(skipped)} skipped, ${figure(failed)} failed, ${figure(openOf(event))} open`
  return `${nameOf(event)}: ${statusOf(event)}, ${counts}${event.late ? ', LATE' : ''}`
}

/** Counted things, the most frequent first. */
export const byCount = (counts: Record<string, number>): [what: string, count: number][] =>
  Object.entries(counts).sort(([, a], [, b]) => b - a)

/** What the last attempts of attendees without an outcome met, the most frequent first. */
export const errorsOf = ({ open }: ClaimedEvent): [error: string, count: number][] =>
  byCount(open).filter(([error]) => error !== '')

/** What happens to attendees whose last attempt went wrong, without anybody's doing. */
export const BY_THEMSELVES = {
  open: 'They are tried again by themselves, at the latest after six minutes.',
  failed: 'They are tried again by themselves at growing intervals while the event lasts',
}
