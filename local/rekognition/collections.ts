import { createHash, randomUUID } from 'node:crypto'
import type { BoundingBox, DetectedFace, FaceTemplate } from './engine.ts'
import { RekognitionError } from './errors.ts'

export interface StoredFace {
  faceId: string
  /** The same for all faces of the same image bytes. */
  imageId: string
  externalImageId: string | undefined
  /** The S3 key that the image was read from; undefined when it came as bytes. */
  imageKey: string | undefined
  boundingBox: BoundingBox
  confidence: number
  template: FaceTemplate
  /** Grows with each face; the order of listing. */
  sequence: number
  /** What makes another face a duplicate of this one: image bytes, external image id, place in the image. */
  origin: string
}

/** Where a face comes from. */
export interface Origin {
  image: Uint8Array
  imageKey: string | undefined
  externalImageId: string | undefined
}

export interface Match {
  face: StoredFace
  similarity: number
}

/** A face collection. */
export class Collection {
  readonly createdAt = new Date()
  readonly id: string
  readonly sequence: number
  readonly #faces = new Map<string, StoredFace>()
  readonly #faceByOrigin = new Map<string, StoredFace>()
  #lastSequence = 0

  constructor(id: string, sequence: number) {
    this.id = id
    this.sequence = sequence
  }

  get size(): number {
    return this.#faces.size
  }

  /** In the order in which they were added. */
  faces(): IterableIterator<StoredFace> {
    return this.#faces.values()
  }

  find(faceId: string): StoredFace | undefined {
    return this.#faces.get(faceId)
  }

  /**
   * Stores the faces of one image. A face that is already there from the same image bytes under the same external image
   * id is not stored again but returned as it is (API Reference, IndexFaces).
   */
  add(origin: Origin, faces: DetectedFace[]): StoredFace[] {
    const imageHash = hashOf(origin.image)
    return faces.map((face) => this.#addFace(imageHash, origin, face))
  }

  #addFace(imageHash: string, { imageKey, externalImageId }: Origin, face: DetectedFace): StoredFace {
    const origin = JSON.stringify([imageHash, externalImageId, face.detail.BoundingBox])
    const known = this.#faceByOrigin.get(origin)
    if (known) return known

    const stored: StoredFace = {
      faceId: randomUUID(),
      imageId: asUuid(imageHash),
      externalImageId,
      imageKey,
      boundingBox: face.detail.BoundingBox,
      confidence: face.detail.Confidence,
      template: face.template,
      sequence: ++this.#lastSequence,
      origin,
    }
    this.#faces.set(stored.faceId, stored)
    this.#faceByOrigin.set(origin, stored)
    return stored
  }

  /** Whether there was such a face. */
  remove(faceId: string): boolean {
    const face = this.#faces.get(faceId)
    if (face) this.#faceByOrigin.delete(face.origin)
    return this.#faces.delete(faceId)
  }

  /** The faces at least `threshold` percent similar, the most similar first, at most `limit`. */
  matches(similarityTo: (template: FaceTemplate) => number, threshold: number, limit: number): Match[] {
    const matches: Match[] = []
    for (const face of this.#faces.values()) {
      const similarity = similarityTo(face.template)
      if (similarity >= threshold) matches.push({ face, similarity })
    }
    return matches.sort((one, other) => other.similarity - one.similarity).slice(0, limit)
  }
}

/** The face collections of the account. */
export class Collections {
  readonly #collections = new Map<string, Collection>()
  #lastSequence = 0

  /** @throws RekognitionError ResourceAlreadyExistsException */
  create(id: string): Collection {
    if (this.#collections.has(id)) {
      throw new RekognitionError('ResourceAlreadyExistsException', `The collection id: ${id} already exists`)
    }
    const collection = new Collection(id, ++this.#lastSequence)
    this.#collections.set(id, collection)
    return collection
  }

  find(id: string): Collection | undefined {
    return this.#collections.get(id)
  }

  /** @throws RekognitionError ResourceNotFoundException */
  get(id: string): Collection {
    const collection = this.#collections.get(id)
    if (!collection) {
      throw new RekognitionError('ResourceNotFoundException', `The collection id: ${id} does not exist`)
    }
    return collection
  }

  /** @throws RekognitionError ResourceNotFoundException */
  delete(id: string): void {
    this.#collections.delete(this.get(id).id)
  }

  /** In the order in which they were made. */
  all(): IterableIterator<Collection> {
    return this.#collections.values()
  }
}

const hashOf = (image: Uint8Array) => createHash('sha256').update(image).digest('hex')

/** The ImageId that faces of an image get here: the same for the same bytes. */
export const imageIdOf = (image: Uint8Array): string => asUuid(hashOf(image))

function asUuid(hex: string): string {
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, '$1-$2-$3-$4-$5')
}
