import type { RekognitionClient } from '@aws-sdk/client-rekognition'
import { CALL_TIMEOUT_MS } from './policy.ts'
import { domainOf, signedRequests } from './signed-requests.ts'

/** An object of the photo bucket as it is now. */
export interface PhotoObject {
  /** Without its quotes. Another content has another ETag. */
  etag: string
  /** Where the bucket keeps versions. */
  versionId: string | undefined
  /** In bytes. */
  size: number
  /** As it was uploaded: a hint, which may be wrong. */
  contentType: string | undefined
}

/** S3 refused or did not answer. `status` is that of HTTP, 0 when there was no answer. */
export class PhotoStoreError extends Error {
  override name = 'PhotoStoreError'
  readonly status: number

  constructor(status: number, message: string, options?: ErrorOptions) {
    super(message, options)
    this.status = status
  }
}

/** Reads the photo bucket. */
export interface PhotoStore {
  bucket: string
  /**
   * Looks at an object, by one HeadObject. Returns undefined when there is none, which S3 says only to callers who may list the bucket.
   * @throws {PhotoStoreError}
   */
  look: (key: string) => Promise<PhotoObject | undefined>
  /** Reads an object, of at most so many bytes. Returns undefined when there is none. @throws {PhotoStoreError} */
  read: (key: string, maxBytes: number) => Promise<{ etag: string; bytes: Uint8Array } | undefined>
  /** Reads the first bytes of an object. @throws {PhotoStoreError} */
  readStart: (key: string, bytes: number) => Promise<Uint8Array>
}

/**
 * Connects to S3 with the credentials of the Rekognition client. Two requests do not need the S3 client, which would add a
 * third to each bundle.
 * @param endpoint of another server than S3, as AWS_ENDPOINT_URL has it
 */
export function connectPhotoStore(
  bucket: string,
  region: string,
  { config }: RekognitionClient,
  endpoint = process.env.AWS_ENDPOINT_URL_S3 ?? process.env.AWS_ENDPOINT_URL,
): PhotoStore {
  const sendSigned = signedRequests({
    service: 's3',
    region,
    credentials: config.credentials,
    uriEscapePath: false,
    timeoutMs: CALL_TIMEOUT_MS,
  })
  const base = baseOf(bucket, region, endpoint)

  async function send(method: 'GET' | 'HEAD', key: string, headers: Record<string, string> = {}) {
    const path = `${base.path}/${key.split('/').map(encodeSegment).join('/')}`
    try {
      return await sendSigned({ ...base, method, path, headers })
    } catch (cause) {
      throw new PhotoStoreError(0, `S3 did not answer: ${String(cause)}`, { cause })
    }
  }

  return {
    bucket,

    async look(key) {
      const { statusCode, headers, body } = await send('HEAD', key)
      body.resume() // an unread answer keeps its connection, of which there are 50
      if (statusCode === 404) return undefined
      if (statusCode !== 200) throw new PhotoStoreError(statusCode, explain(statusCode, bucket))
      return {
        etag: etagOf(headers),
        versionId: headers['x-amz-version-id'] === 'null' ? undefined : headers['x-amz-version-id'],
        size: Number(headers['content-length'] ?? 0),
        contentType: headers['content-type'],
      }
    },

    async read(key, maxBytes) {
      const { statusCode, headers, body } = await send('GET', key)
      const size = Number(headers['content-length'] ?? 0)
      if (statusCode !== 200 || size > maxBytes) body.destroy()
      if (statusCode === 404) return undefined
      if (statusCode !== 200) throw new PhotoStoreError(statusCode, explain(statusCode, bucket))
      if (size > maxBytes) throw new PhotoStoreError(statusCode, `${key} has ${size} bytes`)
      const chunks: Uint8Array[] = []
      for await (const chunk of body) chunks.push(chunk)
      return { etag: etagOf(headers), bytes: Buffer.concat(chunks) }
    },

    async readStart(key, bytes) {
      const { statusCode, body } = await send('GET', key, { range: `bytes=0-${bytes - 1}` })
      const chunks: Uint8Array[] = []
      for await (const chunk of body) chunks.push(chunk)
      if (statusCode !== 200 && statusCode !== 206)
        throw new PhotoStoreError(statusCode, explain(statusCode, bucket))
      return Buffer.concat(chunks)
    },
  }
}

function baseOf(bucket: string, region: string, endpoint: string | undefined) {
  if (endpoint) {
    const { protocol, hostname, port } = new URL(endpoint)
    return { protocol, hostname, ...(port && { port: Number(port) }), path: `/${bucket}` }
  }
  const host = `s3.${region}.${domainOf(region)}`
  // The certificate of S3 does not fit a bucket's name with dots.
  return bucket.includes('.')
    ? { protocol: 'https:', hostname: host, path: `/${bucket}` }
    : { protocol: 'https:', hostname: `${bucket}.${host}`, path: '' }
}

const etagOf = ({ etag = '' }: Record<string, string>): string => etag.replaceAll('"', '')

const encodeSegment = (segment: string) =>
  encodeURIComponent(segment).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)

function explain(status: number, bucket: string): string {
  if (status === 403)
    return `S3 denies access to bucket ${bucket} (403): the role needs s3:GetObject on its objects and s3:ListBucket on it`
  if (status === 301 || status === 400)
    return `S3 answered ${status} for bucket ${bucket}: it is in another region`
  return `S3 answered ${status}`
}
