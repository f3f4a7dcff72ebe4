import type { IndexedFace } from '../../local/rekognition/server.ts'

/** Longer than any listing lags behind. */
const KEPT_MS = 60_000

/** What collections held some seconds ago: ListFaces may answer with that. */
export class Listings {
  readonly #taken = new Map<string, { at: number; faces: IndexedFace[] }[]>()

  /** Notes what a collection holds now; undefined: there is none, and what was in an earlier one of that name is gone. */
  take(collection: string, at: number, faces: IndexedFace[] | undefined): void {
    if (!faces) {
      this.#taken.delete(collection)
      return
    }
    const taken = (this.#taken.get(collection) ?? []).filter((earlier) => earlier.at > at - KEPT_MS)
    this.#taken.set(collection, [...taken, { at, faces }])
  }

  /** What the collection held then; undefined when it was not there yet. */
  at(collection: string, time: number): IndexedFace[] | undefined {
    return this.#taken.get(collection)?.findLast(({ at }) => at <= time)?.faces
  }
}
