import { reasonOf } from '../../reasons.ts'
import type { AttendeeRow, EventStatus } from '../../status.ts'
import { nameOf } from '../../views/view.ts'
import { amount } from '../../words.ts'
import { type Html, html } from '../html.ts'
import type { PageContext } from './layout.ts'
import { oneLine, searchForm, table } from './parts.ts'

/** Which attendees of an event are listed. */
export interface Listed {
  /** Such as `failed` or `sent,running`; null: in any. */
  state: string | null
  reason: string | null
  search: string | null
  rows: AttendeeRow[]
  /** Where the list goes on, or null. */
  next: string | null
}

export function attendeesPage(
  context: PageContext,
  event: EventStatus,
  { next, reason, rows, search: wanted, state }: Listed,
): Html {
  const what = [
    state?.replace(',', ' or '),
    reason && `${reasonOf(reason).title} (${reason})`,
    wanted && `“${wanted}”`,
  ]
  const named = rows.some(({ name }) => name !== null)
  const more = new URLSearchParams(
    Object.entries({ state, reason, after: next }).flatMap(([key, value]) =>
      value === null ? [] : [[key, value]],
    ),
  )
  return html`<p><a href="/events/${event.event_id}">${nameOf(event)}</a></p>
    <h1>Attendees: ${what.filter(Boolean).join(', ') || 'all'}</h1>
    ${searchForm(event.event_id, context, wanted ?? '')}
    ${rows.length === 0 ? html`<p>Nobody.</p>` : list(event.event_id, rows, named)}
    ${next === null ? '' : html`<p><a href="/events/${event.event_id}/attendees?${more.toString()}">The next ones</a></p>`}`
}

const list = (event: string, rows: AttendeeRow[], named: boolean): Html =>
  table(
    amount(rows.length, 'attendee'),
    ['Attendee', ...(named ? ['Name'] : []), 'State', 'Reason'],
    rows.map(
      ({ error, name, photo_key, reason, state, user_id }) => html`<tr>
        <td class="id"><a href="/attendees/${user_id}?event=${event}">${user_id}</a></td>
        ${named ? html`<td>${oneLine(name)}</td>` : ''}
        <td>${state}</td>
        <td>${reason === null ? '' : `${reasonOf(reason).title} (${reason})`}
          ${reason === 'photo_missing' && error === null && photo_key ? html`<br><span class="faint">${oneLine(photo_key)}</span>` : ''}
          ${error === null ? '' : html`<br><span class="error">${oneLine(error)}</span>`}</td>
      </tr>`,
    ),
  )
