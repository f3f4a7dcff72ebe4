import { createHash } from 'node:crypto'
import seedrandom from 'seedrandom'

/** A source of decisions that depend on its name alone, not on when or in which order others are asked. */
export class Random {
  readonly #name: string
  readonly #next: seedrandom.PRNG

  constructor(name: string) {
    this.#name = name
    this.#next = seedrandom(name)
  }

  /** Another source, for a decision of that name. */
  of(...names: (string | number)[]): Random {
    return new Random([this.#name, ...names].join('/'))
  }

  chance(probability: number): boolean {
    return this.#next() < probability
  }

  between(from: number, to: number): number {
    return from + this.#next() * (to - from)
  }

  integer(from: number, to: number): number {
    return Math.floor(this.between(from, to + 1))
  }

  /** @throws {RangeError} for an empty list */
  pick<T>(items: readonly T[]): T {
    const item = items[Math.floor(this.#next() * items.length)]
    if (item === undefined) throw new RangeError('nothing to pick from')
    return item
  }

  /** Picks a name by its weight. */
  weighted<Name extends string>(weights: Partial<Record<Name, number>>): Name {
    const entries = Object.entries(weights) as [Name, number][]
    let left = this.#next() * entries.reduce((sum, [, weight]) => sum + weight, 0)
    for (const [name, weight] of entries) {
      left -= weight
      if (left < 0) return name
    }
    return this.pick(entries)[0]
  }

  shuffle<T>(items: readonly T[]): T[] {
    return items
      .map((item) => ({ item, place: this.#next() }))
      .sort((one, other) => one.place - other.place)
      .map(({ item }) => item)
  }

  uuid(): string {
    const hex = createHash('sha256').update(`${this.#name}${this.#next()}`).digest('hex')
    return hex.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*$/, '$1-$2-4$3-8$4-$5')
  }
}
