import { QUIET_SECONDS } from '../core/database.ts'
import type { FailureKind } from './failure.ts'

/** The seconds before the first repetition; each further one doubles them. */
const FIRST: Record<FailureKind | 'database', number> = {
  // A photo that is not there yet is there in a moment, or never.
  photo_unreadable: 0.5,
  photo_unusable: 1,
  invalid: 1,
  collection_missing: 2,
  throttled: 5,
  // Outages. Five receives span, of these three, one minute, four and eight.
  database: 5,
  unavailable: 15,
  denied: 30,
  unclear: QUIET_SECONDS + 5,
}
const LONGEST = 300

/**
 * How long a message rests before it may be received again, in seconds with a fifth of jitter.
 * @param received how many times it has been received, from 1
 * @param maxReceives after which the queue moves it to the dead-letter queue: nothing to wait for then
 */
export function backoffSeconds(
  kind: FailureKind | 'database',
  received: number,
  maxReceives: number,
): number {
  if (received >= maxReceives) return 0
  const seconds = Math.min(LONGEST, FIRST[kind] * 2 ** (received - 1))
  return Math.ceil(seconds * (1 + Math.random() / 5))
}
