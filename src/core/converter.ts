import { text } from 'node:stream/consumers'
import type { RekognitionClient } from '@aws-sdk/client-rekognition'
import { CONVERT_TIMEOUT_MS } from './policy.ts'
import { domainOf, signedRequests } from './signed-requests.ts'
import * as z from './zod.ts'

/** A larger object is not read. Photos of phones and cameras have 50 MB at most. */
export const MAX_CONVERTED_BYTES = 64 * 1024 * 1024

/** What the converter is invoked with: the object as the worker has seen it. */
export const conversion = z.object({ key: z.string(), etag: z.string() })
export type Conversion = z.output<typeof conversion>

/** What the converter answers: a JPEG in base64, the reason for none, or that the object is another one by now. */
const answer = z.discriminatedUnion('outcome', [
  z.object({ outcome: z.literal('converted'), jpeg: z.string() }),
  z.object({ outcome: z.literal('refused'), reason: z.string() }),
  z.object({ outcome: z.literal('changed') }),
])
export type ConversionAnswer = z.output<typeof answer>

/** Makes a JPEG of a photo that Rekognition does not take. @throws {ConverterError} */
export type Convert = (photo: Conversion) => Promise<ConversionAnswer>

/** The converter failed, or could not be invoked. `status` is that of HTTP, 0 when there was no answer. */
export class ConverterError extends Error {
  override name = 'ConverterError'
  readonly status: number

  constructor(status: number, message: string, options?: ErrorOptions) {
    super(message, options)
    this.status = status
  }
}

/**
 * Invokes the converter with the credentials of the Rekognition client. One request does not need the client of Lambda.
 * @param endpoint of another server than Lambda, as AWS_ENDPOINT_URL has it
 */
export function connectConverter(
  functionName: string,
  region: string,
  { config }: RekognitionClient,
  endpoint = process.env.AWS_ENDPOINT_URL_LAMBDA ?? process.env.AWS_ENDPOINT_URL,
): Convert {
  const { protocol, hostname, port } = new URL(endpoint ?? `https://lambda.${region}.${domainOf(region)}`)
  const send = signedRequests({
    service: 'lambda',
    region,
    credentials: config.credentials,
    timeoutMs: CONVERT_TIMEOUT_MS,
  })
  return async (photo) => {
    const { statusCode, headers, body } = await send({
      protocol,
      hostname,
      ...(port && { port: Number(port) }),
      method: 'POST',
      path: `/2015-03-31/functions/${functionName}/invocations`,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(photo),
    }).catch((cause) => {
      throw new ConverterError(0, `the converter did not answer: ${String(cause)}`, { cause })
    })
    const said = await text(body)
    if (statusCode !== 200)
      throw new ConverterError(statusCode, `Lambda answered ${statusCode}: ${said.slice(0, 300)}`)
    if (headers['x-amz-function-error'] !== undefined)
      throw new ConverterError(200, `the converter failed: ${said.slice(0, 300)}`)
    return answer.parse(JSON.parse(said))
  }
}
