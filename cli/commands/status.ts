import { EXIT, type ExitCode } from '../exit.ts'
import type { Ledger } from '../ledger.ts'
import { type Session, titleOf } from '../session.ts'
import { type Details, type EventStatus, lookAt, lookAtDetails, lookAtEvent } from '../status.ts'
import { type View, viewEvent, viewLine, viewOverview } from '../status-view.ts'
import { redrawer, type Terminal } from '../terminal.ts'
import { watch } from '../watch.ts'
import { span } from '../words.ts'

export interface StatusOptions {
  event?: string
  watch?: boolean
  json?: boolean
}

/** What `--json` prints: fields are added to it, never changed. */
export interface StatusDocument {
  at: string
  system: string
  url: string
  /** The pace that `ready_at` and `late` rest on. */
  index_faces_tps: number
  /** With --event: the one event, with its details unless it is unclaimed. */
  events: (EventStatus & Partial<Details>)[]
}

interface Seen {
  events: EventStatus[]
  /** Of the one event that was asked for. */
  details: Details | null
}

export async function status(session: Session, options: StatusOptions): Promise<ExitCode> {
  const { system, terminal } = session
  const look = looker(await session.ledger(), system.indexFacesTps, options.event)
  if (!options.watch) {
    const seen = await look()
    terminal.write(options.json ? `${json(seen, session, 2)}\n` : `${text(seen, session)}\n`)
    return EXIT.done
  }
  const show = options.json
    ? (seen: Seen) => terminal.write(`${json(seen, session)}\n`)
    : shower(
        session,
        (seen: Seen) => ({ events: seen.events, text: text(seen, session) }),
        'Ctrl-C ends the watch',
      )
  await watch({ look, show })
  return EXIT.done
}

/** Looks at all events or at one; who is not in its collection is asked for only when that has changed. */
function looker(ledger: Ledger, indexFacesTps: number, event: string | undefined): () => Promise<Seen> {
  let details: Details | null = null
  let detailsOf = ''
  return async () => {
    if (event === undefined) return { events: await lookAt(ledger, indexFacesTps, null), details: null }
    const status = await lookAtEvent(ledger, indexFacesTps, event)
    if (status.state !== 'unclaimed') {
      const counts = JSON.stringify([status.attendees, status.index_calls])
      if (counts !== detailsOf) details = await lookAtDetails(ledger, event)
      detailsOf = counts
    }
    return { events: [status], details }
  }
}

function json({ events, details }: Seen, { system }: Session, indent?: number): string {
  const document: StatusDocument = {
    at: new Date().toISOString(),
    system: system.name,
    url: system.supabaseUrl,
    index_faces_tps: system.indexFacesTps,
    events: events.map((event) => ({ ...event, ...details })),
  }
  return JSON.stringify(document, null, indent)
}

function text({ events, details }: Seen, session: Session): string {
  const view: View = { terminal: session.terminal, now: new Date(), option: session.system.option }
  const [only] = events
  const body = details && only ? viewEvent(only, details, view) : viewOverview(events, view)
  return [titleOf(session), '', body, ...paceNote(events, session)].join('\n')
}

function paceNote(events: EventStatus[], { system, terminal }: Session): string[] {
  if (!events.some((event) => event.state === 'in_progress' && event.ready_at !== null)) return []
  const pace = `at ${system.indexFacesTps} IndexFaces calls a second (INDEX_FACES_TPS)`
  return ['', terminal.paint('dim', `When an event is ready is reckoned ${pace}.`)]
}

/**
 * Shows what is seen again and again: drawn over itself on a terminal; elsewhere a line for each event that has changed.
 */
export function shower<T>(
  { terminal }: Pick<Session, 'terminal'>,
  render: (seen: T) => { events: EventStatus[]; text: string },
  hint: string,
): (seen: T, silentSince: Date | null) => void {
  if (!terminal.live) return lineShower(terminal, (seen: T) => render(seen).events)
  const redraw = redrawer(terminal)
  return (seen, silentSince) => {
    const foot = silentSince
      ? terminal.paint(
          'red',
          `No answer from the database for ${span(Date.now() - silentSince.getTime())}: trying again.`,
        )
      : terminal.paint('dim', `As of ${new Date().toLocaleTimeString('en-GB')}. ${hint}.`)
    redraw(`${render(seen).text}\n\n${foot}`)
  }
}

function lineShower<T>(terminal: Terminal, eventsOf: (seen: T) => EventStatus[]) {
  const shown = new Map<string, string>()
  let wasSilent = false
  return (seen: T, silentSince: Date | null) => {
    const now = new Date()
    if (silentSince && !wasSilent) terminal.write('No answer from the database: trying again.\n')
    wasSilent = silentSince !== null
    for (const event of eventsOf(seen)) {
      const line = viewLine(event)
      if (shown.get(event.event_id) !== line) terminal.write(`${now.toLocaleTimeString('en-GB')}  ${line}\n`)
      shown.set(event.event_id, line)
    }
  }
}
