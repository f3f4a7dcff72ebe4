import type { AttendeeJob, JobState } from '../src/core/contract.ts'
import { EXIT, OperatorError } from './exit.ts'
import type { Ledger } from './ledger.ts'
import { REPLAYABLE, reasonOf } from './reasons.ts'

/** A job with the name of its event and the words for its reason. */
export interface AttendeeEvent extends AttendeeJob {
  /** Null when the event was deleted. */
  name: string | null
  to_attendee: string | null
}

export interface AttendeeHistory {
  /** Null unless the operator has asked for names. */
  name: string | null
  /** The latest start first. */
  events: AttendeeEvent[]
  /** How many events of theirs, earlier than those, were left out. */
  earlier: number
}

/**
 * What happened to one attendee: at one event, or at all; at most so many.
 * @throws {OperatorError} when there is nothing about them
 */
export async function lookAtAttendee(
  ledger: Ledger,
  { user, event, most }: { user: string; event: string | null; most: number },
  nameColumn: string | null,
): Promise<AttendeeHistory> {
  const jobs = await ledger.attendee(user, event)
  if (jobs.length === 0)
    throw new OperatorError(
      EXIT.notDone,
      `${event ? `Event ${event} has` : 'There is'} no job of attendee ${user}: did they ever consent, and is the event claimed?`,
    )
  const shown = jobs.slice(0, most)
  const runs = await ledger.progress(shown.map(({ event_id }) => event_id))
  const names = new Map(runs.map(({ event_id, name }) => [event_id, name]))
  const events = shown.map((job) => ({
    name: names.get(job.event_id) ?? null,
    ...job,
    to_attendee: reasonOf(job.reason).toAttendee ?? null,
  }))
  const named = nameColumn ? await ledger.names([user], nameColumn) : {}
  return { name: named[user] ?? null, events, earlier: jobs.length - shown.length }
}

/** What a replay has to name to try them again: nothing for a failed one, the reason of a skipped one; null: it cannot. */
export function replayableAs({
  state,
  reason,
}: {
  state: JobState
  reason: string | null
}): { why: string | null } | null {
  if (state === 'failed') return { why: null }
  return state === 'skipped' && reason !== null && REPLAYABLE.includes(reason) ? { why: reason } : null
}
