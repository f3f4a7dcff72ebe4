import { type AttendeeEvent, type AttendeeHistory, replayableAs } from '../../attendee.ts'
import { reasonOf } from '../../reasons.ts'
import { amount, figure } from '../../words.ts'
import { type Html, html } from '../html.ts'
import type { PageContext } from './layout.ts'
import { ask, facts, live, oneLine, timeOf, timeToTheSecond } from './parts.ts'

/** One attendee: how they stand at each event, why, and what the last attempts met. */
export function attendeePage(
  user: string,
  { earlier, events, name }: AttendeeHistory,
  context: PageContext,
): Html {
  return html`<h1>Attendee ${oneLine(name)}</h1>
    <p class="id">${user}</p>
    ${live(
      'attendee',
      events.map((event) => part(user, event, context)),
    )}
    ${earlier > 0 ? html`<p>And ${figure(earlier)} earlier events: the command attendee lists them all.</p>` : ''}`
}

function part(user: string, job: AttendeeEvent, { now, readOnly }: PageContext): Html {
  const { title, toAttendee, remedy } = reasonOf(job.reason)
  const replayable = replayableAs(job)
  const again = new URLSearchParams({ user, ...(replayable?.why ? { reason: replayable.why } : {}) })
  const entries: [string, Html | string][] = [
    ['State', job.reason === null ? job.state : `${job.state}: ${title} (${job.reason})`],
    [
      'Wanted',
      job.desired_reason === null
        ? 'the face of their photo'
        : `no face: ${reasonOf(job.desired_reason).title} (${job.desired_reason})`,
    ],
    ['Photo', oneLine(job.photo_key) || 'none looked at'],
    ['Face', job.face_id ?? 'none in the collection'],
    ['Queued', html`${timeOf(job.queued_at, now)}; version ${job.version}`],
    [
      'Ended',
      html`${job.ended_at === null ? 'not yet' : timeOf(job.ended_at, now)}; ${amount(job.attempts, 'attempt')}, ${amount(job.index_calls, 'IndexFaces call')}`,
    ],
  ]
  if (job.look_again_at !== null)
    entries.push(['Next', html`looked at again ${timeOf(job.look_again_at, now)}`])
  return html`<section>
    <h2><a href="/events/${job.event_id}">${oneLine(job.name) || '(without a name)'}</a></h2>
    <p>starts ${timeOf(job.starts_at, now)}</p>
    ${facts(entries)}
    ${remedy ? html`<p>${remedy}</p>` : ''}
    ${toAttendee ? html`<p>Tell them: “${toAttendee}”</p>` : ''}
    ${job.error === null ? '' : html`<p class="error">${oneLine(job.error)}</p>`}
    ${replayable && !readOnly ? html`<p class="actions">${ask(`/events/${job.event_id}/replay?${again.toString()}`, 'Look at them again …')}</p>` : ''}
    ${timeline(job, now)}
  </section>`
}

function timeline({ history }: AttendeeEvent, now: Date): Html {
  if (history.length === 0) return html`<p class="faint">No attempt yet.</p>`
  return html`<h3>The last attempts, the latest last</h3>
    <ol class="timeline">${history.map(
      ({ at, error, outcome, reason }) => html`<li>${timeToTheSecond(at, now)} <strong>${outcome}</strong>
        ${reason ? html`<span class="faint">(${reason})</span>` : ''} ${error ? html`<span class="error">${oneLine(error)}</span>` : ''}</li>`,
    )}</ol>`
}
