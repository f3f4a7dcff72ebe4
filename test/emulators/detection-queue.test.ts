import { setImmediate as turn } from 'node:timers/promises'
import {
  CreateCollectionCommand,
  DetectFacesCommand,
  IndexFacesCommand,
  RekognitionClient,
} from '@aws-sdk/client-rekognition'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import type { DetectedFace, FaceEngine } from '../../local/rekognition/engine.ts'
import { RekognitionError } from '../../local/rekognition/errors.ts'
import { DetectionQueue, type Detector } from '../../local/rekognition/faces/detection-queue.ts'
import { syntheticEngine } from '../../local/rekognition/synthetic-engine.ts'
import { asBytes, openRekognition } from '../support/rekognition.ts'

const photo = (name: string) => Buffer.from(name)
const megabyte = 1024 * 1024

/** A detector that looks at a photo until it is told what came of it. */
function heldDetector() {
  const looks: { photo: string; end: (outcome?: DetectedFace[] | Error) => void }[] = []
  const detector: Detector = {
    detect: (bytes) =>
      new Promise((resolve, reject) => {
        const end = (outcome: DetectedFace[] | Error = []) =>
          outcome instanceof Error ? reject(outcome) : resolve(outcome)
        looks.push({ photo: Buffer.from(bytes.subarray(0, 50)).toString(), end })
      }),
  }
  return { detector, looks, seen: () => looks.map((look) => look.photo) }
}

/** An engine with one detector, which gives the others a turn before each photo. */
function engineOf(detector: Detector): { engine: FaceEngine; queue: DetectionQueue } {
  const queue = new DetectionQueue([detector])
  return { engine: { ...syntheticEngine(), detect: (bytes, options) => queue.detect(bytes, options) }, queue }
}

describe('the queue of photos to be looked at', () => {
  it('looks at a photo once, however many ask for it, at the same time and later', async () => {
    const { detector, looks, seen } = heldDetector()
    const queue = new DetectionQueue([detector])
    const asked = Array.from({ length: 20 }, () => queue.detect(photo('alice')))
    looks[0]?.end()
    expect(await Promise.all(asked)).toEqual(asked.map(() => []))
    await queue.detect(photo('alice'))
    expect(seen()).toEqual(['alice'])
    expect(queue.detections).toBe(1)
  })

  it('gives each detector one photo at a time, in the order in which they came', async () => {
    const { detector, looks, seen } = heldDetector()
    const queue = new DetectionQueue([detector, detector])
    const asked = ['one', 'two', 'three', 'four'].map((name) => queue.detect(photo(name)))
    await turn()
    expect(seen()).toEqual(['one', 'two'])
    looks[1]?.end()
    await asked[1]
    await turn()
    expect(seen()).toEqual(['one', 'two', 'three'])
  })

  it('drops a photo that waits and that everybody who asked for it has given up', async () => {
    const { detector, looks, seen } = heldDetector()
    const queue = new DetectionQueue([detector])
    const running = queue.detect(photo('running'))
    const [gone, patient] = [new AbortController(), new AbortController()]
    const dropped = queue.detect(photo('dropped'), { signal: gone.signal })
    const halfDropped = queue.detect(photo('half dropped'), { signal: gone.signal })
    const kept = queue.detect(photo('half dropped'), { signal: patient.signal })
    gone.abort(new Error('the client has gone'))
    await expect(dropped).rejects.toThrow('the client has gone')
    await expect(halfDropped).rejects.toThrow('the client has gone')
    looks[0]?.end()
    await running
    await turn()
    looks[1]?.end()
    await kept
    expect(seen()).toEqual(['running', 'half dropped'])
  })

  it('remembers what a photo showed for whom nobody waited to the end', async () => {
    const { detector, looks, seen } = heldDetector()
    const queue = new DetectionQueue([detector])
    const gone = new AbortController()
    const first = queue.detect(photo('alice'), { signal: gone.signal })
    gone.abort(new Error('the client has gone'))
    await expect(first).rejects.toThrow('the client has gone')
    looks[0]?.end()
    await turn()
    expect(await queue.detect(photo('alice'))).toEqual([])
    expect(seen()).toEqual(['alice'])
  })

  it('remembers that a photo cannot be looked at, and not that the engine failed', async () => {
    const { detector, looks, seen } = heldDetector()
    const queue = new DetectionQueue([detector])
    const refused = queue.detect(photo('text'))
    looks[0]?.end(new RekognitionError('InvalidImageFormatException'))
    await expect(refused).rejects.toMatchObject({ name: 'InvalidImageFormatException' })
    await expect(queue.detect(photo('text'))).rejects.toMatchObject({ name: 'InvalidImageFormatException' })

    const failed = queue.detect(photo('alice'))
    await turn()
    looks[1]?.end(new RekognitionError('InternalServerError'))
    await expect(failed).rejects.toMatchObject({ name: 'InternalServerError' })
    const again = queue.detect(photo('alice'))
    await turn()
    looks[2]?.end()
    expect(await again).toEqual([])
    expect(seen()).toEqual(['text', 'alice', 'alice'])
  })

  it('refuses a photo that would wait too long, and takes one that is asked for already', async () => {
    const queue = new DetectionQueue([heldDetector().detector])
    void queue.detect(photo('running'))
    for (let at = 0; at < 10; at++) void queue.detect(photo(`waiting ${at}`), { withinMs: 60_000 })
    await expect(queue.detect(photo('one more'), { withinMs: 5_000 })).rejects.toMatchObject({
      name: 'ThrottlingException',
    })
    const asked = queue.detect(photo('waiting 9'), { withinMs: 5_000 })
    expect(await Promise.race([asked, turn('waits')])).toBe('waits')
  })

  it('keeps no more than 128 MB of photos that wait', async () => {
    const queue = new DetectionQueue([heldDetector().detector])
    void queue.detect(photo('running'))
    for (let at = 0; at < 8; at++)
      void queue.detect(Buffer.alloc(15 * megabyte, `${at}`), { withinMs: 60_000 })
    await expect(
      queue.detect(Buffer.alloc(15 * megabyte, 'one more'), { withinMs: 60_000 }),
    ).rejects.toMatchObject({ name: 'ThrottlingException' })
  })
})

describe('the server in front of it', () => {
  it('answers a photo that would wait too long with ThrottlingException, and counts it as throttled', async () => {
    const { engine, queue } = engineOf(heldDetector().detector)
    const { client, server, close } = await openRekognition(engine)
    onTestFinished(close)
    for (let at = 0; at < 10; at++) void queue.detect(photo(`waiting ${at}`)).catch(() => {})
    await expect(client.send(new DetectFacesCommand({ Image: asBytes('alice') }))).rejects.toMatchObject({
      name: 'ThrottlingException',
      $metadata: { httpStatusCode: 400 },
    })
    expect(server.calls().DetectFaces).toEqual({ calls: 1, throttled: 1, errors: 0 })
  })

  it('drops the photo of a client that has closed the connection', async () => {
    const { detector, looks, seen } = heldDetector()
    const { engine } = engineOf(detector)
    const { client, server, close } = await openRekognition(engine)
    onTestFinished(close)
    const running = client.send(new DetectFacesCommand({ Image: asBytes('running') }))
    await vi.waitFor(() => expect(seen()).toEqual(['running']))
    const gone = new AbortController()
    const abandoned = client.send(new DetectFacesCommand({ Image: asBytes('abandoned') }), {
      abortSignal: gone.signal,
    })
    await vi.waitFor(() => expect(server.calls().DetectFaces.calls).toBe(2))
    const last = client.send(new DetectFacesCommand({ Image: asBytes('last') }))
    await vi.waitFor(() => expect(server.calls().DetectFaces.calls).toBe(3))
    gone.abort()
    await expect(abandoned).rejects.toMatchObject({ name: 'AbortError' })
    await vi.waitFor(() => expect(server.calls().DetectFaces.errors).toBe(1))
    looks[0]?.end()
    await running
    await vi.waitFor(() => expect(looks).toHaveLength(2))
    looks[1]?.end()
    await last
    expect(seen()).toEqual(['running', 'last'])
  })

  it('indexes 300 photos that come at once and are asked for until they are in, with one look at each', async () => {
    const { detect } = syntheticEngine()
    const { engine, queue } = engineOf({
      async detect(bytes) {
        await turn()
        return detect(bytes)
      },
    })
    const { client, server, close } = await openRekognition(engine)
    onTestFinished(close)
    const CollectionId = 'crowd'
    await client.send(new CreateCollectionCommand({ CollectionId }))
    const impatient = new RekognitionClient({
      endpoint: server.endpoint,
      region: 'eu-central-1',
      credentials: { accessKeyId: 'local', secretAccessKey: 'local' },
      maxAttempts: 20,
      retryMode: 'standard',
    })
    onTestFinished(() => impatient.destroy())
    await Promise.all(
      Array.from({ length: 300 }, (_, at) =>
        impatient.send(
          new IndexFacesCommand({
            CollectionId,
            Image: asBytes(`person ${at}`),
            ExternalImageId: `${at}`,
          }),
        ),
      ),
    )
    expect(server.collection(CollectionId)).toHaveLength(300)
    expect(queue.detections).toBe(300)
  })
})
