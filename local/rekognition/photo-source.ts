import { Agent, get, type IncomingMessage } from 'node:http'
import { RekognitionError } from './errors.ts'
import type { ImageInput } from './validation.ts'

/** The largest image that is read from S3 (Guidelines and quotas). */
const maximumObjectBytes = 15 * 1024 * 1024

/** Photos read at the same time, so that they take at most 120 MB. */
const mostReads = 8

/** The bytes of a photo, and its S3 key if that is where it comes from. */
export interface Photo {
  bytes: Uint8Array
  key: string | undefined
}

/**
 * Reads an object, instead of the local S3.
 * @throws RekognitionError as PhotoSource.read
 */
export type ReadObject = (bucket: string, key: string) => Promise<Uint8Array>

/**
 * Reads the images that requests name. Objects come from the local S3 by plain unsigned GET: it checks no signature,
 * and signing would cost several times what the rest of a request costs.
 */
export class PhotoSource {
  readonly #readObject: (bucket: string, key: string, version: string | undefined) => Promise<Uint8Array>
  readonly #agent = new Agent({ keepAlive: true, maxSockets: mostReads })

  /** @param objects the endpoint of the local S3, or another way to read objects */
  constructor(objects: string | ReadObject) {
    this.#readObject =
      typeof objects === 'string'
        ? (bucket, key, version) => this.#readFromS3(objects, bucket, key, version)
        : objects
  }

  /**
   * @throws RekognitionError InvalidParameterException (not exactly one of Bytes and S3Object), InvalidS3ObjectException
   *   (no such object or
   *   version, or it may not be read), InvalidImageFormatException (it is empty), ImageTooLargeException, InternalServerError (S3 can't be reached)
   */
  async read({ Bytes, S3Object }: ImageInput): Promise<Photo> {
    if ((Bytes === undefined) === (S3Object === undefined)) {
      throw new RekognitionError('InvalidParameterException')
    }
    if (Bytes) return { bytes: Bytes, key: undefined }
    if (!S3Object?.Bucket || !S3Object.Name) {
      throw new RekognitionError('InvalidS3ObjectException', 'Request has invalid S3 object.')
    }
    const bytes = await this.#readObject(S3Object.Bucket, S3Object.Name, S3Object.Version)
    if (bytes.length === 0) throw new RekognitionError('InvalidImageFormatException')
    return { bytes, key: S3Object.Name }
  }

  close(): void {
    this.#agent.destroy()
  }

  #readFromS3(
    endpoint: string,
    bucket: string,
    key: string,
    version: string | undefined,
  ): Promise<Uint8Array> {
    const path = [bucket, ...key.split('/')].map(encodeURIComponent).join('/')
    const url = new URL(path, endpoint)
    if (version !== undefined) url.searchParams.set('versionId', version)
    return new Promise((resolve, reject) => {
      const unreachable = (error: Error) =>
        reject(new RekognitionError('InternalServerError', `S3 at ${endpoint}: ${error.message}`))
      get(url, { agent: this.#agent }, (response) => {
        readBody(response, version).then(resolve, reject)
      }).on('error', unreachable)
    })
  }
}

/** The service gives one answer for an object that is missing, in another region, or that the caller may not read. */
async function readBody(response: IncomingMessage, version: string | undefined): Promise<Uint8Array> {
  if (response.statusCode !== 200) {
    response.resume()
    throw new RekognitionError('InvalidS3ObjectException')
  }
  // A bucket without versions knows one version of each object, named null.
  const sent = String(response.headers['x-amz-version-id'] ?? 'null')
  if (version !== undefined && sent !== version) {
    response.destroy()
    throw new RekognitionError('InvalidS3ObjectException')
  }
  if (Number(response.headers['content-length'] ?? 0) > maximumObjectBytes) {
    response.destroy()
    throw new RekognitionError('ImageTooLargeException')
  }
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of response) {
    length += chunk.length
    if (length > maximumObjectBytes) throw new RekognitionError('ImageTooLargeException')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
