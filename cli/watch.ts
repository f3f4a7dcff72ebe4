import { setTimeout as sleep } from 'node:timers/promises'
import { isPassing } from './explain.ts'
import { PATIENCE_MS } from './words.ts'

const EVERY_MS = 2_000

export interface Watching<T> {
  look: () => Promise<T>
  /** Shows what was seen last, and since when there has been no answer; null: there has just been one. */
  show: (seen: T, silentSince: Date | null) => void
  /** Whether to stop; without it, only Ctrl-C ends the watch. */
  isOver?: (seen: T) => boolean
}

/**
 * Looks again and again. A database that is away for a while does not end it, once there has been an answer.
 * Returns what was seen last, and whether Ctrl-C ended it.
 */
export async function watch<T>({
  look,
  show,
  isOver = () => false,
}: Watching<T>): Promise<{ seen: T | null; interrupted: boolean }> {
  const interruption = new AbortController()
  const interrupted = new Promise<null>((resolve) => {
    interruption.signal.addEventListener('abort', () => resolve(null))
  })
  const interrupt = () => interruption.abort()
  process.once('SIGINT', interrupt)
  let seen: T | null = null
  let answeredAt = new Date()
  /** Looks, and prints a line when the answer takes long. */
  const lookPatiently = async () => {
    const isWaiting = setInterval(() => seen !== null && show(seen, answeredAt), PATIENCE_MS)
    try {
      return await Promise.race([look(), interrupted])
    } finally {
      clearInterval(isWaiting)
    }
  }
  let silentSince: Date | null = null
  try {
    while (!interruption.signal.aborted) {
      try {
        const now = await lookPatiently()
        if (now === null) break
        seen = now
        answeredAt = new Date()
        silentSince = null
      } catch (error) {
        if (seen === null || !isPassing(error)) throw error
        silentSince = answeredAt
      }
      show(seen, silentSince)
      if (silentSince === null && isOver(seen)) return { seen, interrupted: false }
      await sleep(EVERY_MS, undefined, { signal: interruption.signal }).catch(() => {})
    }
    return { seen, interrupted: true }
  } finally {
    process.off('SIGINT', interrupt)
  }
}
