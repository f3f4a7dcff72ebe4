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

/** A user of a collection: one person, known by several faces. */
export interface User {
  userId: string
  /** Grows with each user; the order of listing. */
  sequence: number
  faceIds: Set<string>
  /** Of the request that created it: the same request again is no conflict. */
  requestToken: string | undefined
}

export interface UserMatch {
  user: User
  similarity: number
}

/** More cannot be associated with one user (API Reference, AssociateFaces). */
const mostFacesOfUser = 100

/** A face collection. */
export class Collection {
  readonly createdAt = new Date()
  readonly id: string
  readonly sequence: number
  readonly #faces = new Map<string, StoredFace>()
  readonly #faceByOrigin = new Map<string, StoredFace>()
  readonly #users = new Map<string, User>()
  readonly #userOfFace = new Map<string, User>()
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

  /** The face that a search is for. @throws RekognitionError InvalidParameterException when there is none of that id */
  face(faceId: string): StoredFace {
    const face = this.#faces.get(faceId)
    if (!face)
      throw new RekognitionError('InvalidParameterException', 'faceId was not found in the collection.')
    return face
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

  /** In the order in which they were created. */
  users(): IterableIterator<User> {
    return this.#users.values()
  }

  get userCount(): number {
    return this.#users.size
  }

  /** @throws RekognitionError ConflictException when another request has created a user of this id */
  createUser(userId: string, requestToken: string | undefined): void {
    const known = this.#users.get(userId)
    if (known && requestToken !== undefined && known.requestToken === requestToken) return
    if (known) throw new RekognitionError('ConflictException')
    this.#users.set(userId, { userId, sequence: ++this.#lastSequence, faceIds: new Set(), requestToken })
  }

  /** @throws RekognitionError ResourceNotFoundException */
  user(userId: string): User {
    const user = this.#users.get(userId)
    if (!user)
      throw new RekognitionError('ResourceNotFoundException', `The user id: ${userId} does not exist`)
    return user
  }

  /** Its faces stay, and are nobody's. @throws RekognitionError ResourceNotFoundException */
  deleteUser(userId: string): void {
    for (const faceId of this.user(userId).faceIds) this.#userOfFace.delete(faceId)
    this.#users.delete(userId)
  }

  userOf(faceId: string): User | undefined {
    return this.#userOfFace.get(faceId)
  }

  /** @throws RekognitionError ServiceQuotaExceededException */
  associate(face: StoredFace, user: User): void {
    if (user.faceIds.size >= mostFacesOfUser) throw new RekognitionError('ServiceQuotaExceededException')
    user.faceIds.add(face.faceId)
    this.#userOfFace.set(face.faceId, user)
  }

  disassociate(faceId: string, user: User): void {
    user.faceIds.delete(faceId)
    this.#userOfFace.delete(faceId)
  }

  /**
   * How similar a face is to a user: as to the most similar of their faces, since only the engine knows what an average of
   * templates would mean. 0 for a user without a face.
   */
  similarityTo(user: User, similarityTo: (template: FaceTemplate) => number): number {
    return Math.max(0, ...this.facesOf(user).map(({ template }) => similarityTo(template)))
  }

  facesOf(user: User): StoredFace[] {
    return [...user.faceIds].flatMap((faceId) => this.#faces.get(faceId) ?? [])
  }

  /** The users at least `threshold` percent similar, the most similar first, at most `limit`. Those without a face are not searched. */
  userMatches(
    similarityTo: (template: FaceTemplate) => number,
    threshold: number,
    limit: number,
  ): UserMatch[] {
    return [...this.#users.values()]
      .filter(({ faceIds }) => faceIds.size > 0)
      .map((user) => ({ user, similarity: this.similarityTo(user, similarityTo) }))
      .filter(({ similarity }) => similarity >= threshold)
      .sort((one, other) => other.similarity - one.similarity)
      .slice(0, limit)
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
