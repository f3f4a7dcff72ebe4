import { EXIT, type ExitCode, OperatorError } from '../exit.ts'
import { pause as begin, resume as end } from '../pause.ts'
import { type Session, titleOf } from '../session.ts'

export interface PauseOptions {
  /** Everything without it. */
  event?: string
}

export async function pause(session: Session, { event }: PauseOptions): Promise<ExitCode> {
  const { said } = await begin(await session.ledger(), event ?? null)
  const { option } = session.system
  const command = `npx event-indexer resume${option} ${event ? `--event ${event}` : '--all'}`
  session.terminal.write(`${titleOf(session)}\n\n${said}\nTo go on: ${command}\n`)
  return EXIT.done
}

export async function resume(session: Session, { event }: PauseOptions): Promise<ExitCode> {
  const { lifted, said } = await end(await session.ledger(), session.system, event ?? null)
  if (!lifted) throw new OperatorError(EXIT.notDone, said)
  session.terminal.write(`${titleOf(session)}\n\n${said}\n`)
  return EXIT.done
}
