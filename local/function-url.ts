import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import type { LambdaFunctionURLEvent, LambdaFunctionURLResult } from 'aws-lambda'
import { portOrFree } from './ports.ts'

export interface FunctionUrl {
  /** Like `http://127.0.0.1:41234/`. */
  url: string
  close: () => Promise<void>
}

/**
 * Serves a function over HTTP as Lambda's function URLs do (payload format 2.0, no authorizer).
 * @param preferredPort taken if it is free; a free one unless given
 */
export async function startFunctionUrl(
  invoke: (event: unknown) => Promise<unknown>,
  preferredPort?: number,
): Promise<FunctionUrl> {
  const server = createServer(async (request, response) => {
    try {
      const result = (await invoke(await eventOf(request))) as LambdaFunctionURLResult
      const {
        statusCode = 200,
        headers = {},
        body = '',
      } = typeof result === 'string' ? { body: result } : result
      response.writeHead(statusCode, headers as Record<string, string>).end(body)
    } catch {
      response
        .writeHead(502, { 'content-type': 'application/json' })
        .end('{"Message":"Internal Server Error"}')
    }
  })
  const wanted = await portOrFree(preferredPort)
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(wanted, '127.0.0.1', resolve)
  })
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}/`,
    close: async () => {
      server.close()
      server.closeAllConnections()
    },
  }
}

async function eventOf(request: IncomingMessage): Promise<LambdaFunctionURLEvent> {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://localhost')
  const now = new Date()
  return {
    version: '2.0',
    routeKey: '$default',
    rawPath: pathname,
    rawQueryString: searchParams.toString(),
    headers: Object.fromEntries(
      Object.entries(request.headers).map(([name, value]) => [
        name,
        Array.isArray(value) ? value.join(',') : value,
      ]),
    ),
    requestContext: {
      accountId: 'anonymous',
      apiId: 'local',
      domainName: request.headers.host ?? '127.0.0.1',
      domainPrefix: 'local',
      http: {
        method: request.method ?? 'GET',
        path: pathname,
        protocol: 'HTTP/1.1',
        sourceIp: '127.0.0.1',
        userAgent: request.headers['user-agent'] ?? '',
      },
      requestId: randomUUID(),
      routeKey: '$default',
      stage: '$default',
      time: now.toISOString(),
      timeEpoch: now.getTime(),
    },
    body: await text(request),
    isBase64Encoded: false,
  } as LambdaFunctionURLEvent
}
