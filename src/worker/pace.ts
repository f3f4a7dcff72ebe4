import type { Slots } from '../core/contract.ts'
import { OutOfTime, pause, type Remaining } from '../core/time.ts'

/**
 * The time slots in which the IndexFaces calls of a batch may be made. When Rekognition throttles a call all the same, it and
 * all that have not been made yet take new slots at a slower pace.
 */
export class Pace {
  readonly #renew: (slots: number, throttled: boolean) => Promise<Slots>
  readonly #remaining: Remaining
  #next = 0
  #everyMs = 0
  #left: number
  #waiting = 0 // turns that were asked for and not given yet …
  #asking = 0 // … and of these, the ones without a slot
  #generation = 0
  #throttled = false
  #renewal: Promise<void> | undefined

  /**
   * @param slots handed out for the first `count` calls
   * @param renew asks for so many new slots, and says whether a call was throttled; must not reject
   * @param remaining milliseconds in which calls may still be begun
   */
  constructor(
    slots: Slots,
    count: number,
    renew: (slots: number, throttled: boolean) => Promise<Slots>,
    remaining: Remaining,
  ) {
    this.#renew = renew
    this.#remaining = remaining
    this.#left = count
    this.#take(slots)
  }

  /**
   * Resolves when the next call may be made, with the generation of its slot.
   * @throws {OutOfTime} at once, when the slot lies beyond the time that is left
   */
  async turn(): Promise<number> {
    this.#waiting++
    this.#asking++
    try {
      for (;;) {
        await this.#renewal
        if (this.#left <= 0) {
          this.#renewal ??= this.#askForMore()
          continue
        }
        this.#left--
        this.#asking--
        const generation = this.#generation
        const wait = Math.ceil(this.#next - performance.now())
        this.#next += this.#everyMs
        if (wait > this.#remaining()) throw new OutOfTime()
        await pause(wait)
        if (generation === this.#generation) return generation
        this.#asking++
      }
    } finally {
      this.#waiting--
    }
  }

  /** To be told of each throttled call, with the generation of its slot: of one generation only the first counts. */
  refused(generation: number): void {
    if (generation !== this.#generation) return
    this.#generation++
    this.#throttled = true
    this.#left = 0
  }

  async #askForMore(): Promise<void> {
    const throttled = this.#throttled
    const count = throttled ? this.#waiting : this.#asking // the slots given before are void after a throttled call
    this.#throttled = false
    this.#take(await this.#renew(count, throttled))
    this.#left = count
    this.#renewal = undefined
  }

  #take({ first_ms, every_ms }: Slots): void {
    this.#next = performance.now() + first_ms
    this.#everyMs = every_ms
  }
}
