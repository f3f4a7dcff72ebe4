import { type AttendeeEvent, replayableAs } from '../attendee.ts'
import { reasonOf } from '../reasons.ts'
import { plain, wrap } from '../terminal.ts'
import { amount, away, clock, clockWithSeconds } from '../words.ts'
import { FACT_INDENT, fact, type View } from './view.ts'

/** One attendee of one event: how they stand, why, and what the last attempts met. */
export function viewAttendee(
  job: AttendeeEvent,
  { user, name }: { user: string; name: string | null },
  { terminal, now, option }: View,
): string {
  const { paint, columns } = terminal
  const line = (name: string, value: string) => fact(name, plain(value), terminal)
  const { title, toAttendee, remedy } = reasonOf(job.reason)
  const lines = [
    paint('bold', plain(job.name ?? '') || '(without a name)'),
    paint('dim', `${job.event_id}, starts ${clock(job.starts_at, now)}, ${away(job.starts_at, now)}`),
    line('State', job.reason === null ? job.state : `${job.state}: ${title} (${job.reason})`),
  ]
  if (name !== null) lines.splice(2, 0, line('Name', name))
  if (remedy) lines.push(line('', remedy))
  if (toAttendee) lines.push(line('', `Tell them: “${toAttendee}”`))
  if (job.error !== null) lines.push(line('Error', job.error))
  lines.push(
    line(
      'Wanted',
      job.desired_reason === null
        ? 'the face of their photo'
        : `no face: ${reasonOf(job.desired_reason).title} (${job.desired_reason})`,
    ),
    line('Photo', job.photo_key ?? 'none looked at'),
    line('Face', job.face_id ?? 'none in the collection'),
    line('Queued', `${clock(job.queued_at, now)}, version ${job.version}`),
    line(
      'Ended',
      [
        job.ended_at === null ? 'not yet' : clock(job.ended_at, now),
        amount(job.attempts, 'attempt'),
        amount(job.index_calls, 'IndexFaces call'),
      ].join(', '),
    ),
  )
  if (job.look_again_at !== null) lines.push(line('Next', `looked at again ${away(job.look_again_at, now)}`))
  if (job.history.length > 0) lines.push(line('Attempts', 'the last ones, the latest last'))
  for (const { at, outcome, reason, error } of job.history) {
    const what = [outcome, reason && `(${reason})`, error].filter(Boolean).join(' ')
    lines.push(wrap(plain(`${clockWithSeconds(at, now)}  ${what}`), columns, FACT_INDENT))
  }
  const replayable = replayableAs(job)
  if (replayable) {
    const reason = replayable.why === null ? '' : ` --reason ${replayable.why}`
    lines.push(
      '  To look at them again at once:',
      `    npx event-indexer replay${option} --event ${job.event_id} --user ${user}${reason}`,
    )
  }
  return lines.join('\n')
}
