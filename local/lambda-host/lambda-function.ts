import { Container, type ContainerOptions, TIMED_OUT } from './container.ts'
import { LambdaFunctionError } from './protocol.ts'

export interface FunctionCounts {
  invocations: number
  /** Invocations that failed, those that ran out of time among them. */
  errors: number
  timeouts: number
  coldStarts: number
  /** From each invocation to its end, a container's start included: what Lambda bills. */
  milliseconds: number
}

/** A function and its containers: a warm one is used again, otherwise a new one is started. */
export class LambdaFunction {
  readonly counts: FunctionCounts = { invocations: 0, errors: 0, timeouts: 0, coldStarts: 0, milliseconds: 0 }
  readonly #options: ContainerOptions
  readonly #containers = new Set<Container>()
  readonly #idle: Container[] = []
  #closed = false

  constructor(options: ContainerOptions) {
    this.#options = options
  }

  get environment(): Record<string, string> {
    return this.#options.environment
  }

  /** Those that have been started and not ended. */
  get containers(): Container[] {
    return [...this.#containers].filter((container) => !container.ended)
  }

  /** @throws {LambdaFunctionError} when the invocation fails */
  async invoke(event: unknown): Promise<unknown> {
    this.counts.invocations++
    const began = performance.now()
    try {
      const container = this.#warm() ?? this.#start()
      try {
        return await container.invoke(event)
      } finally {
        if (container.ended) this.#containers.delete(container)
        else this.#idle.push(container)
      }
    } catch (error) {
      this.counts.errors++
      if (error instanceof LambdaFunctionError && error.errorType === TIMED_OUT) this.counts.timeouts++
      throw error
    } finally {
      this.counts.milliseconds += performance.now() - began
    }
  }

  /** Ends all containers; further invocations fail. */
  async close(): Promise<void> {
    this.#closed = true
    await Promise.all(this.containers.map((container) => container.terminate()))
  }

  #warm(): Container | undefined {
    let container = this.#idle.pop()
    while (container?.ended) container = this.#idle.pop()
    return container
  }

  #start(): Container {
    if (this.#closed) throw new Error(`${this.#options.functionName}: the Lambda host has been closed`)
    this.counts.coldStarts++
    const container = new Container(this.#options)
    this.#containers.add(container)
    return container
  }
}
