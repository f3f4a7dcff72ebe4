import type { OpenErasure, Receipt } from '../../src/core/contract.ts'
import type { Chain, Proof } from '../receipts.ts'
import { plain, type Terminal } from '../terminal.ts'
import { amount, span } from '../words.ts'
import { fact } from './view.ts'

/** Why faces had to go. */
export const WHY: Record<OpenErasure['reason'], string> = {
  consent: 'consent was taken back, or is gone',
  profile: 'the profile or its photo is gone',
  event: 'the event was closed: all of its faces',
  found: 'found without a change that told of it',
  request: 'asked for by an operator',
}

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
  terminal: Terminal,
  receipt?: Receipt,
): string {
  const line = (name: string, value: string) => fact(name, plain(value), terminal)
  const { deleted_at, event_id, faces, noted_at, user_id, verified_at, wanted_again_at } = erasure
  const lines = [
    head,
    line('Event', event_id),
    line('Attendee', user_id ?? 'all'),
    line('Why', WHY[erasure.reason]),
    line('Noted', noted_at),
    line('Deleted', deleted_at === null ? 'not yet' : `${deleted_at}${facesOf(user_id, faces)}`),
  ]
  if (wanted_again_at !== null) lines.push(line('Again', wanted_again_at))
  else
    lines.push(
      line(
        'Seen gone',
        verified_at === null
          ? 'not yet'
          : `${verified_at}, ${span(Date.parse(verified_at) - Date.parse(noted_at))} after it was noted`,
      ),
    )
  if (erasure.error) lines.push(line('Error', erasure.error))
  if (receipt) lines.push(line('Hash', receipt.hash))
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
