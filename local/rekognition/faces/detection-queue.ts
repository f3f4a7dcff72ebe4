import { createHash } from 'node:crypto'
import type { DetectedFace, DetectOptions } from '../engine.ts'
import { RekognitionError } from '../errors.ts'

/** Looks at one photo at a time. */
export interface Detector {
  detect(photo: Uint8Array): Promise<DetectedFace[]>
}

/** What a photo was found to show, or why it cannot be looked at. */
type Result = { faces: DetectedFace[] } | { refused: RekognitionError }

/** A photo that is being looked at or waits for it, and everybody who waits for the result. */
interface Task {
  hash: string
  photo: Uint8Array
  /** When it was started, by performance.now(); undefined as long as it waits. */
  startedAt: number | undefined
  waiters: Set<Waiter>
}

/** A caller. */
interface Waiter {
  resolve: (faces: DetectedFace[]) => void
  reject: (error: unknown) => void
}

/** Results are small (2 KB a face): with portraits this is some 20 MB. */
const mostResults = 10_000

/** Photos that may wait in memory. */
const mostWaitingBytes = 128 * 1024 * 1024

/** Assumed until the first photo has been looked at. */
const firstEstimateMs = 1000

/** What a new measurement counts in the average. */
const weightOfNewest = 0.2

/**
 * Shares a few detectors between many callers. Each photo is looked at once, however many ask for it and however often: by
 * its content, the result is remembered and a detection under way is shared. A photo that all callers have given up is
 * dropped while it waits. The detectors' speed is measured, so that a caller can be refused who would wait too long.
 */
export class DetectionQueue {
  readonly #idle: Detector[]
  readonly #detectorCount: number
  /** Waiting and running, in the order of arrival. */
  readonly #tasks = new Map<string, Task>()
  /** The least recently used first. */
  readonly #results = new Map<string, Result>()
  #averageMs = firstEstimateMs
  #waitingBytes = 0
  #detections = 0

  constructor(detectors: Detector[]) {
    this.#idle = [...detectors]
    this.#detectorCount = detectors.length
  }

  /** How many photos were looked at. */
  get detections(): number {
    return this.#detections
  }

  /** See FaceEngine.detect. */
  async detect(photo: Uint8Array, { signal, withinMs }: DetectOptions = {}): Promise<DetectedFace[]> {
    signal?.throwIfAborted()
    const hash = createHash('sha256').update(photo).digest('hex')
    const known = this.#recall(hash)
    if (known && 'refused' in known) throw known.refused
    if (known) return known.faces

    const task = this.#tasks.get(hash) ?? this.#admit(hash, photo, withinMs)
    return new Promise((resolve, reject) => {
      const waiter = { resolve, reject }
      task.waiters.add(waiter)
      signal?.addEventListener('abort', () => this.#giveUp(task, waiter, signal.reason), { once: true })
      this.#startNext()
    })
  }

  /** @throws RekognitionError ThrottlingException when it would wait too long, or too much waits already */
  #admit(hash: string, photo: Uint8Array, withinMs: number | undefined): Task {
    if (withinMs !== undefined) {
      const full = this.#waitingBytes + photo.length > mostWaitingBytes
      const wait = this.#expectedWaitMs()
      const late = wait > 0 && wait + this.#averageMs > withinMs
      if (full || late) throw new RekognitionError('ThrottlingException')
    }
    const task: Task = { hash, photo, startedAt: undefined, waiters: new Set() }
    this.#tasks.set(hash, task)
    this.#waitingBytes += photo.length
    return task
  }

  /** How long a photo that comes now will wait before it is looked at. */
  #expectedWaitMs(): number {
    if (this.#idle.length > 0) return 0
    const now = performance.now()
    let work = 0
    for (const { startedAt } of this.#tasks.values()) {
      work += startedAt === undefined ? this.#averageMs : Math.max(0, this.#averageMs - (now - startedAt))
    }
    return work / this.#detectorCount
  }

  #startNext(): void {
    for (const task of this.#tasks.values()) {
      if (task.startedAt !== undefined) continue
      const detector = this.#idle.pop()
      if (!detector) return
      void this.#run(task, detector)
    }
  }

  async #run(task: Task, detector: Detector): Promise<void> {
    const startedAt = performance.now()
    task.startedAt = startedAt
    this.#waitingBytes -= task.photo.length
    this.#detections++
    try {
      const faces = await detector.detect(task.photo)
      this.#remember(task.hash, { faces })
      for (const { resolve } of task.waiters) resolve(faces)
      this.#measured(performance.now() - startedAt)
    } catch (error) {
      const final = error instanceof RekognitionError && error.name !== 'InternalServerError'
      if (final) this.#remember(task.hash, { refused: error })
      for (const { reject } of task.waiters) reject(error)
    } finally {
      this.#tasks.delete(task.hash)
      this.#idle.push(detector)
      this.#startNext()
    }
  }

  #giveUp(task: Task, waiter: Waiter, reason: unknown): void {
    if (!task.waiters.delete(waiter)) return
    waiter.reject(reason)
    if (task.waiters.size > 0 || task.startedAt !== undefined) return
    this.#tasks.delete(task.hash)
    this.#waitingBytes -= task.photo.length
  }

  #recall(hash: string): Result | undefined {
    const result = this.#results.get(hash)
    if (result) {
      this.#results.delete(hash)
      this.#results.set(hash, result)
    }
    return result
  }

  #remember(hash: string, result: Result): void {
    this.#results.set(hash, result)
    for (const oldest of this.#results.keys()) {
      if (this.#results.size <= mostResults) return
      this.#results.delete(oldest)
    }
  }

  #measured(ms: number): void {
    this.#averageMs =
      this.#detections === 1 ? ms : (1 - weightOfNewest) * this.#averageMs + weightOfNewest * ms
  }
}
