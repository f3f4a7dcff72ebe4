import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'

/** Stands where AWS and the database would be, and says when the first request of a kind comes. */
export interface FirstRequest {
  url: string
  /** Resolves, in ms since the epoch, when the next request arrives that is of this kind, such as `AmazonSQS.`. */
  next: (kind: string) => Promise<number>
  close: () => void
}

/** Answers SSM Parameter Store with the given values, a look at an object of S3 with one, everything else with an error. */
export async function listenForFirstRequest(parameters: Record<string, string>): Promise<FirstRequest> {
  let waiting: { kind: string; arrived: (at: number) => void } | undefined
  const server = createServer(async (request, response) => {
    const at = performance.timeOrigin + performance.now()
    const kind = kindOf(request)
    if (waiting && kind.startsWith(waiting.kind)) waiting.arrived(at)
    if (request.method === 'HEAD')
      return void response.writeHead(200, { etag: '"an etag"', 'content-length': '100000' }).end()
    if (!kind.startsWith('AmazonSSM.')) return void response.writeHead(500).end('{}')
    const { Name } = JSON.parse(await text(request)) as { Name: string }
    const Parameter = { Name, Value: parameters[Name] ?? 'a-secret-of-sixteen-characters' }
    response.setHeader('content-type', 'application/x-amz-json-1.1').end(JSON.stringify({ Parameter }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    next: (kind) =>
      new Promise((arrived) => {
        waiting = { kind, arrived }
      }),
    close: () => {
      server.closeAllConnections()
      server.close()
    },
  }
}

/** AWS's operation, or the path that was called. */
const kindOf = ({ headers, url = '' }: IncomingMessage): string => String(headers['x-amz-target'] ?? url)
