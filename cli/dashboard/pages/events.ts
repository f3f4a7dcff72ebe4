import { type ClaimedEvent, type EventStatus, type Glance, openOf, type Pace } from '../../status.ts'
import { verdictOf } from '../../verdict.ts'
import { allConcernsOf, lettersOf } from '../../views/concerns.ts'
import { lateOf, measured, nameOf, readyOf } from '../../views/view.ts'
import { amount, figure } from '../../words.ts'
import { type Html, html } from '../html.ts'
import type { PageContext } from './layout.ts'
import { ask, badge, concernOf, live, progressOf, timeOf, verdictLine } from './parts.ts'

/** All events by their start, and before them what needs somebody. */
export function eventsPage({ events, letters, pace, pausedSince }: Glance, context: PageContext): Html {
  return html`<h1>Events</h1>
    ${live('concerns', [pausedSince === null ? html`` : html`<p class="badge paused">Everything is paused since ${timeOf(pausedSince, context.now)}</p>`, concerns(events, letters, context)])}
    ${live('pace', paceOf(events, pace, context.now))}
    ${live('events', [
      events.length === 0
        ? html`<p>No event is in progress, has started within the last day, or starts within the next.</p>`
        : html`<ol class="cards">${events.map((event) => card(event, context))}</ol>`,
    ])}
    ${
      context.readOnly
        ? ''
        : html`<p class="actions">
      ${pausedSince !== null ? ask('/resume', 'Resume everything …') : ask('/pause', 'Pause everything …')}
      ${ask('/replay', 'Replay all who failed …')}</p>`
    }`
}

function concerns(events: EventStatus[], letters: number, context: PageContext): Html {
  const view = { now: context.now, option: context.system.option }
  const found = events.flatMap((event) =>
    allConcernsOf(event, view).map((concern) =>
      concernOf(concern, html`<a href="/events/${event.event_id}">${nameOf(event)}</a>:`),
    ),
  )
  const about = html`<a href="/dead-letters">Dead letters</a>:`
  found.push(...lettersOf(letters, view).map((concern) => concernOf(concern, about)))
  if (found.length === 0) return html`<p class="calm">Nothing needs you.</p>`
  return html`<h2>Needs you</h2><ul class="concerns">${found}</ul>`
}

/** What was measured, beside what is allowed. */
function paceOf(events: EventStatus[], { tps, rate }: Pace, now: Date): Html {
  const throttled = rate < tps ? `; after throttling ${Number(rate.toFixed(1))} at this moment` : ''
  return html`<p class="faint">Measured: ${measured(events, now)}. Allowed: ${amount(tps, 'IndexFaces call')} a second${throttled}.</p>`
}

function card(event: EventStatus, { now }: PageContext): Html {
  const start = event.starts_at === null ? 'no start' : timeOf(event.starts_at, now)
  return html`<li class="card">
    <h2><a href="/events/${event.event_id}">${nameOf(event)}</a> ${badge(event)}</h2>
    <p>${start}</p>
    ${event.state === 'unclaimed' ? html`<p>${figure(event.attendees)} consent. Not claimed.</p>` : claimed(event, now)}
  </li>`
}

function claimed(event: ClaimedEvent, now: Date): Html {
  const { indexed, skipped, failed } = event.attendees
  const late = lateOf(event)
  return html`${verdictLine(verdictOf(event, now))}
    ${progressOf(event, now)}
    <p>${figure(indexed)} indexed, ${figure(skipped)} skipped, ${failed > 0 ? html`<strong class="bad">${figure(failed)} failed</strong>` : '0 failed'}, ${figure(openOf(event))} open</p>
    <p class="faint">${readyOf(event, now)}${late ? html`, <strong class="bad">${late} late</strong>` : ''}</p>`
}
