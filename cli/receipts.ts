import { createHash } from 'node:crypto'
import type { OpenErasure, Receipt } from '../src/core/contract.ts'
import type { Ledger } from './ledger.ts'

export interface Asked {
  user?: string | undefined
  event?: string | undefined
}

export interface Proof {
  open: OpenErasure[]
  /** The latest first. */
  receipts: Receipt[]
}

const PAGE = 500

/** The erasures of an attendee, of an event, or of an attendee of an event. */
export async function proofOf({ database }: Pick<Ledger, 'database'>, asked: Asked): Promise<Proof> {
  const of = { attendee: asked.user ?? null, event: asked.event ?? null }
  const receipts: Receipt[] = []
  for (;;) {
    const before = receipts.at(-1)?.position ?? null
    const page = await database.receipts({ ...of, before, page: PAGE })
    receipts.push(...page.receipts)
    if (page.receipts.length < PAGE) return { open: page.open, receipts }
  }
}

/** The whole chain, as the database and this program see it. */
export interface Chain {
  /** The position and hash of its last receipt. */
  through: number
  hash: string
  /** Where it does not fit; null: nowhere. */
  broken_at: number | null
}

/** Verifies the chain from its beginning to its end, and each of the given receipts here, with nothing but its own text. */
export async function verify({ database }: Pick<Ledger, 'database'>, receipts: Receipt[]): Promise<Chain> {
  const forged = receipts.filter(({ previous, text, hash }) => {
    const made = createHash('sha256').update(Buffer.from(previous, 'hex')).update(text).digest('hex')
    return made !== hash
  })
  if (forged.length > 0)
    return { through: 0, hash: '', broken_at: Math.min(...forged.map(({ position }) => position)) }
  let page = await database.verify_receipts({})
  while (page.more) page = await database.verify_receipts({ after: page.through, previous: page.hash })
  const { through, hash, broken_at } = page
  return { through, hash, broken_at }
}

/** Whether it is over: the faces were seen to be gone, or the app wants them again. */
export const isOver = ({ verified_at, wanted_again_at }: OpenErasure): boolean =>
  verified_at !== null || wanted_again_at !== null
