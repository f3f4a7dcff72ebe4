import { type ClaimedEvent, type EventStatus, openOf } from '../../status.ts'
import { plain } from '../../terminal.ts'
import type { Verdict } from '../../verdict.ts'
import type { Concern } from '../../views/concerns.ts'
import { statusOf } from '../../views/view.ts'
import { away, clock, clockWithSeconds, figure } from '../../words.ts'
import { type Html, html } from '../html.ts'
import type { PageContext } from './layout.ts'

/** A part of a page that is brought up to date by itself. */
export const live = (id: string, body: Html | Html[]): Html => html`<div id="${id}" data-live>${body}</div>`

/** A time, with how far away it is. */
export const timeOf = (time: string, now: Date): Html =>
  html`<time datetime="${time}">${clock(time, now)}</time>, ${away(time, now)}`

export const timeToTheSecond = (time: string, now: Date): Html =>
  html`<time datetime="${time}">${clockWithSeconds(time, now)}</time>`

export const badge = (event: EventStatus): Html =>
  html`<span class="badge ${event.paused !== null ? 'paused' : event.state}">${statusOf(event)}</span>`

/** Something that needs somebody. What to do about it is a button of the event's page. */
export const concernOf = ({ label, text }: Concern, about: Html | '' = ''): Html =>
  html`<li><span class="badge failed">${label}</span> ${about} ${text}</li>`

/** Whether an event may open its doors, and why. */
export const verdictLine = ({ because, go }: Verdict): Html =>
  html`<p class="verdict ${go ? 'go' : 'no-go'}"><strong>${go ? 'GO' : 'NO GO'}</strong> <span>${sentence(because.join('; '))}</span></p>`

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`

/** Names and values below each other. */
export const facts = (entries: [name: string, value: Html | string][]): Html =>
  html`<dl class="facts">${entries.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`

/** Wide content that scrolls in its own frame, so that the page does not. */
export const table = (caption: string, head: string[], rows: Html[]): Html =>
  html`<div class="scroll" role="region" aria-label="${caption}" tabindex="0"><table>
    <caption>${caption}</caption>
    <thead><tr>${head.map((cell) => html`<th scope="col">${cell}</th>`)}</tr></thead>
    <tbody>${rows}</tbody>
  </table></div>`

/** A link that looks like a button: it leads to the page that asks. */
export const ask = (to: string, words: string): Html => html`<a class="button" href="${to}">${words}</a>`

/** How many attendees of an event have had an outcome, and how many there are. */
export function doneOf(event: ClaimedEvent): { done: number; all: number } {
  const { indexed, skipped, failed, erased } = event.attendees
  const done = indexed + skipped + failed + erased
  return { done, all: done + openOf(event) }
}

/** How much of the time from the claim to the start has passed, from 0 to 1. */
export function passedOf({ claimed_at, starts_at }: ClaimedEvent, now: Date): number {
  const [from, to] = [Date.parse(claimed_at), Date.parse(starts_at)]
  return to <= from ? 1 : Math.min(1, Math.max(0, (now.getTime() - from) / (to - from)))
}

export const percent = (share: number): string => `${Math.floor(share * 100)} %`

/** Somebody's text on one line; the template escapes it. */
export const oneLine = (text: string | null): string => plain(text ?? '')

/** How far it is, and how far the time is: below each other, so that the eye compares them. */
export function progressOf(event: ClaimedEvent, now: Date): Html {
  const { done, all } = doneOf(event)
  const passed = passedOf(event, now)
  const share = all === 0 ? 1 : done / all
  return html`<div class="progress">
    <span id="done-${event.event_id}">${figure(done)} of ${figure(all)} done</span>
    <progress max="1" value="${share}" aria-labelledby="done-${event.event_id}">${percent(share)}</progress>
    <span id="time-${event.event_id}">${percent(passed)} of the time to the start passed</span>
    <progress class="time" max="1" value="${passed}" aria-labelledby="time-${event.event_id}">${percent(passed)}</progress>
  </div>`
}

/** Looks for attendees of an event. */
export const searchForm = (event: string, { system }: PageContext, wanted = ''): Html =>
  html`<form class="search" role="search" action="/events/${event}/attendees">
    <label for="search">Search an attendee</label>
    <input id="search" name="search" value="${wanted}" autocomplete="off" placeholder="${system.nameColumn === null ? 'the beginning of an id' : 'an id or a name'}">
    <button>Search</button>
  </form>`
