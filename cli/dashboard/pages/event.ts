import type { Drift, Job, OperatorAction } from '../../../src/core/contract.ts'
import { adviceOf } from '../../advice.ts'
import { differencesInWords } from '../../differences.ts'
import { reasonOf } from '../../reasons.ts'
import { type ClaimedEvent, type EventStatus, openOf, type Pace } from '../../status.ts'
import { verdictOf } from '../../verdict.ts'
import { concernsOf } from '../../views/concerns.ts'
import { driftAdvice } from '../../views/drift.ts'
import { BY_THEMSELVES, byCount, errorsOf, measured, nameOf, readyOf } from '../../views/view.ts'
import { amount, figure } from '../../words.ts'
import type { Size, Theme } from '../chart.ts'
import { type Html, html } from '../html.ts'
import type { PageContext } from './layout.ts'
import { log } from './log.ts'
import {
  ask,
  badge,
  concernOf,
  doneOf,
  facts,
  live,
  oneLine,
  progressOf,
  searchForm,
  timeOf,
  verdictLine,
} from './parts.ts'

/** One event: whether it may open, what keeps it from that, who failed and who was skipped, and what to do. */
export function eventPage(
  event: EventStatus,
  pace: Pace,
  { failures, drift, actions: done }: { failures: Job[]; drift: Drift[]; actions: OperatorAction[] },
  context: PageContext,
): Html {
  return html`<p><a href="/">All events</a></p>
    ${live('head', head(event, context))}
    ${event.state === 'unclaimed' ? '' : searchForm(event.event_id, context)}
    ${live('facts', event.state === 'unclaimed' ? unclaimed(event, context) : claimed(event, pace, context))}
    ${event.state === 'unclaimed' ? '' : live('curve', curve(event, context))}
    ${live('actions', context.readOnly ? html`` : actions(event))}
    ${event.state === 'unclaimed' ? '' : live('reasons', [openOnes(event), failed(event, failures, context), skipped(event, context)])}
    ${live('drift', drift.length === 0 ? html`` : drifted(drift, context))}
    ${live('log', done.length === 0 ? html`` : log(done, context))}`
}

function head(event: EventStatus, { now, system }: PageContext): Html {
  const concerns = concernsOf(event, { now, option: system.option }).filter(
    ({ label }) => label !== 'WAITS', // which is what the verdict says
  )
  return html`<h1>${nameOf(event)} ${badge(event)}</h1>
    <p class="id">${event.event_id}</p>
    ${verdictLine(verdictOf(event, now))}
    ${concerns.length > 0 ? html`<ul class="concerns">${concerns.map((concern) => concernOf(concern))}</ul>` : ''}`
}

function unclaimed(event: EventStatus & { state: 'unclaimed' }, { now }: PageContext): Html {
  return facts([
    ['Starts', event.starts_at === null ? 'never' : timeOf(event.starts_at, now)],
    ['Attendees', `${figure(event.attendees)} consent`],
  ])
}

function claimed(event: ClaimedEvent, { tps, rate }: Pace, { now }: PageContext): Html {
  const { attendees, event_id } = event
  const count = (states: string, words: string, n: number) =>
    html`<a class="${n > 0 ? words.replace(' ', '-') : 'none'}" href="/events/${event_id}/attendees?state=${states}"><strong>${figure(n)}</strong> ${words}</a>`
  const compared =
    event.reconciled_at === null ? 'not compared yet' : html`compared ${timeOf(event.reconciled_at, now)}`
  return html`${progressOf(event, now)}
    <p class="counts">
      ${count('indexed', 'indexed', attendees.indexed)} ${count('skipped', 'skipped', attendees.skipped)}
      ${count('failed', 'failed', attendees.failed)} ${count('erased', 'erased', attendees.erased)}
      ${count('queued', 'queued', attendees.queued)} ${count('sent,running', 'in flight', attendees.in_flight)}
    </p>
    ${facts([
      ['Starts', timeOf(event.starts_at, now)],
      ['End', readyOf(event, now) || 'not known'],
      [
        'Measured',
        html`${measured([event], now)}; ${rate < tps ? `${Number(rate.toFixed(1))} calls a second after throttling, of ${tps}` : `the quota is ${amount(tps, 'call')} a second`}`,
      ],
      ['Ahead', `${amount(event.ahead, 'attendee')} of other events`],
      [
        'Oldest',
        event.oldest_open === null ? 'nobody waits' : html`waits since ${timeOf(event.oldest_open, now)}`,
      ],
      ['Calls', `${figure(event.index_calls)} of IndexFaces`],
      ['Collection', html`${event.collection}; ${compared}`],
    ])}`
}

const CURVE_AGES_MS = 30_000

/** The picture is asked for again when there is something new on it. */
function curve(event: ClaimedEvent, { now }: PageContext): Html {
  const { done, all } = doneOf(event)
  const age = done < all ? Math.floor(now.getTime() / CURVE_AGES_MS) : 0
  const picture = (theme: Theme, size: Size) =>
    `/events/${event.event_id}/curve.svg?theme=${theme}&size=${size}&at=${done}-${age}`
  return html`<picture>
    <source media="(max-width: 40rem) and (prefers-color-scheme: dark)" srcset="${picture('dark', 'narrow')}">
    <source media="(max-width: 40rem)" srcset="${picture('light', 'narrow')}">
    <source media="(prefers-color-scheme: dark)" srcset="${picture('dark', 'wide')}">
    <img class="chart" src="${picture('light', 'wide')}" alt="Attendees done over time, against what the quota allows and against the start: ${figure(done)} of ${figure(all)} by now.">
  </picture>`
}

function actions({ event_id, paused, state }: EventStatus): Html {
  const to = (action: string) => `/events/${event_id}/${action}`
  return html`<p class="actions">
    ${paused === 'event' ? ask(to('resume'), 'Resume …') : ask(to('pause'), 'Pause …')}
    ${state === 'unclaimed' ? '' : html`${ask(to('replay'), 'Replay who failed …')} ${ask(to('audit'), 'Compare the collection …')}`}
  </p>`
}

/** Those without an outcome, by what went wrong at their last attempt. */
function openOnes(event: ClaimedEvent): Html {
  const errors = errorsOf(event)
  if (errors.length === 0) return html``
  return html`<h2>Tried again: ${figure(errors.reduce((sum, [, count]) => sum + count, 0))} of ${figure(openOf(event))} open</h2>
    <ul>${errors.map(([error, count]) => html`<li>${figure(count)} × ${oneLine(error)}</li>`)}</ul>
    <p class="faint">${BY_THEMSELVES.open}</p>`
}

function failed(event: ClaimedEvent, failures: Job[], context: PageContext): Html {
  if (event.attendees.failed === 0) return html``
  return html`<h2>Failed: ${figure(event.attendees.failed)}</h2>
    ${byCount(event.failed).map(([code, count]) => {
      const errors = new Set(
        failures.flatMap(({ reason, error }) => ((reason ?? 'unknown') === code ? [oneLine(error)] : [])),
      )
      return reasonPart(event, 'failed', code, count, context, [...errors].slice(0, SHOWN))
    })}
    <p class="faint">${BY_THEMSELVES.failed}.</p>`
}

const SHOWN = 5 // errors of one reason

function skipped(event: ClaimedEvent, context: PageContext): Html {
  if (event.attendees.skipped === 0) return html``
  return html`<h2>Skipped: ${figure(event.attendees.skipped)}</h2>
    ${byCount(event.skipped).map(([code, count]) => reasonPart(event, 'skipped', code, count, context))}
    <p class="faint">An attendee who changes their photo is looked at again by itself.</p>`
}

/** One reason: what it means, what to do, what to tell the attendees, and who they are. */
function reasonPart(
  event: ClaimedEvent,
  state: 'failed' | 'skipped',
  code: string,
  count: number,
  { readOnly }: PageContext,
  errors: string[] = [],
): Html {
  const { remedy, toAttendee } = adviceOf(code, count, event)
  const to = `/events/${event.event_id}`
  return html`<section class="reason">
    <h3>${figure(count)} × ${reasonOf(code).title} <span class="faint">(${code})</span></h3>
    ${errors.map((error) => html`<p class="error">${error || 'no error was recorded'}</p>`)}
    ${remedy ? html`<p>${remedy}</p>` : ''}
    ${toAttendee ? html`<p>Tell them: “${toAttendee}”</p>` : ''}
    <p class="actions"><a href="${to}/attendees?state=${state}&reason=${code}">Who they are</a>
      ${readOnly ? '' : ask(`${to}/replay?reason=${code}`, 'Try them again …')}</p>
  </section>`
}

/** What reconciles have found and put right. */
const drifted = (drift: Drift[], { now, system }: PageContext): Html =>
  html`<h2>Found by reconcile</h2>
    <ul>${drift.map((found) => html`<li>${timeOf(found.at, now)}: ${differencesInWords(found).join('; ')}</li>`)}</ul>
    <p class="faint">${driftAdvice(system.option)}</p>`
