import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import type { DetectedFace, FaceEngine } from './engine.ts'
import { RekognitionError } from './errors.ts'
import type { Finding } from './face-thread.ts'
import { similarity } from './similarity.ts'

/** TensorFlow's WebAssembly backend uses one core in Node, so a second thread halves the time. Each takes 250 MB. */
const threadCount = Math.min(2, availableParallelism())

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
  const pool = new Pool(threads)
  return {
    detect: (photo) => pool.use((thread) => thread.detect(photo)),
    similarity,
    close: async () => {
      await Promise.all(threads.map((thread) => thread.close()))
    },
  }
}

/** Hands out threads, each to one user at a time, first come first served. */
class Pool {
  readonly #idle: FaceThread[]
  readonly #waiting: ((thread: FaceThread) => void)[] = []

  constructor(threads: FaceThread[]) {
    this.#idle = [...threads]
  }

  async use<T>(task: (thread: FaceThread) => Promise<T>): Promise<T> {
    const thread =
      this.#idle.pop() ?? (await new Promise<FaceThread>((resolve) => this.#waiting.push(resolve)))
    try {
      return await task(thread)
    } finally {
      const next = this.#waiting.shift()
      if (next) next(thread)
      else this.#idle.push(thread)
    }
  }
}

/** One worker thread with its models. Takes one photo at a time. */
class FaceThread {
  /** Rejects when the thread can't start. */
  readonly ready: Promise<unknown>
  readonly #worker = new Worker(new URL('./start-face-thread.mjs', import.meta.url), { execArgv: [] })
  #stopped: Error | undefined

  constructor() {
    this.ready = once(this.#worker, 'message')
    this.#worker.on('error', (error) => {
      this.#stopped = error
    })
    this.#worker.on('exit', () => {
      this.#stopped ??= new Error('the thread was stopped')
    })
  }

  /** @throws RekognitionError see FaceEngine.detect; InternalServerError when the thread has come to an end */
  async detect(photo: Uint8Array): Promise<DetectedFace[]> {
    const finding = await this.#exchange(photo)
    if ('error' in finding) throw new RekognitionError(finding.error.name, finding.error.message)
    return finding.faces
  }

  async #exchange(photo: Uint8Array): Promise<Finding> {
    if (this.#stopped) throw stopped(this.#stopped)
    const settled = new AbortController()
    const ended = once(this.#worker, 'exit', { signal: settled.signal }).then(() => {
      throw stopped(this.#stopped)
    })
    this.#worker.postMessage(photo)
    try {
      const [finding] = await Promise.race([once(this.#worker, 'message', { signal: settled.signal }), ended])
      return finding
    } finally {
      settled.abort()
      ended.catch(() => {})
    }
  }

  async close(): Promise<void> {
    await this.#worker.terminate()
  }
}

function stopped(reason: Error | undefined): RekognitionError {
  return new RekognitionError('InternalServerError', `The face engine has stopped: ${reason?.message}`)
}
