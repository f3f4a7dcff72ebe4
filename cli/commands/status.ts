import type { JobState } from '../../src/core/contract.ts'
import { EXIT, type ExitCode } from '../exit.ts'
import type { Ledger } from '../ledger.ts'
import { type DocumentHead, documentHead, type Session, titleOf } from '../session.ts'
import { showAgain } from '../show.ts'
import {
  type AttendeeRow,
  type Details,
  type EventStatus,
  lookAtAll,
  lookAtAttendees,
  lookAtDetails,
  lookAtEvent,
  type Pace,
} from '../status.ts'
import type { System } from '../system.ts'
import { jsonOf, wrap } from '../terminal.ts'
import { viewAttendees, viewEvent } from '../views/event.ts'
import { viewOverview } from '../views/overview.ts'
import { measured } from '../views/view.ts'
import { watch } from '../watch.ts'

export interface StatusOptions {
  event?: string
  watch?: boolean
  json?: boolean
  /** With an event: list its attendees in these states too. */
  state?: JobState[]
}

/** What `--json` prints: fields are added to it, never changed. */
export interface StatusDocument extends DocumentHead {
  /** IndexFaces calls a second that the account allows, as the scheduler goes by; and those of this moment, which `ready_at` assumes. */
  index_faces_tps: number
  index_faces_rate: number
  /** Messages that are not ours, kept and not acknowledged; null with --event. */
  dead_letters: number | null
  /** With --event: the one event, with its details if it is claimed. */
  events: (EventStatus & Partial<Details> & { attendee_list?: AttendeeRow[] })[]
}

interface Seen {
  events: EventStatus[]
  pace: Pace
  /** Of the dead-letter queue, without an event. */
  letters: number | null
  /** Of the one event that was asked for. */
  details: Details | null
  /** Of that event, those in the states that were asked for. */
  list: AttendeeRow[] | null
}

export async function status(session: Session, options: StatusOptions): Promise<ExitCode> {
  const { terminal } = session
  const ledger = await session.ledger()
  const look = options.event
    ? oneEvent(options.event, options.state ?? [], ledger, session.system)
    : allEvents(ledger)
  if (!options.watch) {
    const seen = await look()
    terminal.write(`${options.json ? json(seen, session, 2) : text(seen, options, session)}\n`)
    return EXIT.done
  }
  const show = options.json
    ? (seen: Seen) => terminal.write(`${json(seen, session)}\n`)
    : showAgain<Seen>(terminal, {
        events: ({ events }) => events,
        text: (seen) => text(seen, options, session),
        hint: 'Ctrl-C ends the watch',
      })
  await watch({ look, show })
  return EXIT.done
}

const allEvents = (ledger: Ledger) => async (): Promise<Seen> => ({
  ...(await lookAtAll(ledger)),
  details: null,
  list: null,
})

/** Looks at one event. Who is not in its collection is asked for again only when their number has changed, or after a reconcile. */
function oneEvent(
  event: string,
  states: JobState[],
  ledger: Ledger,
  { nameColumn }: System,
): () => Promise<Seen> {
  let details: Details | null = null
  let detailed = ''
  return async () => {
    const { status, pace } = await lookAtEvent(ledger, event)
    if (status.state !== 'unclaimed') {
      const changed = JSON.stringify([status.failed, status.skipped, status.reconciled_at])
      if (changed !== detailed) details = await lookAtDetails(ledger, event)
      detailed = changed
    }
    const list = states.length > 0 ? await lookAtAttendees(ledger, event, states, nameColumn) : null
    return { events: [status], pace, letters: null, details, list }
  }
}

function json({ events, pace, letters, details, list }: Seen, session: Session, indent?: number): string {
  const document: StatusDocument = {
    ...documentHead(session),
    index_faces_tps: pace.tps,
    index_faces_rate: pace.rate,
    dead_letters: letters,
    events: events.map((event) => ({ ...event, ...details, ...(list && { attendee_list: list }) })),
  }
  return jsonOf(document, indent)
}

function text(
  { events, pace, letters, details, list }: Seen,
  { event }: StatusOptions,
  session: Session,
): string {
  const { system, terminal } = session
  const view = { terminal, now: new Date(), option: system.option }
  const [first] = events
  const body = event && first ? viewEvent(first, details, view) : viewOverview(events, view, letters ?? 0)
  const lines = [titleOf(session), '', body]
  if (list) lines.push('', viewAttendees(list, view))
  if (events.some(({ state }) => state === 'in_progress')) {
    lines.push('', terminal.paint('dim', wrap(paceNote(pace, events, view.now), terminal.columns, 0)))
  }
  return lines.join('\n')
}

function paceNote({ tps, rate }: Pace, events: EventStatus[], now: Date): string {
  const basis =
    rate < tps ? `Rekognition has throttled; the scheduler's quota is ${tps}` : "the scheduler's quota"
  return `The estimate assumes ${Number(rate.toFixed(1))} IndexFaces calls a second (${basis}). Measured: ${measured(events, now)}.`
}
