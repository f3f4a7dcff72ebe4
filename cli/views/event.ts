import { type Reason, reasonOf } from '../reasons.ts'
import { type ClaimedEvent, type Details, type EventStatus, openOf } from '../status.ts'
import { plain, type Terminal, wrap } from '../terminal.ts'
import { amount, away, clock, figure, span } from '../words.ts'
import { concernsOf, viewConcern } from './concerns.ts'
import { nameOf, rateOf, readyOf, STYLES, statusOf, type View } from './view.ts'

/** One event with everything about it: what failed and why, who was skipped and what to tell them. */
export function viewEvent(event: EventStatus, details: Details | null, view: View): string {
  const parts = [viewHead(event, view), viewFacts(event, view)]
  if (event.state !== 'unclaimed') parts.push(viewOpen(event, view))
  if (details) parts.push(viewFailures(event, details, view), viewSkips(details, view))
  return parts.filter(Boolean).join('\n\n')
}

function viewHead(event: EventStatus, view: View): string {
  const { paint } = view.terminal
  const concerns = concernsOf(event, view).map((concern) => viewConcern(concern, view.terminal))
  const head = `${paint('bold', nameOf(event))}\n${paint('dim', event.event_id)}`
  return concerns.length > 0 ? `${head}\n\n${concerns.join('\n')}` : head
}

function viewFacts(event: EventStatus, { terminal, now }: View): string {
  const { paint } = terminal
  const fact = (label: string, value: string) => `  ${paint('dim', label.padEnd(10))}${value}`
  const start =
    event.starts_at === null ? 'never' : `${clock(event.starts_at, now)}, ${away(event.starts_at, now)}`
  const status = paint(STYLES[event.state], statusOf(event))
  if (event.state === 'unclaimed')
    return [
      fact('Starts', start),
      fact('Status', `${status}, not claimed`),
      fact('Attendees', `${figure(event.attendees)} consent`),
    ].join('\n')

  const { indexed, skipped, failed, erased, queued, in_flight } = event.attendees
  const oldest = event.oldest_open
    ? `, the oldest for ${span(now.getTime() - Date.parse(event.oldest_open))}`
    : ''
  return [
    fact('Starts', start),
    fact('Status', [status, readyOf(event, now)].filter(Boolean).join(', ')),
    fact('Done', barOf(event, terminal)),
    fact('Indexed', figure(indexed)),
    fact('Skipped', figure(skipped)),
    fact('Failed', failed > 0 ? paint('red', figure(failed)) : '0'),
    fact('Erased', figure(erased)),
    fact('Open', `${figure(queued)} queued, ${figure(in_flight)} in flight${oldest}`),
    fact('Ended', `${rateOf(event.ended_lately)} in the last two minutes`),
    fact('Calls', `${figure(event.index_calls)} of IndexFaces`),
  ].join('\n')
}

const BAR = 48

/** How far it is: attendees with an outcome among all. */
function barOf(event: ClaimedEvent, { paint }: Terminal): string {
  const { indexed, skipped, failed, erased } = event.attendees
  const ended = indexed + skipped + failed + erased
  const all = ended + openOf(event)
  if (all === 0) return 'nobody to index so far'
  const filled = Math.floor((ended / all) * BAR)
  const bar = paint('green', '█'.repeat(filled)) + paint('dim', '░'.repeat(BAR - filled))
  return `${bar} ${Math.floor((ended / all) * 100)} %`
}

/** Attendees without an outcome, by what went wrong at their last attempt. */
function viewOpen({ open }: ClaimedEvent, { terminal }: View): string {
  const errors = Object.entries(open)
    .filter(([error]) => error !== '')
    .sort(([, a], [, b]) => b - a)
  if (errors.length === 0) return ''
  const waiting = errors.reduce((sum, [, count]) => sum + count, 0)
  return [
    terminal.paint('yellow', `TRIED AGAIN ${figure(waiting)}`),
    ...errors.map(([error, count]) => wrap(`${figure(count)} × ${plain(error)}`, terminal.columns, 2)),
  ].join('\n')
}

function viewFailures(event: EventStatus, { failures }: Details, { terminal, option }: View): string {
  if (failures.length === 0) return ''
  const groups = [...groupBy(failures, ({ reason }) => reason ?? 'unknown')].flatMap(([code, group]) => [
    ...introduce(code, group.length, terminal),
    ...[...groupBy(group, ({ error }) => error ?? 'no error was recorded')].flatMap(([error, jobs]) => [
      wrap(plain(error), terminal.columns, 4),
      ...list(jobs, ({ user_id, attempts }) => `${user_id}  ${amount(attempts, 'attempt')}`, terminal),
    ]),
  ])
  return [
    terminal.paint('red', `FAILED ${figure(failures.length)}`),
    ...groups,
    '  They are tried again by themselves at growing intervals while the event lasts; at once by:',
    `    npx event-indexer replay${option} --event ${event.event_id}`,
  ].join('\n')
}

function viewSkips({ skips }: Details, { terminal }: View): string {
  if (skips.length === 0) return ''
  const groups = [...groupBy(skips, ({ reason }) => reason ?? 'unknown')].flatMap(([code, group]) => [
    ...introduce(code, group.length, terminal),
    ...list(group, ({ user_id }) => user_id, terminal),
  ])
  return [
    terminal.paint('yellow', `SKIPPED ${figure(skips.length)}`),
    ...groups,
    '  An attendee who changes their photo is looked at again by itself.',
  ].join('\n')
}

/** The reason, what the operator does about it, and what to tell the attendees. */
function introduce(code: string, count: number, { paint, columns }: Terminal): string[] {
  const { title, remedy, toAttendee }: Reason = reasonOf(code)
  const head = `  ${paint('bold', `${figure(count)} × ${title}`)} ${paint('dim', `(${code})`)}`
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
