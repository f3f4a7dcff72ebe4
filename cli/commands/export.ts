import { csvOf } from '../csv.ts'
import { EXIT, type ExitCode } from '../exit.ts'
import { reasonOf } from '../reasons.ts'
import type { Session } from '../session.ts'
import { lookAtAttendees, lookAtEvent } from '../status.ts'

export interface ExportOptions {
  event: string
}

/** Prints every attendee of an event as CSV, with what to tell them. */
export async function exportEvent(session: Session, { event }: ExportOptions): Promise<ExitCode> {
  const { system, terminal } = session
  const ledger = await session.ledger()
  await lookAtEvent(ledger, event)
  const attendees = await lookAtAttendees(ledger, event, null, system.nameColumn)
  terminal.write(
    csvOf(
      ['user_id', 'name', 'state', 'reason', 'meaning', 'to_attendee', 'error', 'attempts', 'photo_key'],
      attendees.map(({ user_id, name, state, reason, to_attendee, error, attempts, photo_key }) => [
        ...[user_id, name, state, reason, reason && reasonOf(reason).title, to_attendee],
        ...[error, String(attempts), photo_key],
      ]),
    ),
  )
  return EXIT.done
}
