import {
  CreateCollectionCommand,
  IndexFacesCommand,
  type IndexFacesCommandOutput,
  ListFacesCommand,
  SearchFacesByImageCommand,
} from '@aws-sdk/client-rekognition'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { drawLatency } from '../../local/rekognition/latency.ts'
import type { Call } from '../../local/rekognition/operations.ts'
import { syntheticEngine } from '../../local/rekognition/synthetic-engine.ts'
import { asBytes, openRekognition } from '../support/rekognition.ts'

const CollectionId = 'people'
let rekognition: Awaited<ReturnType<typeof openRekognition>>

beforeEach(async () => {
  rekognition = await openRekognition(syntheticEngine())
  await rekognition.client.send(new CreateCollectionCommand({ CollectionId }))
})
afterEach(() => rekognition.close())

const index = (photo: string, client = rekognition.client): Promise<IndexFacesCommandOutput> =>
  client.send(new IndexFacesCommand({ CollectionId, ExternalImageId: photo, Image: asBytes(photo) }))

const indexed = () => rekognition.server.collection(CollectionId)?.map((face) => face.externalImageId)

const fulfilled = (results: PromiseSettledResult<unknown>[]) =>
  results.filter(({ status }) => status === 'fulfilled').length

const indexMany = (count: number) =>
  Promise.allSettled(Array.from({ length: count }, (_, at) => index(`person-${at}`)))

describe('a quota', () => {
  it('throttles what goes beyond it, and does none of that work', async () => {
    rekognition.server.setQuota({ IndexFaces: 5 })
    const results = await indexMany(20)
    const refused = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []))
    expect(fulfilled(results)).toBeGreaterThanOrEqual(5)
    expect(refused.length).toBeGreaterThan(0)
    for (const error of refused) {
      expect(error).toMatchObject({
        name: 'ProvisionedThroughputExceededException',
        $metadata: { httpStatusCode: 400 },
      })
    }
    expect(indexed()).toHaveLength(fulfilled(results))
    expect(rekognition.server.calls().IndexFaces).toEqual({ calls: 20, throttled: refused.length, errors: 0 })
  })

  it('holds for its operation alone', async () => {
    rekognition.server.setQuota({ IndexFaces: 1 })
    await indexMany(5)
    const lists = Array.from({ length: 5 }, () =>
      rekognition.client.send(new ListFacesCommand({ CollectionId })),
    )
    expect(fulfilled(await Promise.allSettled(lists))).toBe(5)
  })

  it('can be changed and lifted while the server runs', async () => {
    rekognition.server.setQuota({ IndexFaces: 1 })
    expect(fulfilled(await indexMany(20))).toBeLessThan(20)
    rekognition.server.setQuota({})
    expect(fulfilled(await indexMany(20))).toBe(20)
  })

  it('gives room again as time passes', async () => {
    rekognition.server.setQuota({ IndexFaces: 20 })
    await indexMany(60)
    await new Promise((resolve) => setTimeout(resolve, 500))
    expect(fulfilled(await indexMany(5))).toBe(5)
  })

  it('is met by a client that backs off and retries', async () => {
    rekognition.server.setQuota({ IndexFaces: 5 })
    const patient = rekognition.newClient({ maxAttempts: 10 })
    const results = await Promise.allSettled(
      Array.from({ length: 10 }, (_, at) => index(`person-${at}`, patient)),
    )
    expect(fulfilled(results)).toBe(10)
    patient.destroy()
  })

  it('must be above 0', () => {
    expect(() => rekognition.server.setQuota({ IndexFaces: 0 })).toThrow('must be above 0')
  })
})

describe('latency', () => {
  it('is spread as its median and its 99th percentile say', () => {
    const drawn = Array.from({ length: 20_000 }, () => drawLatency({ medianMs: 40, p99Ms: 200 }))
    const above = (ms: number) => drawn.filter((each) => each > ms).length / drawn.length
    expect(above(40)).toBeCloseTo(0.5, 1)
    expect(above(200)).toBeGreaterThan(0.005)
    expect(above(200)).toBeLessThan(0.015)
  })

  it('is added to every call', async () => {
    rekognition.server.setLatency({ medianMs: 150, p99Ms: 150 })
    const started = performance.now()
    await index('alice')
    expect(performance.now() - started).toBeGreaterThan(140)
  })

  it('can be lifted while the server runs', async () => {
    rekognition.server.setLatency({ medianMs: 60_000, p99Ms: 60_000 })
    rekognition.server.setLatency(undefined)
    await index('alice')
    expect(indexed()).toEqual(['alice'])
  })

  it('must have a p99 that is not below its median', () => {
    expect(() => rekognition.server.setLatency({ medianMs: 10, p99Ms: 5 })).toThrow('medianMs <= p99Ms')
  })
})

describe('faults', () => {
  it.each([
    ['AccessDeniedException', 400],
    ['InternalServerError', 500],
    ['ThrottlingException', 400],
    ['ProvisionedThroughputExceededException', 400],
    ['ImageTooLargeException', 400],
  ] as const)('answer %s with status %i', async (error, httpStatusCode) => {
    rekognition.server.setFaults(() => ({ type: 'error', strikes: 'before', error }))
    await expect(index('alice')).rejects.toMatchObject({ name: error, $metadata: { httpStatusCode } })
    expect(indexed()).toEqual([])
  })

  it('strike before the work, which is then not done, or after it', async () => {
    rekognition.server.setFaults(({ input }) => ({
      type: 'error',
      strikes: 'ExternalImageId' in input && input.ExternalImageId === 'alice' ? 'before' : 'after',
      error: 'InternalServerError',
    }))
    expect(fulfilled(await Promise.allSettled([index('alice'), index('bob')]))).toBe(0)
    expect(indexed()).toEqual(['bob'])
  })

  it.each([
    ['before', []],
    ['after', ['alice']],
  ] as const)('drop the connection %s the work', async (strikes, left) => {
    rekognition.server.setFaults(() => ({ type: 'drop', strikes }))
    await expect(index('alice')).rejects.toMatchObject({ code: 'ECONNRESET' })
    expect(indexed()).toEqual(left)
  })

  it('leave a call without an answer until the client gives up', async () => {
    rekognition.server.setFaults(() => ({ type: 'hang', strikes: 'after' }))
    const impatient = rekognition.newClient({
      requestHandler: { requestTimeout: 200, throwOnRequestTimeout: true },
    })
    await expect(index('alice', impatient)).rejects.toMatchObject({ name: 'TimeoutError' })
    expect(indexed()).toEqual(['alice'])
    impatient.destroy()
  })

  it('delay a call', async () => {
    rekognition.server.setFaults(() => ({ type: 'delay', ms: 150 }))
    const started = performance.now()
    await index('alice')
    expect(performance.now() - started).toBeGreaterThan(140)
  })

  it('can wait for what a test does meanwhile', async () => {
    let release = () => {}
    const released = new Promise<undefined>((resolve) => {
      release = () => resolve(undefined)
    })
    rekognition.server.setFaults(() => released)
    const call = index('alice')
    expect(indexed()).toEqual([])
    release()
    await call
    expect(indexed()).toEqual(['alice'])
  })

  it('are told the operation, its input, and the how-many-th call it is', async () => {
    const seen: Call[] = []
    rekognition.server.setFaults((call) => {
      seen.push(call)
      return undefined
    })
    await index('alice')
    await rekognition.client.send(new SearchFacesByImageCommand({ CollectionId, Image: asBytes('alice') }))
    await index('bob')
    expect(seen).toMatchObject([
      { operation: 'IndexFaces', count: 1, input: { CollectionId, ExternalImageId: 'alice' } },
      { operation: 'SearchFacesByImage', count: 1, input: { FaceMatchThreshold: 80 } },
      { operation: 'IndexFaces', count: 2, input: { ExternalImageId: 'bob' } },
    ])
  })
})

describe('the count of calls', () => {
  it('is kept by operation, with errors apart', async () => {
    await index('alice')
    await index('not-an-image').catch(() => {})
    expect(rekognition.server.calls()).toMatchObject({
      CreateCollection: { calls: 1, throttled: 0, errors: 0 },
      IndexFaces: { calls: 2, throttled: 0, errors: 1 },
      ListFaces: { calls: 0, throttled: 0, errors: 0 },
    })
  })
})

describe('the wire', () => {
  const post = (headers: Record<string, string>, body: string) =>
    fetch(rekognition.server.endpoint, { method: 'POST', headers, body })

  it('has errors in the form of the service', async () => {
    const response = await post(
      { 'x-amz-target': 'RekognitionService.DescribeCollection' },
      '{"CollectionId":"missing"}',
    )
    expect(response.status).toBe(400)
    expect(response.headers.get('content-type')).toBe('application/x-amz-json-1.1')
    expect(response.headers.get('x-amzn-requestid')).toMatch(/^[0-9a-f-]{36}$/)
    expect(await response.json()).toEqual({
      __type: 'ResourceNotFoundException',
      Code: 'ResourceNotFoundException',
      Message: 'The collection id: missing does not exist',
    })
  })

  it.each([
    ['an operation that is not spoken', 'RekognitionService.DetectLabels', '{}', 'UnknownOperationException'],
    ['another service', 'TextractService.IndexFaces', '{}', 'UnknownOperationException'],
    ['what is no JSON', 'RekognitionService.ListFaces', '{', 'SerializationException'],
    ['a number for a string', 'RekognitionService.ListFaces', '{"CollectionId":1}', 'SerializationException'],
  ])('refuses %s', async (_, target, body, name) => {
    const response = await post({ 'x-amz-target': target }, body)
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ __type: name })
  })
})
