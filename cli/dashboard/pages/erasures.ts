import type { OpenErasure } from '../../../src/core/contract.ts'
import { type Chain, isOver, type Proof } from '../../receipts.ts'
import { WHY } from '../../views/receipts.ts'
import { amount, figure, span } from '../../words.ts'
import { type Html, html } from '../html.ts'
import type { PageContext } from './layout.ts'
import { oneLine, table, timeOf } from './parts.ts'

export interface Erasures extends Proof {
  chain: Chain
  /** Where the receipts go on, or null. */
  before: number | null
}

/** The erasures that are not proven, then the receipts of those that are, each with its time from the change to the proof. */
export function erasuresPage({ before, chain, open, receipts }: Erasures, { now }: PageContext): Html {
  const waiting = open.filter((erasure) => !isOver(erasure))
  return html`<h1>Erasures</h1>
    ${chainOf(chain)}
    ${
      waiting.length === 0
        ? html`<p class="calm">Every erasure is proven.</p>`
        : table(
            `${amount(waiting.length, 'erasure')} not proven`,
            ['Noted', 'Attendee', 'Event', 'Why', 'Stands'],
            waiting.map((erasure) => row(erasure, html`<td>${standing(erasure)}</td>`, now)),
          )
    }
    ${
      receipts.length === 0
        ? html`<p>No receipts yet.</p>`
        : table(
            `${amount(receipts.length, 'receipt')}, the latest first`,
            ['Noted', 'Attendee', 'Event', 'Why', 'Deleted after', 'Seen gone after', 'Receipt'],
            receipts.map((receipt) =>
              row(
                receipt,
                html`<td>${since(receipt.noted_at, receipt.deleted_at)}</td>
                  <td>${receipt.wanted_again_at === null ? since(receipt.noted_at, receipt.verified_at) : 'wanted again'}</td>
                  <td>${figure(receipt.position)}</td>`,
                now,
              ),
            ),
          )
    }
    ${before === null ? '' : html`<p><a href="/erasures?before=${before}">Earlier ones</a></p>`}`
}

function chainOf({ broken_at, through }: Chain): Html {
  if (broken_at !== null)
    return html`<p class="verdict no-go"><strong>BROKEN</strong> The chain of receipts does not fit at receipt ${broken_at}: it, or the one before it, was changed or removed after it was written.</p>`
  return html`<p class="verdict go"><strong>WHOLE</strong> The chain of receipts: ${amount(through, 'receipt')} to this day.</p>`
}

const row = (
  { event_id, noted_at, reason, user_id }: Omit<OpenErasure, 'state' | 'error'>,
  rest: Html,
  now: Date,
): Html => html`<tr>
    <td>${timeOf(noted_at, now)}</td>
    <td class="id">${user_id === null ? 'all' : html`<a href="/attendees/${user_id}">${user_id}</a>`}</td>
    <td class="id"><a href="/events/${event_id}">${event_id}</a></td>
    <td>${WHY[reason]}</td>
    ${rest}
  </tr>`

function standing({ deleted_at, error, state }: OpenErasure): Html {
  if (state === 'failed')
    return html`<span class="error">failed, and is tried again: ${oneLine(error)}</span>`
  return deleted_at === null ? html`not deleted yet` : html`deleted; a later listing has to show it`
}

const since = (from: string, to: string | null): string =>
  to === null ? '–' : span(Date.parse(to) - Date.parse(from))
