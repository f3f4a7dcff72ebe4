import { createHash, randomBytes } from 'node:crypto'
import { CreateCollectionCommand, IndexFacesCommand, RekognitionClient } from '@aws-sdk/client-rekognition'
import {
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import { ReceiveMessageCommand } from '@aws-sdk/client-sqs'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type AwsOptions, startAws } from '../../local/aws.ts'
import { startRekognition } from '../../local/rekognition/server.ts'
import { syntheticEngine } from '../../local/rekognition/synthetic-engine.ts'
import { temporaryDirectory } from '../support/child.ts'

const Bucket = 'photos'
const Key = 'profiles/one-onboarding'
const region = 'eu-central-1'
const EVENTS = { logicalId: 'PhotoEventsQueue', name: 'photo-events', arn: '', attributes: {} }

async function openBucket(options: Partial<AwsOptions> = {}) {
  const aws = await startAws({ region, queues: [EVENTS], buckets: [Bucket], ...options })
  onTestFinished(aws.close)
  const { s3 } = aws
  return {
    ...aws,
    put: (Body: string | Uint8Array, more = {}) =>
      s3.send(new PutObjectCommand({ Bucket, Key, Body, ...more })),
    head: (more = {}) => s3.send(new HeadObjectCommand({ Bucket, Key, ...more })),
    get: (more = {}) => s3.send(new GetObjectCommand({ Bucket, Key, ...more })),
    /** The first so many events, in the order of their sequencers. */
    async events(count: number) {
      const events: PhotoEvent[] = []
      for (let polls = 0; events.length < count && polls < 20; polls++) {
        const { Messages = [] } = await aws.sqs.send(
          new ReceiveMessageCommand({
            QueueUrl: aws.queueUrls.get('PhotoEventsQueue'),
            MaxNumberOfMessages: 10,
            WaitTimeSeconds: 1,
          }),
        )
        events.push(...Messages.map(({ Body = '' }) => JSON.parse(Body) as PhotoEvent))
      }
      return events.sort((one, other) =>
        one.detail.object.sequencer.localeCompare(other.detail.object.sequencer),
      )
    },
  }
}

interface PhotoEvent {
  source: string
  'detail-type': string
  detail: {
    bucket: { name: string }
    object: { key: string; size?: number; etag?: string; sequencer: string }
    reason: string
  }
}

const md5 = (bytes: string | Uint8Array) => createHash('md5').update(bytes).digest('hex')
const statusOf = (error: { $metadata?: { httpStatusCode?: number } }) => error.$metadata?.httpStatusCode

describe('objects', () => {
  test('have the quoted MD5 of their content for ETag, and their own type and length', async () => {
    const { put, head, get } = await openBucket()
    const { ETag } = await put('one', { ContentType: 'image/heic' })
    expect(ETag).toBe(`"${md5('one')}"`)
    const expected = { ETag, ContentLength: 3, ContentType: 'image/heic' }
    expect(await head()).toMatchObject(expected)
    const got = await get()
    expect(got).toMatchObject(expected)
    expect(await got.Body?.transformToString()).toBe('one')
  })

  test('change their ETag with their content, under the same key', async () => {
    const { put, head } = await openBucket()
    await put('one')
    const before = await head()
    await put('two')
    expect((await head()).ETag).toBe(`"${md5('two')}"`)
    expect(before.ETag).toBe(`"${md5('one')}"`)
  })

  test('that are missing are answered 404', async () => {
    const { head, get } = await openBucket()
    await expect(head().catch(statusOf)).resolves.toBe(404)
    await expect(head()).rejects.toMatchObject({ name: 'NotFound' })
    await expect(get()).rejects.toMatchObject({ name: 'NoSuchKey' })
  })

  test('may be empty, and as large as 16 MB', async () => {
    const { put, head, get } = await openBucket()
    await put('', { ContentLength: 0 })
    expect(await head()).toMatchObject({ ContentLength: 0, ETag: `"${md5('')}"` })
    const large = randomBytes(16_000_000)
    await put(large)
    expect(await head()).toMatchObject({ ContentLength: large.length })
    const stored = await (await get()).Body?.transformToByteArray()
    expect(md5(stored ?? '')).toBe(md5(large))
  })

  test.each([
    ['none', undefined, 'binary/octet-stream'],
    ['a form', 'application/x-www-form-urlencoded', 'application/x-www-form-urlencoded'],
    ['no type at all', 'photo', 'photo'],
    ['JSON', 'application/json', 'application/json'],
  ])('are uploaded with any content type, as through a pre-signed URL: %s', async (_what, sent, stored) => {
    const { endpoint, head, get } = await openBucket()
    const answer = await fetch(`${endpoint}/${Bucket}/${Key}?X-Amz-Signature=abc`, {
      method: 'PUT',
      body: new Uint8Array([1, 2, 3]),
      headers: sent === undefined ? {} : { 'content-type': sent },
    })
    expect(answer.status).toBe(200)
    expect(await head()).toMatchObject({ ContentType: stored, ContentLength: 3 })
    expect([...((await (await get()).Body?.transformToByteArray()) ?? [])]).toEqual([1, 2, 3])
  })
})

describe('access', () => {
  test('that is denied is answered 403, until it is given back', async () => {
    const { put, head, get, setObjectAccess } = await openBucket()
    await put('one')
    setObjectAccess(Bucket, 'denied')
    await expect(head().catch(statusOf)).resolves.toBe(403)
    await expect(get()).rejects.toMatchObject({ name: 'AccessDenied' })
    await put('two') // the app's own rights are other ones
    setObjectAccess(Bucket, 'full')
    expect((await head()).ETag).toBe(`"${md5('two')}"`)
  })

  test('without the right to list is answered 403 for a missing object, and 200 for one that is there', async () => {
    const { put, head, get, setObjectAccess } = await openBucket()
    setObjectAccess(Bucket, 'no-list')
    await expect(head().catch(statusOf)).resolves.toBe(403)
    await expect(get()).rejects.toMatchObject({ name: 'AccessDenied' })
    await put('one')
    expect(await head()).toMatchObject({ ContentLength: 3 })
  })

  test('that is denied reaches Rekognition: InvalidS3ObjectException', async () => {
    const { endpoint, credentials, put, setObjectAccess } = await openBucket()
    const server = await startRekognition({ engine: syntheticEngine(), s3Endpoint: endpoint, region })
    const client = new RekognitionClient({ endpoint: server.endpoint, region, credentials })
    onTestFinished(async () => {
      client.destroy()
      await server.close()
    })
    await put('a face')
    await client.send(new CreateCollectionCommand({ CollectionId: 'c' }))
    const index = () =>
      client.send(new IndexFacesCommand({ CollectionId: 'c', Image: { S3Object: { Bucket, Name: Key } } }))
    setObjectAccess(Bucket, 'denied')
    await expect(index()).rejects.toMatchObject({ name: 'InvalidS3ObjectException' })
    setObjectAccess(Bucket, 'full')
    expect((await index()).FaceRecords).toHaveLength(1)
  })
})

describe('photo events', () => {
  const photoEvents = { bucket: Bucket, queue: 'PhotoEventsQueue' }

  test('tell of each upload, copy and deletion, in the form of EventBridge', async () => {
    const { s3, put, events } = await openBucket({ photoEvents, buckets: [Bucket, 'other'] })
    await put('one')
    await s3.send(new CopyObjectCommand({ Bucket, Key: 'copy of ä&b', CopySource: `${Bucket}/${Key}` }))
    await s3.send(new PutObjectCommand({ Bucket: 'other', Key, Body: 'not of the bucket' }))
    const { UploadId } = await s3.send(new CreateMultipartUploadCommand({ Bucket, Key: 'parts' }))
    const part = { Bucket, Key: 'parts', UploadId }
    const { ETag } = await s3.send(new UploadPartCommand({ ...part, PartNumber: 1, Body: 'all of it' }))
    const MultipartUpload = { Parts: [{ ETag, PartNumber: 1 }] }
    await s3.send(new CompleteMultipartUploadCommand({ ...part, MultipartUpload }))
    await s3.send(new DeleteObjectCommand({ Bucket, Key }))
    const Objects = [{ Key: 'copy of ä&b' }, { Key: 'parts' }]
    await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects } }))

    const all = await events(6)
    expect(
      all.map(({ detail, ...event }) => [
        event.source,
        event['detail-type'],
        detail.bucket.name,
        detail.reason,
        detail.object.key,
        detail.object.size,
      ]),
    ).toEqual(
      [
        ['Object Created', Bucket, 'PutObject', Key, 3],
        ['Object Created', Bucket, 'CopyObject', 'copy of ä&b', 3],
        ['Object Created', Bucket, 'CompleteMultipartUpload', 'parts', 9],
        ['Object Deleted', Bucket, 'DeleteObject', Key, undefined],
        ['Object Deleted', Bucket, 'DeleteObject', 'copy of ä&b', undefined],
        ['Object Deleted', Bucket, 'DeleteObject', 'parts', undefined],
      ].map((event) => ['aws.s3', ...event]),
    )
    expect(all[0]).toMatchObject({
      version: '0',
      region,
      resources: [`arn:aws:s3:::${Bucket}`],
      detail: { object: { etag: md5('one') } },
    })
    expect(all[5]).toMatchObject({ detail: { 'deletion-type': 'Permanently Deleted' } })
  })

  test('are not sent for what failed, nor while they are switched off', async () => {
    const { s3, put, get, events, setPhotoEvents, requests } = await openBucket({ photoEvents })
    await expect(get()).rejects.toThrow()
    const lost = new CopyObjectCommand({ Bucket, Key: 'lost', CopySource: `${Bucket}/missing` })
    await expect(s3.send(lost)).rejects.toThrow()
    setPhotoEvents(false)
    await put('nobody hears of this')
    setPhotoEvents(true)
    await put('one')
    const [first, ...others] = await events(1)
    expect(first?.detail.object.etag).toBe(md5('one'))
    expect(others).toEqual([])
    expect(requests.has('SendMessage')).toBe(false)
  })

  test('are there only where they are asked for, into a queue that exists', async () => {
    const { setPhotoEvents } = await openBucket()
    expect(() => setPhotoEvents(true)).toThrow('there are no photo events')
    const unknown = startAws({
      region,
      queues: [],
      buckets: [],
      photoEvents: { bucket: Bucket, queue: 'Lost' },
    })
    await expect(unknown).rejects.toThrow('there is no queue Lost')
  })
})

test('objects that are kept are there again after a new start, the deleted ones are not', async () => {
  const keep = await temporaryDirectory()
  const before = await startAws({ region, queues: [], buckets: [Bucket], keep })
  const { s3 } = before
  await s3.send(new PutObjectCommand({ Bucket, Key, Body: 'one', ContentType: 'image/png' }))
  await s3.send(new PutObjectCommand({ Bucket, Key: 'gone', Body: 'two' }))
  await s3.send(new DeleteObjectCommand({ Bucket, Key: 'gone' }))
  await before.close()

  const { head } = await openBucket({ keep })
  expect(await head()).toMatchObject({ ETag: `"${md5('one')}"`, ContentType: 'image/png', ContentLength: 3 })
  await expect(head({ Key: 'gone' }).catch(statusOf)).resolves.toBe(404)
})
