import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Service } from './action.ts'
import { type CallCount, CallHandler } from './call-handler.ts'
import { Collections } from './collections.ts'
import type { FaceEngine } from './engine.ts'
import type { Faults } from './faults.ts'
import type { Latency } from './latency.ts'
import type { Operation } from './operations.ts'
import { PhotoSource, type ReadObject } from './photo-source.ts'
import type { Quota } from './quota.ts'

export interface RekognitionOptions {
  /** Stays the caller's: `close()` leaves it open. */
  engine: FaceEngine
  /** Where S3Objects are read, like `http://127.0.0.1:4566`; or what reads them. */
  s3Endpoint: string | ReadObject
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

/** A face in a collection, as tests want to see it. */
export interface IndexedFace {
  faceId: string
  externalImageId: string | undefined
  /** The S3 key of the photo; undefined when it came as bytes. */
  imageKey: string | undefined
  /** Of the photo's bytes; see imageIdOf. */
  imageId: string
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
  handler.setFaults(options.faults)

  const server = createServer((request, response) => void handler.handle(request, response))
  server.keepAliveTimeout = 60_000 // longer than any client keeps an idle connection, so that none meets a closed one
  server.listen(options.port ?? 0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo

  return {
    endpoint: `http://127.0.0.1:${port}`,
    calls: () => structuredClone(handler.counts),
    collection: (id) => indexedFaces(service.collections, id),
    setLatency: (latency) => handler.setLatency(latency),
    setQuota: (quota) => handler.setQuota(quota),
    setFaults: (faults) => handler.setFaults(faults),
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
    [...collection.faces()].map(({ faceId, externalImageId, imageKey, imageId }) => ({
      faceId,
      externalImageId,
      imageKey,
      imageId,
    }))
  )
}
