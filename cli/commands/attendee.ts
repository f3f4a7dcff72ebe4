import type { AttendeeJob } from '../../src/core/contract.ts'
import { EXIT, type ExitCode, OperatorError } from '../exit.ts'
import { reasonOf } from '../reasons.ts'
import { type Session, titleOf } from '../session.ts'
import { jsonOf } from '../terminal.ts'
import { viewAttendee } from '../views/attendee.ts'
import { figure } from '../words.ts'

export interface AttendeeOptions {
  user: string
  event?: string
  json?: boolean
}

/** A job with the name of its event and the words for its reason. */
export interface AttendeeEvent extends AttendeeJob {
  /** Null when the event was deleted. */
  name: string | null
  to_attendee: string | null
}

/** What `--json` prints: fields are added to it, never changed. */
export interface AttendeeDocument {
  at: string
  system: string
  url: string
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
  const ledger = await session.ledger()
  const jobs = await ledger.attendee(user, event)
  if (jobs.length === 0)
    throw new OperatorError(
      EXIT.notDone,
      `${event ? `Event ${event} has` : 'There is'} no job of attendee ${user}: did they ever consent, and is the event claimed?`,
    )
  const shown = json ? jobs : jobs.slice(0, SHOWN)
  const runs = await ledger.progress(shown.map(({ event_id }) => event_id))
  const names = new Map(runs.map(({ event_id, name }) => [event_id, name]))
  const events = shown.map((job) => ({
    name: names.get(job.event_id) ?? null,
    ...job,
    to_attendee: reasonOf(job.reason).toAttendee ?? null,
  }))
  const named = system.nameColumn ? await ledger.names([user], system.nameColumn) : {}
  const attendeeName = named[user] ?? null
  if (json) {
    const document: AttendeeDocument = {
      at: new Date().toISOString(),
      system: system.name,
      url: system.supabaseUrl,
      user_id: user,
      attendee_name: attendeeName,
      events,
    }
    terminal.write(`${jsonOf(document, 2)}\n`)
    return EXIT.done
  }
  const more =
    jobs.length > SHOWN
      ? `\n\n… and ${figure(jobs.length - SHOWN)} earlier events: --json lists them all`
      : ''
  const now = new Date()
  const texts = events.map((each) =>
    viewAttendee(each, { user, name: attendeeName }, { terminal, now, option: system.option }),
  )
  terminal.write(`${titleOf(session)}\n\n${texts.join('\n\n')}${more}\n`)
  return EXIT.done
}
