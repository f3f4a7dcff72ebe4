import { LONGEST_BACKOFF_SECONDS, MISSING_PATIENCE_SECONDS, QUIET_SECONDS } from '../core/policy.ts'
import type { FailureKind } from './failure.ts'

/** Why a message is to come again: a failed call, the database, or an object that is missing. */
export type RetryKind = FailureKind | 'database' | 'photo_missing'

/** The seconds before the first repetition; each further one doubles them. */
const FIRST: Record<RetryKind, number> = {
  photo_missing: MISSING_PATIENCE_SECONDS + 1,
  photo_unusable: 1,
  collection_missing: 2,
  throttled: 5,
  database: 5,
  // Outages and missing rights. Five receives span minutes.
  unavailable: 15,
  photo_unreadable: 20,
  conversion_failed: 20,
  invalid: 20,
  denied: 30,
  quota_exceeded: 30,
  unclear: QUIET_SECONDS + 5,
}

/**
 * How long a message rests before it may be received again, in seconds with a fifth of jitter.
 * @param received how many times it has been received, from 1
 * @param maxReceives after which the queue moves it to the dead-letter queue: nothing to wait for then
 */
export function backoffSeconds(kind: RetryKind, received: number, maxReceives: number): number {
  if (received >= maxReceives && kind !== 'photo_missing') return 0
  const seconds = Math.min(LONGEST_BACKOFF_SECONDS, FIRST[kind] * 2 ** (received - 1))
  return Math.ceil(seconds * (1 + Math.random() / 5))
}
