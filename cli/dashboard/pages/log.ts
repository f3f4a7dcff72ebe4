import type { OperatorAction } from '../../../src/core/contract.ts'
import { figure } from '../../words.ts'
import { type Html, html } from '../html.ts'
import type { PageContext } from './layout.ts'
import { oneLine, table, timeOf } from './parts.ts'

export const logPage = (actions: OperatorAction[], context: PageContext): Html => html`<h1>Log</h1>
    ${actions.length === 0 ? html`<p>No operator has done anything in the last 30 days.</p>` : log(actions, context)}`

/** Who did what, the latest first. */
export const log = (actions: OperatorAction[], { now }: PageContext): Html =>
  table(
    'What operators have done, by this page or by commands',
    ['When', 'Who', 'What', 'About', 'How many'],
    actions.map(
      ({ action, actor, at, event_id, note, touched, user_id }) => html`<tr>
        <td>${timeOf(at, now)}</td>
        <td>${oneLine(actor)}</td>
        <td>${action}</td>
        <td class="id">
          ${event_id === null ? '' : html`<a href="/events/${event_id}">${event_id}</a>`}
          ${user_id === null ? '' : html`<a href="/attendees/${user_id}">${user_id}</a>`} ${oneLine(note)}</td>
        <td>${touched === null ? '' : figure(touched)}</td>
      </tr>`,
    ),
  )
