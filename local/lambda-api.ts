import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { LambdaFunctionError } from './lambda-host/protocol.ts'

export interface LambdaApi {
  endpoint: string
  close: () => Promise<void>
}

/**
 * Serves the one call of Lambda's API that the functions make of each other: Invoke, synchronous.
 * @param invoke takes the function's name in AWS; undefined when there is none of that name
 */
export async function startLambdaApi(
  invoke: (deployedName: string, event: unknown) => Promise<unknown> | undefined,
): Promise<LambdaApi> {
  const server = createServer(async (request, response) => {
    const answer = (status: number, body: unknown, headers = {}) =>
      response
        .writeHead(status, { 'content-type': 'application/json', ...headers })
        .end(JSON.stringify(body ?? null))
    try {
      const [, name = ''] = /^\/2015-03-31\/functions\/([^/]+)\/invocations$/.exec(request.url ?? '') ?? []
      const result = invoke(name, JSON.parse(await text(request)))
      if (result === undefined) answer(404, { Type: 'User', Message: `Function not found: ${name}` })
      else answer(200, await result)
    } catch (error) {
      if (!(error instanceof LambdaFunctionError)) answer(500, { Type: 'Service', Message: String(error) })
      else {
        const { errorType, message: errorMessage } = error
        answer(200, { errorType, errorMessage }, { 'x-amz-function-error': 'Unhandled' })
      }
    }
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', resolve)
  })
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: async () => {
      server.close()
      server.closeAllConnections()
    },
  }
}
