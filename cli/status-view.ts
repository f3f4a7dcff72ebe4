import { type Reason, reasonOf } from './reasons.ts'
import { type ClaimedEvent, type Details, type EventStatus, openOf, type UnclaimedEvent } from './status.ts'
import { type Column, plain, type Style, type Terminal, tableOf, wrap } from './terminal.ts'
import { amount, away, clock, figure, span } from './words.ts'

/** What a view needs besides what it shows. */
export interface View {
  terminal: Terminal
  now: Date
  /** The option that leads commands to this system. */
  option: string
}

const nameOf = ({ name }: EventStatus) => plain(name ?? '') || '(without a name)'

const STATES: Record<EventStatus['state'], [text: string, style: Style]> = {
  unclaimed: ['waits', 'dim'],
  in_progress: ['in progress', 'cyan'],
  completed: ['completed', 'green'],
  failed: ['failed', 'red'],
}

/** All events: first what needs somebody, then a table. */
export function viewOverview(events: EventStatus[], view: View): string {
  if (events.length === 0)
    return 'No event is in progress, has started within the last day, or starts within the next.'
  return `${viewConcerns(events, view)}\n\n${viewTable(events, view)}`
}

/** What needs somebody's attention, a line each; or that nothing does. */
export function viewConcerns(events: EventStatus[], view: View): string {
  const concerns = events.flatMap((event) => [...concernsOf(event, view), ...failureOf(event, view)])
  if (concerns.length > 0) return concerns.join('\n')
  const { paint } = view.terminal
  const open = events.filter(({ state }) => state !== 'completed').length
  const all = amount(events.length, 'event')
  return open === 0 ? paint('green', `All done: ${all}.`) : paint('green', `All as it should be: ${all}.`)
}

const concern = (label: string, event: EventStatus, text: string, { paint, columns }: Terminal) =>
  paint('red', label.padEnd(8)) + wrap(`${nameOf(event)}: ${text}`, columns, 8).trimStart()

function concernsOf(event: EventStatus, { terminal, now }: View): string[] {
  if (event.state === 'unclaimed') {
    const why = whyUnclaimed(event, now)
    return why ? [concern('WAITS', event, why, terminal)] : []
  }
  const concerns: string[] = []
  if (event.late && event.ready_at) {
    const late = span(Date.parse(event.ready_at) - Date.parse(event.starts_at))
    const text = `ready at ${clock(event.ready_at, now)}, ${late} after its start, at the present pace.`
    concerns.push(concern('LATE', event, text, terminal))
  }
  if (event.collection_error)
    concerns.push(
      concern('STUCK', event, `its collection cannot be made. ${plain(event.collection_error)}`, terminal),
    )
  if (event.state === 'failed' && event.reason === 'event_inactive')
    concerns.push(concern('FAILED', event, 'it was deactivated before everybody was indexed.', terminal))
  return concerns
}

function failureOf(event: EventStatus, { terminal, option }: View): string[] {
  if (event.state === 'unclaimed' || event.attendees.failed === 0) return []
  const failed = amount(event.attendees.failed, 'attendee')
  const why = `npx event-indexer status${option} --event ${event.event_id}`
  return [concern('FAILED', event, `${failed}. Why: ${why}`, terminal)]
}

const CLAIM_MINUTES = 20 // before the start, unless the scheduler is called with another window
const GRACE_MINUTES = 3 // of the scheduler, which runs every minute

/** What keeps an event from its claim, where it should have been claimed by now or soon. */
function whyUnclaimed({ active, starts_at, status }: UnclaimedEvent, now: Date): string | undefined {
  if (starts_at === null) return undefined
  const minutes = (Date.parse(starts_at) - now.getTime()) / 60_000
  if (minutes > CLAIM_MINUTES - GRACE_MINUTES) return undefined
  const start = minutes < 0 ? `started ${away(starts_at, now)}` : `starts ${away(starts_at, now)}`
  if (!active) return `${start} and is not active: nobody is indexed.`
  if (status !== 'pending')
    return `${start}, and its indexing_status is ${status}: only pending events are claimed.`
  return `${start} and is not claimed: does the scheduler run? Its log says more.`
}

function viewTable(events: EventStatus[], view: View): string {
  const { terminal, now } = view
  const starts = events.map(({ starts_at }) => (starts_at === null ? '–' : clock(starts_at, now)))
  const columns: Column[] = [
    { head: 'EVENT', width: 0 },
    { head: 'START', width: Math.max(5, ...starts.map(({ length }) => length)) },
    { head: 'STATUS', width: 11 },
    { head: 'INDEXED', width: 7, align: 'right' },
    { head: 'SKIPPED', width: 7, align: 'right' },
    { head: 'FAILED', width: 6, align: 'right' },
    { head: 'OPEN', width: 6, align: 'right' },
  ]
  const others = columns.reduce((sum, { width }) => sum + width + 2, -2)
  const name = Math.max(5, ...events.map((event) => nameOf(event).length))
  Object.assign(columns[0] ?? {}, { width: Math.max(16, Math.min(name, terminal.columns - others)) })
  const rows = events.flatMap((event, index) => [
    rowOf(event, starts[index] ?? '', terminal),
    ...linesOf(event, view).map((line) => terminal.paint('dim', `  ${line}`)),
  ])
  return tableOf(columns, rows, terminal)
}

function rowOf(event: EventStatus, start: string, { paint }: Terminal): string[] {
  const name = paint('bold', nameOf(event))
  const status = statusOf(event)
  const state = paint(STATES[event.state][1], status)
  if (event.state === 'unclaimed') return [name, start, state, '', '', '', figure(event.attendees)]
  const { indexed, skipped, failed } = event.attendees
  const failures = failed > 0 ? paint('red', figure(failed)) : '0'
  return [name, start, state, figure(indexed), figure(skipped), failures, figure(openOf(event))]
}

/** The app's word for it, where it has one that fits. */
function statusOf(event: EventStatus): string {
  if (event.state === 'unclaimed') return event.active ? (event.status ?? 'waits') : 'inactive'
  if (event.status === null) return 'deleted'
  return event.status.replace('_', ' ')
}

/** The rest about an event, in two lines. */
function linesOf(event: EventStatus, { now }: View): string[] {
  const start = event.starts_at === null ? 'no start' : away(event.starts_at, now)
  if (event.state === 'unclaimed') return [`${event.event_id} · ${start} · not claimed yet`]
  const { queued, in_flight, erased } = event.attendees
  const ready = readyOf(event, now)
  const counts = [
    queued > 0 && `${figure(queued)} queued`,
    in_flight > 0 && `${figure(in_flight)} in flight`,
    event.oldest_open !== null && `oldest ${span(now.getTime() - Date.parse(event.oldest_open))}`,
    erased > 0 && `${figure(erased)} erased`,
    amount(event.index_calls, 'IndexFaces call'),
  ]
  return [[event.event_id, start, ready].filter(Boolean).join(' · '), counts.filter(Boolean).join(' · ')]
}

function readyOf(event: ClaimedEvent, now: Date): string {
  if (event.settled_at !== null) return `ended ${clock(event.settled_at, now)}`
  if (event.ready_at === null) return event.collection === 'ready' ? '' : 'its collection is being made'
  const ready = `ready ${clock(event.ready_at, now)}`
  const before = Date.parse(event.starts_at) - Date.parse(event.ready_at)
  return event.late ? `${ready}, ${span(-before)} LATE` : ready
}

const BAR = 48
const SHOWN = 20 // attendees of one reason; --json has all

/** One event with everything about it: what failed and why, who was skipped and what to tell them. */
export function viewEvent(event: EventStatus, details: Details, view: View): string {
  const { terminal, now } = view
  const { paint } = terminal
  const start =
    event.starts_at === null ? 'no start' : `${clock(event.starts_at, now)}, ${away(event.starts_at, now)}`
  const [, style] = STATES[event.state]
  const head = `${paint('bold', nameOf(event))}\n${paint('dim', event.event_id)}`
  const concerns = concernsOf(event, view).map((each) => `${each}\n`)
  const line = (label: string, value: string) => `  ${paint('dim', label.padEnd(12))}${value}`

  if (event.state === 'unclaimed') {
    return [
      head,
      '',
      ...concerns,
      line('Starts', start),
      line('Status', `${statusOf(event)}, not claimed yet`),
      line('Attendees', `${figure(event.attendees)} consent`),
    ].join('\n')
  }

  const { indexed, skipped, failed, erased, queued, in_flight } = event.attendees
  const oldest =
    event.oldest_open === null
      ? ''
      : `, the oldest for ${span(now.getTime() - Date.parse(event.oldest_open))}`
  const lines = [
    head,
    '',
    ...concerns,
    line('Starts', start),
    line('Status', paint(style, statusOf(event)) + (readyOf(event, now) ? `, ${readyOf(event, now)}` : '')),
    line('Indexed', `${figure(indexed).padEnd(9)}${barOf(event, terminal)}`),
    line('Skipped', figure(skipped)),
    line('Failed', failed > 0 ? paint('red', figure(failed)) : '0'),
    line('Erased', figure(erased)),
    line('Open', `${figure(queued)} queued, ${figure(in_flight)} in flight${oldest}`),
    line('Calls', `${figure(event.index_calls)} of IndexFaces`),
  ]
  return [lines.join('\n'), viewFailures(event, details, view), viewSkips(details, view)]
    .filter(Boolean)
    .join('\n\n')
}

/** How far it is: attendees with an outcome among all. */
function barOf(event: ClaimedEvent, { paint }: Terminal): string {
  const { indexed, skipped, failed, erased } = event.attendees
  const ended = indexed + skipped + failed + erased
  const all = ended + openOf(event)
  if (all === 0) return ''
  const filled = Math.floor((ended / all) * BAR)
  return `${paint('green', '█'.repeat(filled))}${paint('dim', '░'.repeat(BAR - filled))} ${Math.floor((ended / all) * 100)} %`
}

function viewFailures(event: ClaimedEvent, { failures }: Details, { terminal, option }: View): string {
  if (failures.length === 0) return ''
  const groups = [...groupBy(failures, ({ reason }) => reason ?? 'unknown')].map(([code, group]) => {
    const reason = reasonOf(code)
    const errors = [...groupBy(group, ({ error }) => error ?? 'no error was recorded')].flatMap(
      ([error, jobs]) => [
        wrap(plain(error), terminal.columns, 4),
        ...listOf(jobs, ({ user_id, attempts }) => `${user_id}  ${amount(attempts, 'attempt')}`, terminal),
      ],
    )
    return [titleOf(code, reason, group.length, terminal), ...adviceOf(reason, terminal), ...errors].join(
      '\n',
    )
  })
  const replay = `npx event-indexer replay${option} --event ${event.event_id}`
  return [
    terminal.paint('red', `FAILED ${figure(failures.length)}`),
    ...groups,
    `  Once the cause is gone: ${replay}`,
  ].join('\n')
}

function viewSkips({ skips }: Details, { terminal }: View): string {
  if (skips.length === 0) return ''
  const groups = [...groupBy(skips, ({ reason }) => reason ?? 'unknown')].map(([code, group]) => {
    const reason = reasonOf(code)
    return [
      titleOf(code, reason, group.length, terminal),
      ...adviceOf(reason, terminal),
      ...listOf(group, ({ user_id }) => user_id, terminal),
    ].join('\n')
  })
  return [
    terminal.paint('yellow', `SKIPPED ${figure(skips.length)}`),
    ...groups,
    '  Whoever changes their photo is looked at again by itself.',
  ].join('\n')
}

const titleOf = (code: string, { title }: Reason, count: number, { paint }: Terminal) =>
  `  ${paint('bold', `${figure(count)} × ${title}`)} ${paint('dim', `(${code})`)}`

function adviceOf({ toAttendee, remedy }: Reason, { columns }: Terminal): string[] {
  return [
    ...(remedy ? [wrap(remedy, columns, 4)] : []),
    ...(toAttendee ? [wrap(`Tell them: “${toAttendee}”`, columns, 4)] : []),
  ]
}

function listOf<T>(items: T[], lineOf: (item: T) => string, { paint }: Terminal): string[] {
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

/** An event on one line, where nothing can be redrawn. */
export function viewLine(event: EventStatus): string {
  if (event.state === 'unclaimed') return `${nameOf(event)}: ${statusOf(event)}, not claimed yet`
  const { indexed, skipped, failed } = event.attendees
  const counts = `${figure(indexed)} indexed, ${figure(skipped)} skipped, ${figure(failed)} failed, ${figure(openOf(event))} open`
  return `${nameOf(event)}: ${statusOf(event)}, ${counts}${event.late ? ', LATE' : ''}`
}
