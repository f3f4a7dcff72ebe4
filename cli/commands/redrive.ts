import { connectSqs } from '../../src/core/queue.ts'
import { EXIT, type ExitCode } from '../exit.ts'
import { countMessages, deadLetterQueueOf, moveMessages } from '../queues.ts'
import { type Session, titleOf } from '../session.ts'
import { amount } from '../words.ts'

export async function redrive(session: Session): Promise<ExitCode> {
  const { system, terminal } = session
  const sqs = connectSqs()
  const to = await system.workQueueUrl(sqs)
  const from = await deadLetterQueueOf(sqs, to)
  const { waiting, inFlight } = await countMessages(sqs, from)
  terminal.write(`${titleOf(session)}\n\n`)

  if (waiting === 0) {
    const busy = inFlight > 0 ? `; the finalizer is at ${amount(inFlight, 'message')}` : ''
    terminal.write(`Nothing to move: no message waits in the dead-letter queue${busy}.\n`)
    terminal.write(
      `What has failed before is in the ledger: npx event-indexer replay${system.option} --all-failed\n`,
    )
    return EXIT.done
  }
  terminal.write(`Moving ${amount(waiting, 'message')} from the dead-letter queue back to the work queue …\n`)
  const { moved, error } = await moveMessages(sqs, from, to)
  terminal.write(`${amount(moved, 'message')} moved.\n`)
  if (!error) return EXIT.done
  terminal.write(
    `${terminal.paint('red', 'The rest is where it was:')} ${error.message}. Once that is repaired, redrive again.\n`,
  )
  return EXIT.failed
}
