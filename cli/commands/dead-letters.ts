import type { KeptLetter } from '../../src/core/contract.ts'
import { EXIT, type ExitCode, OperatorError } from '../exit.ts'
import { countDeadLetters, type QueueCounts } from '../queues.ts'
import { type DocumentHead, documentHead, type Session, titleOf } from '../session.ts'
import { cut, jsonOf, plain, type Terminal, tableOf, wrap } from '../terminal.ts'
import { amount, clock, figure } from '../words.ts'

export interface DeadLettersOptions {
  json?: boolean
  /** The ids of messages that are to be listed no more; true: of all. */
  acknowledge?: string[] | true
}

/** What `--json` prints: fields are added to it, never changed. */
export interface DeadLettersDocument extends DocumentHead {
  /** In the dead-letter queue at this moment. */
  queue: { waiting: number; in_flight: number }
  /** What the finalizer has kept because it is no message of ours, the latest first. */
  kept: KeptLetter[]
}

const SHOWN = 20

export async function deadLetters(session: Session, options: DeadLettersOptions): Promise<ExitCode> {
  if (options.acknowledge !== undefined) return acknowledge(session, options.acknowledge)
  const { json = false } = options
  const { terminal } = session
  const [counts, kept] = await Promise.allSettled([
    countDeadLetters(session.system),
    session.ledger().then((ledger) => ledger.deadLetters(json ? Infinity : SHOWN)),
  ])
  if (json && counts.status === 'fulfilled' && kept.status === 'fulfilled') {
    const document: DeadLettersDocument = {
      ...documentHead(session),
      queue: { waiting: counts.value.waiting, in_flight: counts.value.inFlight },
      kept: kept.value.letters,
    }
    terminal.write(`${jsonOf(document, 2)}\n`)
    return EXIT.done
  }
  if (!json) {
    // One may be there while the other is away.
    terminal.write(`${titleOf(session)}\n\n`)
    if (counts.status === 'fulfilled') terminal.write(`${viewCounts(counts.value, session)}\n`)
    if (kept.status === 'fulfilled')
      terminal.write(`${viewKept(kept.value.letters, kept.value.total, terminal)}\n`)
  }
  const failed = [counts, kept].find(({ status }) => status === 'rejected')
  if (failed?.status === 'rejected') throw failed.reason
  return EXIT.done
}

async function acknowledge(session: Session, messages: string[] | true): Promise<ExitCode> {
  const count = await (await session.ledger()).acknowledge(messages === true ? null : messages)
  if (count === 0)
    throw new OperatorError(EXIT.notDone, 'No such message is kept, or all of them are acknowledged.')
  session.terminal.write(
    `${titleOf(session)}\n\n${amount(count, 'message')} acknowledged: listed no more, and still in the table.\n`,
  )
  return EXIT.done
}

function viewCounts({ waiting, inFlight }: QueueCounts, { system, terminal }: Session): string {
  const counts = `In the dead-letter queue: ${figure(waiting)} waiting, ${figure(inFlight)} in flight.`
  if (waiting === 0) return counts
  return `${terminal.paint('yellow', counts)} Back to the work queue: npx event-indexer redrive${system.option}`
}

function viewKept(letters: KeptLetter[], total: number, terminal: Terminal): string {
  if (total === 0) return 'Kept as no messages of ours: none.'
  const now = new Date()
  const times = letters.map(({ received_at }) => clock(received_at, now))
  const time = Math.max(8, ...times.map(({ length }) => length))
  const columns = [
    { head: 'RECEIVED', width: time },
    { head: 'MESSAGE ID', width: 36 },
    { head: 'LENGTH', width: 8, align: 'right' as const },
  ]
  const rows = letters.map(({ message_id, problem, body }, index) => ({
    cells: [times[index] ?? '', plain(message_id), figure(body.length)],
    below: [
      terminal.paint('red', wrap(plain(problem), terminal.columns, 2)),
      terminal.paint('dim', `  ${cut(plain(body.slice(0, 1000)), terminal.columns - 2)}`),
    ],
  }))
  const more =
    total > letters.length ? `\n… and ${figure(total - letters.length)} older: --json lists them all` : ''
  return `Kept as no messages of ours: ${amount(total, 'message')}, the latest first. To have them listed no more: --acknowledge ID…, or --acknowledge for all.\n\n${tableOf(columns, rows, terminal)}${more}`
}
