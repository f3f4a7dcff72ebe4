import { randomUUID } from 'node:crypto'
import type { HttpServer, Reply, Request } from '../fauxqs.ts'
import type { ObjectChange } from './photo-events.ts'

/**
 * What the deployed functions may read in a bucket:
 * - `full`: a missing object is answered 404
 * - `no-list`: as without `s3:ListBucket`: a missing object is answered 403, like a forbidden one
 * - `denied`: as without `s3:GetObject`: HeadObject and GetObject are answered 403
 */
export type ObjectAccess = 'full' | 'no-list' | 'denied'

export interface Objects {
  setAccess: (bucket: string, access: ObjectAccess) => void
  /** Headers of requests that come from this machine itself, for which nothing is forbidden. */
  ourselves: Record<string, string>
  isOurs: (request: Request) => boolean
  /** Takes each change of an object, after the request was answered. */
  onChange: (listener: (change: ObjectChange) => void) => void
}

/** S3's own limit for one PutObject. */
const LARGEST_UPLOAD = 5 * 1024 ** 3
/** What S3 stores for an upload that names no type. */
const NO_TYPE = 'binary/octet-stream'

/**
 * Makes the S3 of fauxqs as strict as the service in the points that this system rests on: missing and forbidden objects,
 * empty and large uploads, uploads of any content type, errors in XML. Versions of objects are not supported.
 */
export function serveObjects(server: HttpServer): Objects {
  const accesses = new Map<string, ObjectAccess>()
  const listeners: ((change: ObjectChange) => void)[] = []
  const changes = new WeakMap<Request, ObjectChange[]>()
  const contentTypes = new WeakMap<Request, string>()
  const ourselves = { 'x-local-request': randomUUID() }
  const isOurs = ({ headers }: Request) => headers['x-local-request'] === ourselves['x-local-request']
  const accessTo = (request: Request) =>
    isReading(request) && !isOurs(request) ? accesses.get(bucketOf(request)) : undefined

  server.removeContentTypeParser('application/x-www-form-urlencoded') // of SNS, which nobody needs; curl uploads with it
  server.addContentTypeParser(/^/, { parseAs: 'buffer', bodyLimit: LARGEST_UPLOAD }, (_request, body, done) =>
    done(null, body),
  )

  server.addHook('onRequest', async (request, reply) => {
    if (accessTo(request) === 'denied') return forbid(request, reply)
    if (request.method !== 'PUT') return
    contentTypes.set(request, request.headers['content-type'] ?? NO_TYPE)
    request.headers['content-type'] = NO_TYPE // so that no parser refuses a type that S3 stores
  })

  server.addHook('preHandler', async (request) => {
    const contentType = contentTypes.get(request)
    if (contentType) request.headers['content-type'] = contentType
    if (request.method === 'PUT') request.body ??= Buffer.alloc(0)
  })

  server.addHook('onSend', async (request, reply, payload) => {
    if (reply.statusCode === 404 && accessTo(request) === 'no-list') {
      reply.code(403).type('application/xml')
      return request.method === 'HEAD' ? '' : ACCESS_DENIED
    }
    if (reply.statusCode < 300 && keyOf(request) + request.method !== 'GET')
      changes.set(request, await changesOf(request))
    return payload
  })

  server.addHook('onResponse', async (request) => {
    for (const change of changes.get(request) ?? []) for (const listener of listeners) listener(change)
  })

  server.setErrorHandler((error, request, reply) => {
    if (!bucketOf(request)) return void reply.send(error)
    const [status, code] = error.statusCode === 413 ? [400, 'EntityTooLarge'] : [500, 'InternalError']
    reply.code(status).type('application/xml').send(errorXml(code, error.message))
  })

  /** What a request that has succeeded did to objects. */
  async function changesOf(request: Request): Promise<ObjectChange[]> {
    const { method, headers, query } = request
    const [bucket, key] = [bucketOf(request), keyOf(request)]
    if (!bucket) return []
    if (method === 'DELETE' && key && !query.uploadId) return [{ type: 'deleted', bucket, key }]
    if (method === 'POST' && !key && 'delete' in query)
      return keysIn(String(request.body)).map((one) => ({ type: 'deleted', bucket, key: one }))
    const created =
      (method === 'PUT' && key && !query.uploadId) || (method === 'POST' && key && query.uploadId)
    if (!created) return []
    const copied = headers['x-amz-copy-source'] ? 'CopyObject' : 'PutObject'
    const reason = method === 'POST' ? 'CompleteMultipartUpload' : copied
    const { headers: stored } = await server.inject({
      method: 'HEAD',
      url: request.url.replace(/\?.*/, ''),
      headers: ourselves,
    })
    const etag = String(stored.etag).replaceAll('"', '')
    return [{ type: 'created', bucket, key, size: Number(stored['content-length']), etag, reason }]
  }

  return {
    ourselves,
    isOurs,
    setAccess: (bucket, access) => void accesses.set(bucket, access),
    onChange: (listener) => void listeners.push(listener),
  }
}

const bucketOf = ({ params }: Request) => params?.bucket ?? ''
const keyOf = ({ params }: Request) => params?.['*'] ?? ''
const isReading = (request: Request) => /^(GET|HEAD)$/.test(request.method) && keyOf(request) !== ''

function forbid(request: Request, reply: Reply): Reply {
  reply.code(403).type('application/xml')
  return request.method === 'HEAD' ? reply.send() : reply.send(ACCESS_DENIED)
}

const keysIn = (xml: string) =>
  [...xml.matchAll(/<Key>([^<]*)<\/Key>/g)].map(([, key = '']) =>
    key
      .replaceAll('&lt;', '<')
      .replaceAll('&gt;', '>')
      .replaceAll('&quot;', '"')
      .replaceAll('&apos;', "'")
      .replaceAll('&amp;', '&'),
  )

const errorXml = (code: string, message: string) =>
  `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${message}</Message></Error>`

const ACCESS_DENIED = errorXml('AccessDenied', 'Access Denied')
