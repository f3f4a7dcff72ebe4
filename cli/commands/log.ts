import type { OperatorAction } from '../../src/core/contract.ts'
import { EXIT, type ExitCode } from '../exit.ts'
import { type DocumentHead, documentHead, type Session, titleOf } from '../session.ts'
import { jsonOf, plain, type Terminal, wrap } from '../terminal.ts'
import { clock, figure } from '../words.ts'

export interface LogOptions {
  /** What was done about this event, and about everything; all without it. */
  event?: string
  json?: boolean
}

/** What `--json` prints: fields are added to it, never changed. */
export interface LogDocument extends DocumentHead {
  /** The latest first. */
  actions: OperatorAction[]
}

const LISTED = 200

/** Tells what operators have done, by commands or by the page. */
export async function log(session: Session, { event, json = false }: LogOptions): Promise<ExitCode> {
  const { terminal } = session
  const actions = await (await session.ledger()).actions(event ?? null, LISTED)
  if (json) {
    const document: LogDocument = {
      ...documentHead(session),
      actions,
    }
    terminal.write(`${jsonOf(document, 2)}\n`)
    return EXIT.done
  }
  terminal.write(`${titleOf(session)}\n\n${viewActions(actions, terminal, new Date())}\n`)
  return EXIT.done
}

function viewActions(actions: OperatorAction[], { columns, paint }: Terminal, now: Date): string {
  if (actions.length === 0) return 'No operator has done anything in the last 30 days.'
  return actions
    .map(({ action, actor, at, event_id, note, touched, user_id }) => {
      const about = [
        event_id !== null ? `event ${event_id}` : touched === null && 'everything',
        user_id && `attendee ${user_id}`,
        note && plain(note),
        touched !== null && figure(touched),
      ]
      const line = `${clock(at, now)}  ${plain(actor)}: ${action}, ${about.filter(Boolean).join(', ')}`
      return wrap(line, columns, 2).trimStart().replace(action, paint('bold', action))
    })
    .join('\n')
}
