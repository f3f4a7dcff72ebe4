import type { OpenErasure, Receipt } from '../../src/core/contract.ts'
import type { Chain, Proof } from '../receipts.ts'
import { plain, type Terminal, wrap } from '../terminal.ts'
import { amount, span } from '../words.ts'

/** Why faces had to go. */
export const WHY: Record<OpenErasure['reason'], string> = {
  consent: 'consent was taken back, or is gone',
  profile: 'the profile or its photo is gone',
  event: 'the event was closed: all of its faces',
  found: 'found without a change that told of it',
  request: 'asked for by an operator',
}

const INDENT = 12

/** The receipts and open erasures, one below the other, then what the chain says. */
export function viewProof({ open, receipts }: Proof, chain: Chain, terminal: Terminal): string {
  const parts = [
    ...open.map((erasure) => viewErasure(erasure, openingOf(erasure, terminal), terminal)),
    ...receipts.map((receipt) => viewErasure(receipt, headOf(receipt, terminal), terminal, receipt)),
    viewChain(chain, terminal),
  ]
  return parts.join('\n\n')
}

const headOf = ({ position, verified_at }: Receipt, { paint }: Terminal): string =>
  verified_at !== null
    ? paint('green', `Receipt ${position}: erased`)
    : paint('dim', `Receipt ${position}: the app wanted a face of theirs again`)

function openingOf(erasure: OpenErasure, { paint }: Terminal): string {
  if (erasure.verified_at !== null || erasure.wanted_again_at !== null)
    return paint('dim', 'Over, and its receipt is written within a minute')
  if (erasure.state === 'failed') return paint('red', 'Open: it has failed, and is tried again')
  return paint('yellow', 'Open: not yet seen to be gone')
}

function viewErasure(
  erasure: Omit<OpenErasure, 'state' | 'error'> & { error?: string | null },
  head: string,
  { columns, paint }: Terminal,
  receipt?: Receipt,
): string {
  const fact = (label: string, value: string) =>
    paint('dim', `  ${label}`.padEnd(INDENT)) + wrap(plain(value), columns, INDENT).trimStart()
  const { deleted_at, event_id, faces, noted_at, user_id, verified_at, wanted_again_at } = erasure
  const lines = [
    head,
    fact('Event', event_id),
    fact('Attendee', user_id ?? 'all'),
    fact('Why', WHY[erasure.reason]),
    fact('Noted', noted_at),
    fact('Deleted', deleted_at === null ? 'not yet' : `${deleted_at}${facesOf(user_id, faces)}`),
  ]
  if (wanted_again_at !== null) lines.push(fact('Again', wanted_again_at))
  else
    lines.push(
      fact(
        'Seen gone',
        verified_at === null
          ? 'not yet'
          : `${verified_at}, ${span(Date.parse(verified_at) - Date.parse(noted_at))} after it was noted`,
      ),
    )
  if (erasure.error) lines.push(fact('Error', erasure.error))
  if (receipt) lines.push(fact('Hash', receipt.hash))
  return lines.join('\n')
}

const facesOf = (user: string | null, faces: number): string =>
  user === null ? '' : faces === 0 ? ', no face was there' : `, ${amount(faces, 'face')}`

function viewChain({ broken_at, hash, through }: Chain, { paint }: Terminal): string {
  if (broken_at !== null)
    return paint(
      'red',
      `The chain of receipts is BROKEN at receipt ${broken_at}: it, or the one before it, was changed or removed after it was written.`,
    )
  if (through === 0) return paint('dim', 'The chain of receipts is empty.')
  return `${paint('green', `The chain is whole: ${amount(through, 'receipt')} to this day.`)}\n${paint('dim', `  Its last hash is ${hash}`)}`
}
