import { type AttendeeEvent, lookAtAttendee } from '../attendee.ts'
import { EXIT, type ExitCode } from '../exit.ts'
import { type DocumentHead, documentHead, type Session, titleOf } from '../session.ts'
import { jsonOf } from '../terminal.ts'
import { viewAttendee } from '../views/attendee.ts'
import { figure } from '../words.ts'

export interface AttendeeOptions {
  user: string
  event?: string
  json?: boolean
}

/** What `--json` prints: fields are added to it, never changed. */
export interface AttendeeDocument extends DocumentHead {
  user_id: string
  /** Null unless the operator has asked for names. */
  attendee_name: string | null
  /** The latest start first. */
  events: AttendeeEvent[]
}

const SHOWN = 20 // events

/** What happened to one attendee, event by event, attempt by attempt. */
export async function attendee(session: Session, options: AttendeeOptions): Promise<ExitCode> {
  const { system, terminal } = session
  const { user, event = null, json = false } = options
  const {
    name: attendeeName,
    events,
    earlier,
  } = await lookAtAttendee(
    await session.ledger(),
    { user, event, most: json ? Infinity : SHOWN },
    system.nameColumn,
  )
  if (json) {
    const document: AttendeeDocument = {
      ...documentHead(session),
      user_id: user,
      attendee_name: attendeeName,
      events,
    }
    terminal.write(`${jsonOf(document, 2)}\n`)
    return EXIT.done
  }
  const more = earlier > 0 ? `\n\n… and ${figure(earlier)} earlier events: --json lists them all` : ''
  const now = new Date()
  const texts = events.map((each) =>
    viewAttendee(each, { user, name: attendeeName }, { terminal, now, option: system.option }),
  )
  terminal.write(`${titleOf(session)}\n\n${texts.join('\n\n')}${more}\n`)
  return EXIT.done
}
