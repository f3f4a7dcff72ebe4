import { Sha256 } from '@smithy/core/checksum'
import { HttpRequest, type HttpResponse } from '@smithy/core/protocols'
import { NodeHttpHandler } from '@smithy/node-http-handler'
import { SignatureV4, type SignatureV4Init } from '@smithy/signature-v4'

/** What a request needs beside its signature. The host and the body's length are added to its headers. */
export type RequestParts = Pick<HttpRequest, 'protocol' | 'hostname' | 'method' | 'path' | 'headers'> & {
  port?: number
  body?: string
}

/** A service, and how requests to it are signed. */
export interface SignedService
  extends Pick<SignatureV4Init, 'service' | 'region' | 'credentials' | 'uriEscapePath'> {
  /** How long one may take, in ms. */
  timeoutMs: number
}

/**
 * Signs requests to an AWS service and sends them, by the parts that all AWS clients share: for a service of which one or two
 * requests are needed, and whose client would be a large part of each bundle. Nothing is tried again.
 * @returns a function that sends one; it rejects when there was no answer in time
 */
export function signedRequests({
  timeoutMs,
  ...signing
}: SignedService): (request: RequestParts) => Promise<HttpResponse> {
  const signer = new SignatureV4({ ...signing, sha256: Sha256 })
  const http = new NodeHttpHandler({
    connectionTimeout: 2_000,
    requestTimeout: timeoutMs,
    throwOnRequestTimeout: true,
  })
  return async (parts) => {
    const { hostname, port, body } = parts
    const headers = {
      ...parts.headers,
      host: port ? `${hostname}:${port}` : hostname,
      ...(body !== undefined && { 'content-length': String(Buffer.byteLength(body)) }),
    }
    const request = new HttpRequest({ ...parts, headers })
    const signed = await signer.sign(request)
    return (await http.handle(signed as HttpRequest)).response
  }
}

/** The end of the names of AWS's hosts in a region. */
export const domainOf = (region: string): string => `amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}`
