import { connectSqs } from '../src/core/queue.ts'
import { emptyOutbox, type OutboxReport } from '../src/scheduler/outbox.ts'
import { explain } from './explain.ts'
import type { Ledger } from './ledger.ts'
import type { System } from './system.ts'
import { amount } from './words.ts'

/**
 * Sends what the outbox holds, as the scheduler would within a minute: also while the scheduler itself is what is broken, with
 * no other right than to send to the two queues.
 */
async function sendOutbox(ledger: Ledger, system: System): Promise<OutboxReport> {
  const sqs = connectSqs()
  const [workQueueUrl, urgentQueueUrl] = await Promise.all([
    system.workQueueUrl(sqs),
    system.urgentQueueUrl(sqs),
  ])
  const { tps } = await ledger.forecast()
  const settings = { indexFacesTps: tps, workQueueUrl, urgentQueueUrl }
  return emptyOutbox({ database: ledger, settings, sqs }, () => false)
}

const LATER = 'The scheduler sends them within a minute.'

/** Sends at once what is queued. Where that is not possible, the scheduler does it a little later. Returns what to tell. */
export async function sendOutboxAndTell(ledger: Ledger, system: System): Promise<string> {
  try {
    const { sent, left, errors } = await sendOutbox(ledger, system)
    const [error] = errors
    if (error) return `SQS did not take ${amount(errors.length, 'message')} (${error}). ${LATER}`
    if (sent === 0 && left === 0) return 'The scheduler goes on with it within a minute.'
    const waiting =
      left > 0 ? ` ${amount(left, 'attendee')} wait for their turn, the soonest start first.` : ''
    return `${amount(sent, 'message')} sent to the workers.${waiting}`
  } catch (error) {
    const known = explain(error, system)
    return `Not sent from here: ${known instanceof Error ? known.message : known} ${LATER}`
  }
}
