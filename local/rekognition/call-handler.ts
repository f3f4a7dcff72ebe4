import type { IncomingMessage, ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Action, Service } from './action.ts'
import { RekognitionError } from './errors.ts'
import { type Fault, type Faults, strike, Unanswered } from './faults.ts'
import { checkLatency, drawLatency, type Latency } from './latency.ts'
import { type Call, type Operation, operationNames, operations } from './operations.ts'
import { answer, answerError, readBody, readOperation } from './protocol.ts'
import { type Quota, TokenBucket } from './quota.ts'
import { parseInput } from './validation.ts'

/**
 * How often an operation was called, and how many of those calls were throttled or failed otherwise. A call whose client
 * went before the engine looked at its photo counts as failed.
 */
export interface CallCount {
  calls: number
  throttled: number
  errors: number
}

/** Takes a call from the request to the answer: quota, validation, faults and latency, then the action. */
export class CallHandler {
  readonly counts = newCounts()
  readonly #service: Service
  #latency: Latency | undefined
  #buckets = new Map<string, TokenBucket>()
  #faults: Faults | undefined

  constructor(service: Service) {
    this.#service = service
  }

  setLatency(latency: Latency | undefined): void {
    if (latency) checkLatency(latency)
    this.#latency = latency
  }

  setQuota(quota: Quota): void {
    this.#buckets = new Map(
      Object.entries(quota).map(([operation, perSecond]) => [operation, new TokenBucket(perSecond)]),
    )
  }

  setFaults(faults: Faults | undefined): void {
    this.#faults = faults
  }

  /** Never rejects. */
  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const clientGone = new AbortController()
    response.once('close', () => {
      if (!response.writableFinished) clientGone.abort(new Unanswered('drop'))
    })
    let count: CallCount | undefined
    try {
      const operation = readOperation(request)
      count = this.counts[operation]
      const ordinal = ++count.calls
      answer(response, await this.#perform(operation, await readBody(request), ordinal, clientGone.signal))
    } catch (error) {
      if (count) count[isThrottling(error) ? 'throttled' : 'errors']++
      answerFailure(error, request, response)
    }
  }

  async #perform(
    operation: Operation,
    body: unknown,
    count: number,
    clientGone: AbortSignal,
  ): Promise<unknown> {
    if (this.#buckets.get(operation)?.take() === false) {
      throw new RekognitionError('ProvisionedThroughputExceededException')
    }
    const action = operations[operation] as Action<unknown, unknown>
    const input = parseInput(action.input, body)

    const fault = await this.#faults?.({ operation, input, count } as Call)
    await this.#delay(fault)
    strike(fault, 'before')
    const output = await action.run(input, this.#service, clientGone)
    strike(fault, 'after')
    return output
  }

  async #delay(fault: Fault | undefined): Promise<void> {
    const latency = this.#latency ? drawLatency(this.#latency) : 0
    const ms = latency + (fault?.type === 'delay' ? fault.ms : 0)
    // Unreferenced, so that a process which has closed the server need not wait for its slowest call.
    if (ms > 0) await sleep(ms, undefined, { ref: false })
  }
}

function isThrottling(error: unknown): boolean {
  return error instanceof RekognitionError && error.throttles
}

function answerFailure(error: unknown, request: IncomingMessage, response: ServerResponse): void {
  if (error instanceof RekognitionError) {
    answerError(response, error)
  } else if (error instanceof Unanswered) {
    if (error.connection === 'drop') request.socket.destroy()
  } else if (!request.socket.destroyed) {
    const reason = error instanceof Error ? error.message : String(error)
    answerError(response, new RekognitionError('InternalServerError', `Internal server error: ${reason}`))
  }
}

function newCounts(): Record<Operation, CallCount> {
  const counts = operationNames.map((name) => [name, { calls: 0, throttled: 0, errors: 0 }] as const)
  return Object.fromEntries(counts) as Record<Operation, CallCount>
}
