import { adviceOf } from '../advice.ts'
import { reasonOf } from '../reasons.ts'
import { type AttendeeRow, type ClaimedEvent, type Details, type EventStatus, openOf } from '../status.ts'
import { plain, type Terminal, wrap } from '../terminal.ts'
import { amount, away, clock, figure, span } from '../words.ts'
import { concernsOf, viewConcern } from './concerns.ts'
import { viewDrift } from './drift.ts'
import {
  BY_THEMSELVES,
  errorsOf,
  FACT_INDENT,
  fact,
  measured,
  nameOf,
  readyOf,
  STYLES,
  statusOf,
  type View,
} from './view.ts'

/** One event with everything about it: what failed and why, who was skipped and what to tell them. */
export function viewEvent(event: EventStatus, details: Details | null, view: View): string {
  const parts = [viewHead(event, view), viewFacts(event, view)]
  if (event.state !== 'unclaimed') parts.push(viewOpen(event, view))
  if (details)
    parts.push(
      viewFailures(event, details, view),
      viewSkips(event, details, view),
      viewDrift(details.drift, view),
    )
  return parts.filter(Boolean).join('\n\n')
}

const LISTED = 1000 // attendees

/** The attendees of an event, one a line: id, state and reason, and the name where names are wanted. */
export function viewAttendees(attendees: AttendeeRow[], { terminal }: View): string {
  const lines = attendees.slice(0, LISTED).map(({ user_id, name, state, reason, photo_key }) => {
    const key = reason === 'photo_missing' && photo_key ? `, ${plain(photo_key)}` : ''
    const why = reason === null ? '' : `: ${reasonOf(reason).title} (${reason})${key}`
    return wrap(`${user_id}  ${name === null ? '' : `${plain(name)}  `}${state}${why}`, terminal.columns, 2)
  })
  const more = attendees.length - LISTED
  if (more > 0) lines.push(`  … and ${figure(more)} more: --json lists them all`)
  return [terminal.paint('bold', amount(attendees.length, 'attendee')), ...lines].join('\n')
}

function viewHead(event: EventStatus, view: View): string {
  const { paint } = view.terminal
  const concerns = concernsOf(event, view).map((concern) => viewConcern(concern, view.terminal))
  const head = `${paint('bold', nameOf(event))}\n${paint('dim', event.event_id)}`
  return concerns.length > 0 ? `${head}\n\n${concerns.join('\n')}` : head
}

function viewFacts(event: EventStatus, { terminal, now }: View): string {
  const { paint } = terminal
  const line = (name: string, value: string) => fact(name, value, terminal)
  const start =
    event.starts_at === null ? 'never' : `${clock(event.starts_at, now)}, ${away(event.starts_at, now)}`
  const status = paint(STYLES[event.state], statusOf(event))
  if (event.state === 'unclaimed')
    return [
      line('Starts', start),
      line('Status', `${status}, not claimed`),
      line('Attendees', `${figure(event.attendees)} consent`),
    ].join('\n')

  const { indexed, skipped, failed, erased, queued, in_flight } = event.attendees
  const oldest = event.oldest_open
    ? `, the oldest for ${span(now.getTime() - Date.parse(event.oldest_open))}`
    : ''
  return [
    line('Starts', start),
    line('Status', [status, readyOf(event, now)].filter(Boolean).join(', ')),
    line('Done', barOf(event, terminal)),
    line('Indexed', figure(indexed)),
    line('Skipped', figure(skipped)),
    line('Failed', failed > 0 ? paint('red', figure(failed)) : '0'),
    line('Erased', figure(erased)),
    ...(event.paused === null
      ? []
      : [line('Paused', event.paused === 'event' ? 'yes' : 'yes, with everything')]),
    line('Open', `${figure(queued)} queued, ${figure(in_flight)} in flight${oldest}`),
    line('Ended', measured([event], now)),
    line('Calls', `${figure(event.index_calls)} of IndexFaces`),
  ].join('\n')
}

const BAR = 48 // characters, where there is room for it

/** How far it is: attendees with an outcome among all. */
function barOf(event: ClaimedEvent, { paint, columns }: Terminal): string {
  const { indexed, skipped, failed, erased } = event.attendees
  const ended = indexed + skipped + failed + erased
  const all = ended + openOf(event)
  if (all === 0) return 'nobody to index so far'
  const width = Math.max(10, Math.min(BAR, columns - FACT_INDENT - 6))
  const filled = Math.floor((ended / all) * width)
  const bar = paint('green', '█'.repeat(filled)) + paint('dim', '░'.repeat(width - filled))
  return `${bar} ${Math.floor((ended / all) * 100)} %`
}

/** Attendees without an outcome, by what went wrong at their last attempt. */
function viewOpen(event: ClaimedEvent, { terminal }: View): string {
  const errors = errorsOf(event)
  if (errors.length === 0) return ''
  const waiting = errors.reduce((sum, [, count]) => sum + count, 0)
  return [
    terminal.paint('yellow', `TRIED AGAIN ${figure(waiting)}`),
    ...errors.map(([error, count]) => wrap(`${figure(count)} × ${plain(error)}`, terminal.columns, 2)),
    wrap(BY_THEMSELVES.open, terminal.columns, 2),
  ].join('\n')
}

function viewFailures(event: EventStatus, { failures }: Details, { terminal, option }: View): string {
  if (failures.length === 0) return ''
  const groups = [...groupBy(failures, ({ reason }) => reason ?? 'unknown')].flatMap(([code, group]) => [
    ...introduce(code, group.length, event, terminal),
    ...[...groupBy(group, ({ error }) => error ?? 'no error was recorded')].flatMap(([error, jobs]) => [
      wrap(plain(error), terminal.columns, 4),
      ...list(jobs, ({ user_id, attempts }) => `${user_id}  ${amount(attempts, 'attempt')}`, terminal),
    ]),
  ])
  return [
    terminal.paint('red', `FAILED ${figure(failures.length)}`),
    ...groups,
    wrap(`${BY_THEMSELVES.failed}; at once by:`, terminal.columns, 2),
    `    npx event-indexer replay${option} --event ${event.event_id}`,
  ].join('\n')
}

function viewSkips(event: EventStatus, { skips }: Details, { terminal }: View): string {
  if (skips.length === 0) return ''
  const groups = [...groupBy(skips, ({ reason }) => reason ?? 'unknown')].flatMap(([code, group]) => [
    ...introduce(code, group.length, event, terminal),
    ...list(
      group,
      ({ user_id, photo_key }) =>
        code === 'photo_missing' ? `${user_id}  ${plain(photo_key ?? '')}` : user_id,
      terminal,
    ),
  ])
  return [
    terminal.paint('yellow', `SKIPPED ${figure(skips.length)}`),
    ...groups,
    wrap('An attendee who changes their photo is looked at again by itself.', terminal.columns, 2),
  ].join('\n')
}

/** The reason, what the operator does about it, and what to tell the attendees. */
function introduce(code: string, count: number, event: EventStatus, { paint, columns }: Terminal): string[] {
  const head = `  ${paint('bold', `${figure(count)} × ${reasonOf(code).title}`)} ${paint('dim', `(${code})`)}`
  const { remedy, toAttendee } = adviceOf(code, count, event)
  const advice = [remedy, toAttendee && `Tell them: “${toAttendee}”`].filter((line) => line !== undefined)
  return [head, ...advice.map((line) => wrap(line, columns, 4))]
}

const SHOWN = 20 // attendees of one reason

function list<T>(items: T[], lineOf: (item: T) => string, { paint }: Terminal): string[] {
  const lines = items.slice(0, SHOWN).map((item) => `      ${paint('dim', lineOf(item))}`)
  const more = items.length - SHOWN
  return more > 0 ? [...lines, `      … and ${figure(more)} more: --json lists them all`] : lines
}

function groupBy<T>(items: T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>()
  for (const item of items) {
    const group = groups.get(keyOf(item))
    if (group) group.push(item)
    else groups.set(keyOf(item), [item])
  }
  return groups
}
