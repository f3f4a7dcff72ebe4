import type { OpenErasure, Receipt } from '../../src/core/contract.ts'
import { EXIT, type ExitCode, OperatorError } from '../exit.ts'
import type { Ledger } from '../ledger.ts'
import { type Chain, isOver, type Proof, proofOf, verify } from '../receipts.ts'
import { type DocumentHead, documentHead, type Session, titleOf } from '../session.ts'
import { jsonOf } from '../terminal.ts'
import { viewProof } from '../views/receipts.ts'
import { amount } from '../words.ts'

export interface ProveOptions {
  user?: string
  event?: string
  json?: boolean
}

/** What `--json` prints: fields are added to it, never changed. */
export interface ProveDocument extends DocumentHead {
  /** Whether the chain is whole and every erasure was seen to be done. */
  proven: boolean
  chain: Chain
  open: OpenErasure[]
  /** The latest first. */
  receipts: Receipt[]
  /** Events in whose collection there is a face of the attendee, since they consent. */
  standing: string[]
}

/** Prints the receipts of erasures, and verifies the chain that they are part of. */
export async function prove(session: Session, options: ProveOptions): Promise<ExitCode> {
  const { terminal } = session
  const ledger = await session.ledger()
  const proof = await proofOf(ledger, options)
  const chain = await verify(ledger, proof.receipts)
  const standing = await standingOf(ledger, options)
  const proven = chain.broken_at === null && proof.open.every(isOver)

  if (options.json) {
    const document: ProveDocument = {
      ...documentHead(session),
      proven,
      chain,
      ...proof,
      standing,
    }
    terminal.write(`${jsonOf(document, 2)}\n`)
    return codeOf(proof, proven)
  }
  terminal.write(`${titleOf(session)}\n\n`)
  terminal.write(`${viewProof(proof, chain, terminal)}\n`)
  if (standing.length > 0)
    terminal.write(
      `\n${terminal.paint('yellow', `A face of theirs is in the collection of ${amount(standing.length, 'event')} at this moment: ${standing.join(', ')}.`)}\n`,
    )
  if (codeOf(proof, proven) === EXIT.notDone)
    throw new OperatorError(
      EXIT.notDone,
      `No erasure of ${options.user ? `attendee ${options.user}` : `event ${options.event}`} is known. Receipts are kept for three years.`,
    )
  return codeOf(proof, proven)
}

/** The events that have a face of the attendee. */
async function standingOf(ledger: Ledger, { user, event }: ProveOptions): Promise<string[]> {
  if (user === undefined) return []
  const jobs = await ledger.attendee(user, event ?? null)
  return jobs.filter(({ face_id }) => face_id !== null).map(({ event_id }) => event_id)
}

function codeOf({ open, receipts }: Proof, proven: boolean): ExitCode {
  if (!proven) return EXIT.failed
  return open.length + receipts.length === 0 ? EXIT.notDone : EXIT.done
}
