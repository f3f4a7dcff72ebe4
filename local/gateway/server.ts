import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { portOrFree } from '../ports.ts'
import { ApiError, toApiError } from './errors.ts'
import { type KeyOptions, type Keys, makeKeys } from './keys.ts'
import { RpcPool } from './rpc.ts'

/** What goes wrong with a request, for tests: the connection breaks before or after its work, an error, or a delay. */
export type GatewayFault = 'drop-before' | 'drop-after-commit' | { status: number } | { delayMs: number }

/** Decides on each request; `attempt` counts the requests of a function from 1. */
export type GatewayFaults = (request: { function: string; attempt: number }) => GatewayFault | undefined

export interface Gateway extends Omit<Keys, 'claimsOf'> {
  /** The project's URL, as `createClient` of supabase-js takes it. */
  url: string
  /** Requests by function since the start. */
  calls: ReadonlyMap<string, number>
  setFaults: (faults: GatewayFaults | undefined) => void
  close: () => Promise<void>
}

export interface GatewayOptions {
  keys?: KeyOptions
  /** Taken if it is free; a free one unless given. */
  port?: number
}

const CONNECTIONS = 20
const RPC = '/rest/v1/rpc/'

/**
 * Starts the part of Supabase's REST API that this system uses, on 127.0.0.1: `POST /rest/v1/rpc/{function}`,
 * answered as PostgREST 14 behind Supabase's gateway answers it.
 */
export async function startGateway(
  { authenticatorUrl }: { authenticatorUrl: string },
  options: GatewayOptions = {},
): Promise<Gateway> {
  const { claimsOf, ...keys } = await makeKeys(options.keys)
  const rpc = await RpcPool.connect(authenticatorUrl, CONNECTIONS)
  const calls = new Map<string, number>()
  let faults: GatewayFaults | undefined

  const server = createServer((request, response) => {
    answer(request, response).catch((error) => send(response, error))
  })
  server.keepAliveTimeout = 60_000 // longer than any client keeps an idle connection, so that none meets a closed one

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost')
    if (!pathname.startsWith(RPC) || request.method !== 'POST') {
      const details = `The local gateway serves POST ${RPC}{function} only, not ${request.method} ${pathname}`
      throw new ApiError(400, 'PGRST127', 'Feature not implemented', { details })
    }
    const name = decodeURIComponent(pathname.slice(RPC.length))
    const attempt = (calls.get(name) ?? 0) + 1
    calls.set(name, attempt)
    const fault = faults?.({ function: name, attempt })
    if (fault === 'drop-before') return void request.socket.destroy()
    if (typeof fault === 'object' && 'delayMs' in fault) await sleep(fault.delayMs)
    if (typeof fault === 'object' && 'status' in fault)
      throw new ApiError(fault.status, '', 'A fault that was asked for')

    const { apikey, authorization } = request.headers
    const claims = await claimsOf(Array.isArray(apikey) ? apikey[0] : apikey, authorization)
    const profile = request.headers['content-profile']
    const schema = typeof profile === 'string' ? profile : 'public'
    const result = await rpc.call({ schema, name, body: await text(request), claims })

    if (fault === 'drop-after-commit') return void request.socket.destroy()
    if (result === null) return void response.writeHead(204).end()
    response.writeHead(200, JSON_CONTENT).end(result)
  }

  const wanted = await portOrFree(options.port)
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(wanted, '127.0.0.1', resolve)
  })
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    ...keys,
    calls,
    setFaults: (next) => {
      faults = next
    },
    close: async () => {
      server.close()
      server.closeAllConnections()
      await rpc.close()
    },
  }
}

const JSON_CONTENT = { 'content-type': 'application/json; charset=utf-8' }

function send(response: ServerResponse, error: unknown): void {
  if (response.headersSent || response.destroyed) return
  const { status, body } = toApiError(error, true)
  response.writeHead(status, { ...JSON_CONTENT, ...(status === 401 && { 'www-authenticate': 'Bearer' }) })
  response.end(JSON.stringify(body))
}
