import { randomUUID } from 'node:crypto'
import { createInterface } from 'node:readline'
import { Worker } from 'node:worker_threads'
import { type FromContainer, type Init, type Invocation, LambdaFunctionError } from './protocol.ts'

export interface ContainerOptions {
  /** Its deployed name. */
  functionName: string
  functionArn: string
  runtime: string
  init: Init
  environment: Record<string, string>
  memoryMB: number
  timeoutSeconds: number
  /** Takes each line that the function writes to its output. */
  onLine: (line: string) => void
}

/** One execution environment of a function: a thread with an environment of its own, for one invocation at a time. */
export class Container {
  readonly #options: ContainerOptions
  readonly #worker: Worker
  readonly #logStream = `[$LATEST]${randomUUID().replaceAll('-', '')}`
  /** Resolves when the function's module is loaded; rejects when it cannot be. */
  readonly #loaded: Promise<unknown>
  #ended = false

  constructor(options: ContainerOptions) {
    const { runtime, init, environment, memoryMB, onLine } = options
    this.#options = options
    this.#worker = new Worker(runtime, {
      workerData: init,
      env: { ...environment, AWS_LAMBDA_LOG_STREAM_NAME: this.#logStream },
      execArgv: environment.NODE_OPTIONS?.split(' ').filter(Boolean) ?? [],
      resourceLimits: { maxOldGenerationSizeMb: memoryMB },
      stdout: true,
      stderr: true,
    })
    this.#worker.once('error', (error) => {
      this.#ended = true
      onLine(String(error))
    })
    this.#worker.once('exit', () => {
      this.#ended = true
    })
    for (const input of [this.#worker.stdout, this.#worker.stderr])
      createInterface({ input }).on('line', onLine)
    this.#loaded = this.#next()
    this.#loaded.catch(() => {}) // the first invocation says it
  }

  /** Whether its thread has ended, so that it takes no more invocations. */
  get ended(): boolean {
    return this.#ended
  }

  /**
   * Returns what the function returns.
   * @throws {LambdaFunctionError} when it cannot be loaded, when it throws, when its time is over, or when the container
   *   ends before it does
   */
  async invoke(event: unknown): Promise<unknown> {
    const { functionName, functionArn, memoryMB, timeoutSeconds } = this.#options
    await this.#loaded
    const awsRequestId = randomUUID()
    const answer = this.#next()
    this.#worker.postMessage({
      payload: JSON.stringify(event),
      deadline: Date.now() + timeoutSeconds * 1000,
      context: {
        awsRequestId,
        functionName,
        functionVersion: '$LATEST',
        invokedFunctionArn: functionArn,
        memoryLimitInMB: String(memoryMB),
        logGroupName: `/aws/lambda/${functionName}`,
        logStreamName: this.#logStream,
      },
    } satisfies Invocation)

    let timer: NodeJS.Timeout | undefined
    const timeout = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const errorMessage = `RequestId: ${awsRequestId} Error: Task timed out after ${timeoutSeconds.toFixed(2)} seconds`
        reject(new LambdaFunctionError(functionName, { errorType: TIMED_OUT, errorMessage, trace: [] }))
      }, timeoutSeconds * 1000)
    })
    try {
      return JSON.parse(await Promise.race([answer, timeout]))
    } catch (error) {
      if (error instanceof LambdaFunctionError && error.errorType === TIMED_OUT) await this.terminate()
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  /** Ends the thread at once, wherever it is, as if the machine had died. */
  async terminate(): Promise<void> {
    this.#ended = true
    await this.#worker.terminate()
  }

  /** The payload of the thread's next answer. */
  #next(): Promise<string> {
    const worker = this.#worker
    const { functionName } = this.#options
    return new Promise((resolve, reject) => {
      const settle = () => {
        worker.off('message', onMessage).off('error', onError).off('exit', onExit)
      }
      const fail = (errorType: string, errorMessage: string, trace: string[] = []) => {
        settle()
        reject(new LambdaFunctionError(functionName, { errorType, errorMessage, trace }))
      }
      const onMessage = (message: FromContainer) => {
        if ('failure' in message) {
          const { errorType, errorMessage, trace } = message.failure
          if (message.type === 'init-failed') this.terminate()
          return fail(errorType, errorMessage, trace)
        }
        settle()
        resolve(message.type === 'returned' ? message.payload : '')
      }
      const onError = (error: Error) => fail(error.name, error.message, error.stack?.split('\n'))
      const onExit = (code: number) =>
        fail('Runtime.ExitError', `Runtime exited with error: exit status ${code}`)
      worker.on('message', onMessage).on('error', onError).on('exit', onExit)
    })
  }
}

/** The errorType of an invocation that ran out of time. */
export const TIMED_OUT = 'Sandbox.Timedout'
