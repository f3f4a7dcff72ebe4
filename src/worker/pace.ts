import { pause } from '../core/time.ts'

/** Time slots as the ledger gives them: the first begins in `firstMs`, the others follow every `everyMs`. */
export interface Slots {
  firstMs: number
  everyMs: number
}

/**
 * The time slots in which the IndexFaces calls of a batch may be made. When Rekognition refuses one all the same, it and all
 * who have not called yet line up again, in slots of a slower pace: they would be told the same.
 */
export class Pace {
  readonly #renew: (slots: number) => Promise<Slots>
  #next = 0
  #everyMs = 0
  #waiting = 0
  #generation = 0
  #renewal: Promise<void> = Promise.resolve()

  /**
   * @param slots as many as there are calls to be made
   * @param renew says that a call was refused, and asks for so many new slots; must not reject
   */
  constructor(slots: Slots, renew: (slots: number) => Promise<Slots>) {
    this.#renew = renew
    this.#take(slots)
  }

  /** Resolves when the next call may be made, with the generation of its slot. */
  async turn(): Promise<number> {
    this.#waiting++
    for (;;) {
      await this.#renewal
      const generation = this.#generation
      const slot = this.#next
      this.#next += this.#everyMs
      await pause(Math.ceil(slot - performance.now()))
      if (generation !== this.#generation) continue
      this.#waiting--
      return generation
    }
  }

  /** To be told of each refusal, with the generation of the call's slot: of one generation only the first counts. */
  refused(generation: number): void {
    if (generation !== this.#generation) return
    this.#generation++
    this.#renewal = this.#renew(this.#waiting + 1).then((slots) => this.#take(slots))
  }

  #take({ firstMs, everyMs }: Slots): void {
    this.#next = performance.now() + firstMs
    this.#everyMs = everyMs
  }
}
