import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Action, Service } from './action.ts'
import { Collections } from './collections.ts'
import type { FaceEngine } from './engine.ts'
import { RekognitionError } from './errors.ts'
import type { Fault, Faults } from './faults.ts'
import { checkLatency, drawLatency, type Latency } from './latency.ts'
import { type Call, type Operation, operationNames, operations } from './operations.ts'
import { PhotoSource } from './photo-source.ts'
import { answer, answerError, readBody, readOperation } from './protocol.ts'
import { TokenBucket } from './quota.ts'
import { parseInput } from './validation.ts'

/** Transactions per second by operation; without a limit for those left out. */
export type Quota = Partial<Record<Operation, number>>

export interface RekognitionOptions {
  /** Stays the caller's: `close()` leaves it open. */
  engine: FaceEngine
  /** Where S3Objects are read, like `http://127.0.0.1:4566`. */
  s3Endpoint: string
  /** Appears in ARNs. */
  region: string
  /** None unless given: answers come as fast as the engine. */
  latency?: Latency | undefined
  /** None unless given. */
  quota?: Quota | undefined
  faults?: Faults | undefined
  /** A free one unless given. */
  port?: number | undefined
}

/** How often an operation was called, and how many of those calls were throttled or failed otherwise. */
export interface CallCount {
  calls: number
  throttled: number
  errors: number
}

/** A face in a collection, as tests want to see it. */
export interface IndexedFace {
  faceId: string
  externalImageId: string | undefined
  /** The S3 key of the photo; undefined when it came as bytes. */
  imageKey: string | undefined
}

export interface RekognitionServer {
  endpoint: string
  /** A copy of the counts since the start. */
  calls(): Record<Operation, CallCount>
  /** What is in a collection; undefined when there is none of that id. */
  collection(id: string): IndexedFace[] | undefined
  /** From the next call on. */
  setLatency(latency: Latency | undefined): void
  /** From the next call on; buckets begin full. */
  setQuota(quota: Quota): void
  /** From the next call on. */
  setFaults(faults: Faults | undefined): void
  /** Breaks open connections off. */
  close(): Promise<void>
}

/** Starts a server on 127.0.0.1 that speaks Rekognition's protocol, its collections empty. */
export async function startRekognition(options: RekognitionOptions): Promise<RekognitionServer> {
  const service: Service = {
    region: options.region,
    collections: new Collections(),
    engine: options.engine,
    photos: new PhotoSource(options.s3Endpoint),
  }
  const handler = new CallHandler(service)
  handler.setLatency(options.latency)
  handler.setQuota(options.quota ?? {})
  handler.faults = options.faults

  const server = createServer((request, response) => void handler.handle(request, response))
  server.listen(options.port ?? 0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo

  return {
    endpoint: `http://127.0.0.1:${port}`,
    calls: () => structuredClone(handler.counts),
    collection: (id) => indexedFaces(service.collections, id),
    setLatency: (latency) => handler.setLatency(latency),
    setQuota: (quota) => handler.setQuota(quota),
    setFaults: (faults) => {
      handler.faults = faults
    },
    close: async () => {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
      service.photos.close()
    },
  }
}

function indexedFaces(collections: Collections, id: string): IndexedFace[] | undefined {
  const collection = collections.find(id)
  return (
    collection &&
    [...collection.faces()].map(({ faceId, externalImageId, imageKey }) => ({
      faceId,
      externalImageId,
      imageKey,
    }))
  )
}

/** Takes a call from the request to the answer: quota, validation, faults and latency, then the action. */
class CallHandler {
  faults: Faults | undefined
  readonly counts = newCounts()
  readonly #service: Service
  #latency: Latency | undefined
  #buckets = new Map<string, TokenBucket>()

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

  /** Never rejects. */
  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let count: CallCount | undefined
    try {
      const operation = readOperation(request)
      count = this.counts[operation]
      const call = count.calls
      count.calls = call + 1
      answer(response, await this.#perform(operation, await readBody(request), call + 1))
    } catch (error) {
      if (count) count[error instanceof RekognitionError && error.throttles ? 'throttled' : 'errors']++
      respondTo(error, request, response)
    }
  }

  async #perform(operation: Operation, body: unknown, count: number): Promise<unknown> {
    if (this.#buckets.get(operation)?.take() === false) {
      throw new RekognitionError('ProvisionedThroughputExceededException')
    }
    const action: Action<unknown, unknown> = operations[operation] as Action<unknown, unknown>
    const input = parseInput(action.input, body)

    const fault = await this.faults?.({ operation, input, count } as Call)
    const delay = (this.#latency ? drawLatency(this.#latency) : 0) + (fault?.type === 'delay' ? fault.ms : 0)
    // Unreferenced, so that a process which has closed the server need not wait for its slowest call.
    if (delay > 0) await sleep(delay, undefined, { ref: false })

    strike(fault, 'before')
    const output = await action.run(input, this.#service)
    strike(fault, 'after')
    return output
  }
}

/** Thrown in place of an answer when a fault leaves the caller without one. */
class Unanswered extends Error {
  readonly connection: 'drop' | 'hang'

  constructor(connection: 'drop' | 'hang') {
    super('the call is left without an answer')
    this.connection = connection
  }
}

function strike(fault: Fault | undefined, moment: 'before' | 'after'): void {
  if (!fault || fault.type === 'delay' || fault.strikes !== moment) return
  if (fault.type === 'error') throw new RekognitionError(fault.error)
  throw new Unanswered(fault.type)
}

function respondTo(error: unknown, request: IncomingMessage, response: ServerResponse): void {
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
  const counts = operationNames.map((name) => [name, { calls: 0, throttled: 0, errors: 0 }])
  return Object.fromEntries(counts)
}
