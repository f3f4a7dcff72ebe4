import { EXIT, type ExitCode } from '../exit.ts'
import type { Session } from '../session.ts'
import { lookAtEvent } from '../status.ts'
import { verdictOf } from '../verdict.ts'
import { nameOf } from '../views/view.ts'
import { away } from '../words.ts'

export interface CheckOptions {
  event: string
}

/** Says in one line whether an event may open its doors. */
export async function check({ ledger, terminal }: Session, { event }: CheckOptions): Promise<ExitCode> {
  const { status } = await lookAtEvent(await ledger(), event)
  const now = new Date()
  const { go, because } = verdictOf(status, now)
  const word = go ? terminal.paint('green', 'GO') : terminal.paint('red', 'NO GO')
  const start =
    status.starts_at === null || status.state === 'unclaimed' ? '' : ` (start ${away(status.starts_at, now)})`
  terminal.write(`${word}  ${nameOf(status)}${start}: ${because.join('; ')}.\n`)
  return go ? EXIT.done : EXIT.failed
}
