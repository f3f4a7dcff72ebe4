import type { Ledger } from './ledger.ts'
import { sendOutboxAndTell } from './outbox.ts'
import { lookAtEvent } from './status.ts'
import type { System } from './system.ts'

/**
 * Pauses an event, or everything for a null: nothing but erasures is handed to the queues any more. Returns what to tell the
 * operator.
 * @throws {OperatorError} when there is no such event
 */
export async function pause(ledger: Ledger, event: string | null): Promise<{ said: string }> {
  if (event !== null) await lookAtEvent(ledger, event)
  const isNew = await ledger.pause(event)
  const what = event === null ? 'Everything' : 'The event'
  const is = isNew ? 'is paused' : 'was paused already'
  return {
    said: `${what} ${is}. Erasures go on; what lies in the queues, up to a minute or two of work, is still done.`,
  }
}

/** Lifts the pause of an event, or every pause for a null, and sends what has waited. Returns whether there was one, and what to tell. */
export async function resume(
  ledger: Ledger,
  system: System,
  event: string | null,
): Promise<{ lifted: boolean; said: string }> {
  const lifted = await ledger.resume(event)
  const { everything } = await ledger.pauses()
  if (everything !== null && event !== null)
    return {
      lifted: false,
      said: `Everything is paused, this event with it. To go on: npx event-indexer resume${system.option} --all`,
    }
  if (lifted === 0)
    return { lifted: false, said: event === null ? 'Nothing is paused.' : 'The event is not paused.' }
  const what = event === null ? 'Nothing is paused any more.' : 'The event is not paused any more.'
  return { lifted: true, said: `${what} ${await sendOutboxAndTell(ledger, system)}` }
}
