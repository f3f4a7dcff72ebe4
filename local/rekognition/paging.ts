import { createHash } from 'node:crypto'
import { RekognitionError } from './errors.ts'

/** How many results a page has at most, and when the request does not say. */
export const largestPage = 4096

export interface Page<Item> {
  items: Item[]
  /** The token of the next page, when there is one. */
  nextToken: string | undefined
}

/**
 * One page of items that are in the order of their `sequence`. A token names the last item of the page before, so items
 * may come and go between two pages.
 * @param list what is listed, so that a token of one list is refused by another
 * @throws RekognitionError InvalidPaginationTokenException
 */
export function takePage<Item extends { sequence: number }>(
  list: string,
  items: Iterable<Item>,
  { MaxResults, NextToken }: { MaxResults?: number | undefined; NextToken?: string | undefined },
): Page<Item> {
  const size = MaxResults || largestPage
  const after = NextToken === undefined ? 0 : readToken(list, NextToken)
  const page: Item[] = []
  for (const item of items) {
    if (item.sequence <= after) continue
    const last = page.at(-1)
    if (page.length === size && last) return { items: page, nextToken: writeToken(list, last.sequence) }
    page.push(item)
  }
  return { items: page, nextToken: undefined }
}

function writeToken(list: string, sequence: number): string {
  return Buffer.from(`${fingerprint(list)} ${sequence}`).toString('base64url')
}

function readToken(list: string, token: string): number {
  const [owner, sequence] = Buffer.from(token, 'base64url').toString().split(' ')
  if (owner !== fingerprint(list) || !sequence || !/^\d+$/.test(sequence)) {
    throw new RekognitionError('InvalidPaginationTokenException')
  }
  return Number(sequence)
}

/** Short, since a token has at most 255 characters and a collection's id alone may have as many. */
function fingerprint(list: string): string {
  return createHash('sha256').update(list).digest('hex').slice(0, 16)
}
