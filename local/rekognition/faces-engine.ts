import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import type { DetectedFace, FaceEngine } from './engine.ts'
import { RekognitionError } from './errors.ts'
import { DetectionQueue } from './faces/detection-queue.ts'
import { similarity } from './faces/similarity.ts'
import type { Finding } from './faces/thread.ts'

/** TensorFlow's WebAssembly backend uses one core in Node, so a second thread halves the time. Each takes 400 MB. */
const threadCount = Math.min(2, availableParallelism())

/** What it does on this machine, in portraits a second: about one a second and thread. */
export const portraitsPerSecond = threadCount

/**
 * An engine that finds and compares real faces: face-api on TensorFlow's WebAssembly backend, in worker threads so that
 * the caller's event loop stays free. Takes a second to start.
 */
export async function startFacesEngine(): Promise<FaceEngine> {
  const threads = Array.from({ length: threadCount }, () => new FaceThread())
  try {
    await Promise.all(threads.map((thread) => thread.ready))
  } catch (error) {
    await Promise.all(threads.map((thread) => thread.close()))
    throw new Error('The face engine did not start', { cause: error })
  }
  const queue = new DetectionQueue(threads)
  return {
    detect: (photo, options) => queue.detect(photo, options),
    detections: () => queue.detections,
    similarity,
    close: async () => {
      await Promise.all(threads.map((thread) => thread.close()))
    },
  }
}

/** One worker thread with its models. Takes one photo at a time. */
class FaceThread {
  /** Rejects when the thread can't start. */
  readonly ready: Promise<unknown>
  readonly #worker = new Worker(new URL('./faces/start-thread.mjs', import.meta.url), { execArgv: [] })
  #waiting: { resolve: (message: Finding) => void; reject: (error: Error) => void } | undefined
  #stopped: Error | undefined

  constructor() {
    this.#worker.on('message', (message) => this.#waiting?.resolve(message))
    this.#worker.on('error', (error) => this.#stop(error.message))
    this.#worker.on('exit', () => this.#stop('it was closed'))
    this.ready = this.#nextMessage()
  }

  /** @throws RekognitionError see FaceEngine.detect; InternalServerError when the thread has come to an end */
  async detect(photo: Uint8Array): Promise<DetectedFace[]> {
    const message = this.#nextMessage()
    this.#worker.postMessage(photo)
    const finding = await message
    if ('error' in finding) throw new RekognitionError(finding.error.name, finding.error.message)
    return finding.faces
  }

  async close(): Promise<void> {
    await this.#worker.terminate()
  }

  #nextMessage(): Promise<Finding> {
    return new Promise((resolve, reject) => {
      if (this.#stopped) reject(this.#stopped)
      else this.#waiting = { resolve, reject }
    })
  }

  #stop(reason: string): void {
    this.#stopped ??= new RekognitionError('InternalServerError', `The face engine has stopped: ${reason}`)
    this.#waiting?.reject(this.#stopped)
  }
}
