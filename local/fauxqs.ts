import type { IncomingMessage } from 'node:http'
import { buildApp } from 'fauxqs'

/** What we use of fauxqs's Fastify server, whose own types do not come through. */
export interface HttpServer {
  addHook(name: 'onRequest', hook: (request: Request, reply: Reply) => Promise<Reply | undefined>): void
  addHook(name: 'preHandler' | 'onResponse', hook: (request: Request) => Promise<void>): void
  addHook(name: 'onSend', hook: (request: Request, reply: Reply, payload: string) => Promise<string>): void
  setErrorHandler(
    handler: (error: Error & { statusCode?: number }, request: Request, reply: Reply) => void,
  ): void
  removeContentTypeParser(type: string): void
  addContentTypeParser(
    type: RegExp,
    options: { parseAs: 'buffer'; bodyLimit: number },
    parse: (request: Request, body: Buffer, done: (error: null, body: Buffer) => void) => void,
  ): void
  inject(request: { method: string; url: string; headers: object; payload?: object }): Promise<{
    statusCode: number
    headers: Record<string, string | number | undefined>
    rawPayload: Buffer
  }>
  listen(address: { port: number; host: string }): Promise<string>
  close(): Promise<void>
}

export interface Request {
  method: string
  url: string
  headers: Record<string, string | undefined>
  params: { bucket?: string; '*'?: string } | undefined
  query: Record<string, string | undefined>
  /** An object for SQS; a Buffer for S3. */
  body?: unknown
  raw: IncomingMessage
}

export interface Reply {
  statusCode: number
  code(status: number): Reply
  type(contentType: string): Reply
  send(payload?: unknown): Reply
}

/** SQS and S3 in this process, not listening yet. Their contents live in memory. */
export const buildServer = (region: string): HttpServer => buildApp({ logger: false, defaultRegion: region })
