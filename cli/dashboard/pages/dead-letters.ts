import type { KeptLetter } from '../../../src/core/contract.ts'
import type { QueueCounts } from '../../queues.ts'
import { cut, plain } from '../../terminal.ts'
import { amount, figure } from '../../words.ts'
import { type Html, html } from '../html.ts'
import type { PageContext } from './layout.ts'
import { ask, oneLine, table, timeOf } from './parts.ts'

export interface DeadLetters {
  /** Of the queue at this moment, or why that is not known. */
  queue: QueueCounts | string
  total: number
  letters: KeptLetter[]
}

const SHOWN = 200 // characters of a message

export function deadLettersPage(
  { letters, queue, total }: DeadLetters,
  { now, readOnly }: PageContext,
): Html {
  return html`<h1>Dead letters</h1>
    ${typeof queue === 'string' ? html`<p class="error">${queue}</p>` : counts(queue, readOnly)}
    ${
      total === 0
        ? html`<p>Kept as no messages of ours: none.</p>`
        : html`<p>Kept because they are no messages of ours: ${amount(total, 'message')}, the latest first.</p>
    ${table(
      `${figure(letters.length)} of ${amount(total, 'message')}`,
      ['Received', 'Message', 'Problem', 'Action'],
      letters.map(
        ({ body, message_id, problem, received_at }) => html`<tr>
          <td>${timeOf(received_at, now)}</td>
          <td class="id">${plain(message_id)}<br><span class="faint">${cut(plain(body.slice(0, 1000)), SHOWN)}</span></td>
          <td class="error">${oneLine(problem)}</td>
          <td>${readOnly ? '' : ask(`/dead-letters/acknowledge?message=${encodeURIComponent(message_id)}`, 'Acknowledge …')}</td>
        </tr>`,
      ),
    )}
    ${readOnly ? '' : html`<p class="actions">${ask('/dead-letters/acknowledge', 'Acknowledge all …')}</p>`}`
    }`
}

function counts({ inFlight, waiting }: QueueCounts, readOnly: boolean): Html {
  return html`<p>In the dead-letter queue: ${figure(waiting)} waiting, ${figure(inFlight)} in flight.
    ${waiting > 0 && !readOnly ? ask('/dead-letters/redrive', 'Back to the work queue …') : ''}</p>`
}
