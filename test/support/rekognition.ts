import { RekognitionClient, type RekognitionClientConfig } from '@aws-sdk/client-rekognition'
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  PutObjectCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import { startAws } from '../../local/aws.ts'
import type { FaceEngine } from '../../local/rekognition/engine.ts'
import { startRekognition } from '../../local/rekognition/server.ts'

const Bucket = 'photos'
const region = 'eu-central-1'
const credentials = { accessKeyId: 'local', secretAccessKey: 'local' }

/** A Rekognition server with an S3 to read from, and the real SDK's client, which tries each call once. */
export async function openRekognition(engine: FaceEngine) {
  const storage = await startAws({ region, queues: [], buckets: [Bucket] })
  const { s3 } = storage
  const server = await startRekognition({ engine, s3Endpoint: storage.endpoint, region })
  const newClient = (config: RekognitionClientConfig = {}) =>
    new RekognitionClient({ endpoint: server.endpoint, region, credentials, maxAttempts: 1, ...config })
  const client = newClient()

  return {
    server,
    client,
    newClient,
    /** Puts a photo into the bucket and returns it as a request's Image. */
    async upload(Key: string, Body: string | Uint8Array) {
      await s3.send(new PutObjectCommand({ Bucket, Key, Body }))
      return inBucket(Key)
    },
    /** The same for a photo that is larger than the local S3 takes at once. */
    async uploadInParts(Key: string, parts: Uint8Array[]) {
      const { UploadId } = await s3.send(new CreateMultipartUploadCommand({ Bucket, Key }))
      const Parts = []
      for (const [at, Body] of parts.entries()) {
        const part = { Bucket, Key, UploadId, PartNumber: at + 1 }
        const { ETag } = await s3.send(new UploadPartCommand({ ...part, Body }))
        Parts.push({ ETag, PartNumber: part.PartNumber })
      }
      const whole = { Bucket, Key, UploadId, MultipartUpload: { Parts } }
      await s3.send(new CompleteMultipartUploadCommand(whole))
      return inBucket(Key)
    },
    async close() {
      client.destroy()
      await server.close()
      await storage.close()
    },
  }
}

/** A request's Image that names an object of the bucket. */
export const inBucket = (key: string) => ({ S3Object: { Bucket, Name: key } })

/** A request's Image that carries the photo itself. */
export const asBytes = (photo: string | Uint8Array) => ({ Bytes: Buffer.from(photo) })
