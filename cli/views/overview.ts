import { type EventStatus, openOf } from '../status.ts'
import { type Column, type Style, type Terminal, tableOf, wrap } from '../terminal.ts'
import { amount, away, clock, figure, span } from '../words.ts'
import { allConcernsOf, lettersOf, viewConcern } from './concerns.ts'
import { lateOf, nameOf, readyOf, STYLES, statusOf, type View, viewLine } from './view.ts'

/** Several events: first what needs somebody, kept dead letters included, then a table. */
export function viewOverview(events: EventStatus[], view: View, letters = 0): string {
  const concerns = viewConcerns(events, view, letters)
  if (events.length > 0) return `${concerns || viewCalm(events, view)}\n\n${viewTable(events, view)}`
  const nothing = 'No event is in progress, has started within the last day, or starts within the next.'
  return concerns ? `${concerns}\n\n${nothing}` : nothing
}

function viewConcerns(events: EventStatus[], view: View, letters: number): string {
  const ofEvents = events.flatMap((event) =>
    allConcernsOf(event, view).map(({ text, ...concern }) => ({
      ...concern,
      text: `${nameOf(event)}: ${text}`,
    })),
  )
  return [...ofEvents, ...lettersOf(letters, view)]
    .map((concern) => viewConcern(concern, view.terminal))
    .join('\n')
}

function viewCalm(events: EventStatus[], view: View): string {
  const isDone = events.every(({ state }) => state === 'completed')
  const skipped = events.reduce((sum, event) => sum + skippedOf(event), 0)
  const but = skipped > 0 ? `, but ${amount(skipped, 'attendee')} skipped: nobody recognises them` : ''
  const calm = `${isDone ? 'All done' : 'All as it should be'}: ${amount(events.length, 'event')}${but}.`
  return view.terminal.paint(skipped > 0 ? 'yellow' : 'green', calm)
}

const skippedOf = (event: EventStatus) => (event.state === 'unclaimed' ? 0 : event.attendees.skipped)

const NARROW = 14 // a name with less room than this is no name

const LEAST_NAME = 34 // so that the table is not narrower than the lines below its rows

function viewTable(events: EventStatus[], view: View): string {
  const { terminal, now } = view
  const starts = events.map(({ starts_at }) => (starts_at === null ? '–' : clock(starts_at, now)))
  const columns: Column[] = [
    { head: 'START', width: Math.max(5, ...starts.map(({ length }) => length)) },
    { head: 'STATUS', width: 11 },
    { head: 'INDEXED', width: 7, align: 'right' },
    { head: 'SKIPPED', width: 7, align: 'right' },
    { head: 'FAILED', width: 6, align: 'right' },
    { head: 'OPEN', width: 6, align: 'right' },
  ]
  const room = terminal.columns - columns.reduce((sum, { width }) => sum + width + 2, 0)
  if (room < NARROW) return events.map((event) => narrowOf(event, view)).join('\n')
  const name = Math.max(LEAST_NAME, ...events.map((event) => nameOf(event).length))
  const rows = events.map((event, index) => ({
    cells: cellsOf(event, starts[index] ?? '', terminal),
    below: linesOf(event, view),
  }))
  return tableOf([{ head: 'EVENT', width: Math.min(name, room) }, ...columns], rows, terminal)
}

/** An event where a row of the table has no room: everything about it in lines of their own. */
function narrowOf(event: EventStatus, view: View): string {
  const { terminal, now } = view
  const start = event.starts_at === null ? 'no start' : clock(event.starts_at, now)
  const lines = [
    viewLine(event),
    `start ${start}`,
    ...linesOf(event, { ...view, terminal: { ...terminal, paint: plainText } }),
  ]
  const [head = '', ...rest] = lines.map((line, index) =>
    wrap(line.trim(), terminal.columns, index === 0 ? 0 : 2),
  )
  return [terminal.paint(STYLES[event.state], head), ...rest.map((line) => terminal.paint('dim', line))].join(
    '\n',
  )
}

const plainText = (_: Style, text: string) => text

function cellsOf(event: EventStatus, start: string, { paint }: Terminal): string[] {
  const name = paint('bold', nameOf(event))
  const status = paint(STYLES[event.state], statusOf(event))
  if (event.state === 'unclaimed') return [name, start, status, '', '', '', '']
  const { indexed, skipped, failed } = event.attendees
  const failures = failed > 0 ? paint('red', figure(failed)) : '0'
  return [name, start, status, figure(indexed), figure(skipped), failures, figure(openOf(event))]
}

/** The rest about an event. */
function linesOf(event: EventStatus, { terminal: { paint }, now }: View): string[] {
  const line = (...parts: string[]) => paint('dim', `  ${parts.filter(Boolean).join(' · ')}`)
  const start = event.starts_at === null ? 'no start' : away(event.starts_at, now)
  if (event.state === 'unclaimed') return [line(event.event_id, start, `${figure(event.attendees)} consent`)]

  const { queued, in_flight, erased } = event.attendees
  const late = lateOf(event)
  return [
    line(event.event_id, start, readyOf(event, now)) + (late && paint('red', `, ${late} LATE`)),
    line(
      queued > 0 ? `${figure(queued)} queued` : '',
      in_flight > 0 ? `${figure(in_flight)} in flight` : '',
      event.oldest_open === null ? '' : `oldest ${span(now.getTime() - Date.parse(event.oldest_open))}`,
      erased > 0 ? `${figure(erased)} erased` : '',
      amount(event.index_calls, 'IndexFaces call'),
    ),
  ]
}
