import { EXIT, type ExitCode } from '../exit.ts'
import { countDeadLetters, redriveDeadLetters } from '../queues.ts'
import { type Session, titleOf } from '../session.ts'
import { amount } from '../words.ts'

/** Has the dead letters tried again; without the database, which may be what they failed for. */
export async function redrive(session: Session): Promise<ExitCode> {
  const { system, terminal } = session
  const { waiting, inFlight } = await countDeadLetters(system)
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
  const { moved, error } = await redriveDeadLetters(system)
  terminal.write(`${amount(moved, 'message')} moved.\n`)
  if (!error) return EXIT.done
  terminal.write(
    `${terminal.paint('red', 'The rest is where it was:')} ${error.message}. Once that is repaired, redrive again.\n`,
  )
  return EXIT.failed
}
