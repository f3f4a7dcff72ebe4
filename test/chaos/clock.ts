import { syncBuiltinESMExports } from 'node:module'
import timers, { setImmediate } from 'node:timers/promises'

const GRID_MS = 1000

interface Sleeper {
  at: number
  wake: () => void
}

/**
 * Simulated time: as fast as real time while real work is under way (`during`), and as soon as all are asleep it jumps to
 * whoever wakes first. Sleepers wake on a grid, so that many do at the same moment and their work really runs side by side.
 */
export class Clock {
  readonly #whenStill: (aheadMs: number) => Promise<void>
  readonly #origin = Date.now()
  #sleepers: Sleeper[] = []
  #ahead = 0
  #busy = 0
  #idle: () => void = () => {}

  /** @param whenStill sets the other clocks so many ms ahead of real time; called when all are asleep, before any wakes */
  constructor(whenStill: (aheadMs: number) => Promise<void>) {
    this.#whenStill = whenStill
  }

  /** Milliseconds since the epoch. */
  now(): number {
    return Date.now() + this.#ahead
  }

  /** Resolves when so much time has passed; never, for Infinity. */
  sleep(ms: number, cancelled?: AbortSignal): Promise<void> {
    if (ms <= 0) return Promise.resolve()
    return new Promise((wake) => {
      if (ms === Number.POSITIVE_INFINITY) return
      const at = this.#origin + Math.ceil((this.now() - this.#origin + ms) / GRID_MS) * GRID_MS
      const sleeper = { at, wake }
      this.#sleepers.push(sleeper)
      cancelled?.addEventListener('abort', () => {
        this.#sleepers = this.#sleepers.filter((other) => other !== sleeper)
      })
    })
  }

  /** Real work, during which time does not jump. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    this.#busy++
    try {
      return await work()
    } finally {
      if (--this.#busy === 0) this.#idle()
    }
  }

  /** Lets time pass until then. */
  async advance(until: number): Promise<void> {
    for (;;) {
      await this.#stillness()
      const next = Math.min(until, ...this.#sleepers.map(({ at }) => at))
      this.#ahead = Math.max(this.#ahead, next - Date.now())
      await this.#whenStill(this.#ahead)
      if (next >= until) return
      const now = this.now()
      const due = this.#sleepers.filter(({ at }) => at <= now).sort((one, other) => one.at - other.at)
      this.#sleepers = this.#sleepers.filter(({ at }) => at > now)
      for (const { wake } of due) wake()
    }
  }

  async #stillness(): Promise<void> {
    for (let quiet = 0; quiet < 4; quiet++) {
      await setImmediate()
      if (this.#busy === 0) continue
      quiet = 0
      await new Promise<void>((resolve) => {
        this.#idle = resolve
      })
    }
  }
}

let current: Clock | undefined
const realSetTimeout = timers.setTimeout
const realNow = performance.now.bind(performance)

/**
 * Makes the pauses of this process, those of `node:timers/promises`, pass on the given clock, and `performance.now` read it;
 * undefined: the real one.
 */
export function pauseBy(clock: Clock | undefined): void {
  current = clock
  timers.setTimeout = clock ? pause : realSetTimeout
  performance.now = clock ? () => clock.now() : realNow
  syncBuiltinESMExports()
}

async function pause<T = void>(ms = 0, value?: T): Promise<T> {
  await current?.sleep(ms)
  return value as T
}
