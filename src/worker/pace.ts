import { pause } from '../core/time.ts'

/** The slots of a batch as the ledger gave them: the first begins in `firstMs`, the others follow every `everyMs`. */
export interface Slots {
  firstMs: number
  everyMs: number
}

const SHORTEST_REST_MS = 200
const LONGEST_REST_MS = 8_000
const SLOWER = 1.25 // after each rest

/**
 * The time slots in which the IndexFaces calls of a batch may be made. When Rekognition throttles one all the same, nobody of
 * the batch calls for a while, longer each time until a call passes, and whoever has not called yet lines up again after that:
 * a call that is refused now tells what the others would be told.
 */
export class Pace {
  #next: number
  #everyMs: number
  #restsUntil = Number.NEGATIVE_INFINITY
  #refusals = 0

  constructor({ firstMs, everyMs }: Slots) {
    this.#next = performance.now() + firstMs
    this.#everyMs = everyMs
  }

  /** Resolves when the next call may be made. */
  async turn(): Promise<void> {
    let slot: number
    do {
      slot = this.#next
      this.#next += this.#everyMs
      await pause(Math.ceil(slot - performance.now()))
    } while (slot < this.#restsUntil)
  }

  passed(): void {
    this.#refusals = 0
  }

  throttled(): void {
    const now = performance.now()
    if (now < this.#restsUntil) return // made before it was known
    const rest = Math.min(LONGEST_REST_MS, SHORTEST_REST_MS * 2 ** this.#refusals++)
    this.#restsUntil = now + rest * (0.5 + Math.random())
    this.#next = this.#restsUntil
    this.#everyMs *= SLOWER
  }
}
