import type { Operation } from './operations.ts'

/** Transactions per second by operation; without a limit for those left out. */
export type Quota = Partial<Record<Operation, number>>

/**
 * A token bucket: `perSecond` transactions a second, and after a quiet second as many at once.
 * A transaction past that is refused, not delayed.
 */
export class TokenBucket {
  readonly #perSecond: number
  readonly #capacity: number
  #tokens: number
  #filledAt = performance.now()

  /** @throws RangeError unless perSecond is above 0 */
  constructor(perSecond: number) {
    if (!(perSecond > 0)) {
      throw new RangeError(`quota: transactions per second must be above 0, not ${perSecond}`)
    }
    this.#perSecond = perSecond
    this.#capacity = Math.max(1, perSecond)
    this.#tokens = this.#capacity
  }

  /** Takes a token if there is one. */
  take(): boolean {
    const now = performance.now()
    this.#tokens = Math.min(this.#capacity, this.#tokens + ((now - this.#filledAt) / 1000) * this.#perSecond)
    this.#filledAt = now
    if (this.#tokens < 1) return false
    this.#tokens -= 1
    return true
  }
}
