import type { IncomingMessage } from 'node:http'
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3'
import { CreateQueueCommand, SQSClient } from '@aws-sdk/client-sqs'
import { buildApp } from 'fauxqs'
import type { DeployedQueue } from './deployment.ts'

// The SDK's warning about the Node of the years to come is for whoever deploys, and Lambda runs a newer one.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= 'true'

export interface AwsOptions {
  region: string
  queues: DeployedQueue[]
  buckets: string[]
}

/** SQS and S3, on one port. */
export interface Aws {
  endpoint: string
  region: string
  /** Any are accepted; clients want some. */
  credentials: { accessKeyId: string; secretAccessKey: string }
  sqs: SQSClient
  s3: S3Client
  /** URLs of the queues by their names in the template. */
  queueUrls: ReadonlyMap<string, string>
  /** Requests to SQS by action since the start. */
  requests: ReadonlyMap<string, number>
  close: () => Promise<void>
}

/** What we use of fauxqs's Fastify server, whose own types do not come through. */
interface Server {
  addHook(name: 'preHandler', hook: (request: Request) => Promise<void>): void
  addHook(name: 'onSend', hook: (request: Request, reply: unknown, payload: string) => Promise<string>): void
  inject(request: { method: string; url: string; headers: object; payload: object }): Promise<unknown>
  listen(address: { port: number; host: string }): Promise<string>
  close(): Promise<void>
}

interface Request {
  headers: Record<string, string | undefined>
  body: { QueueUrl?: string }
  raw: IncomingMessage
}

/** Starts fauxqs on a free port of 127.0.0.1 and makes the queues and buckets. Their contents live in memory. */
export async function startAws({ region, queues, buckets }: AwsOptions): Promise<Aws> {
  const app: Server = buildApp({ logger: false, defaultRegion: region })
  const requests = new Map<string, number>()
  // A queue's URL, as fauxqs makes it, has a host that not every system resolves: *.localhost.
  const madeUrls = new Map<string, string>()

  app.addHook('preHandler', async ({ headers, body }) => {
    const action = actionOf(headers)
    if (!action) return
    requests.set(action, (requests.get(action) ?? 0) + 1)
    if (body.QueueUrl) body.QueueUrl = madeUrls.get(body.QueueUrl) ?? body.QueueUrl
  })

  // Messages that were taken for a poll whose client has gone are made visible again, or nobody would see them for the
  // whole visibility timeout.
  app.addHook('onSend', async ({ headers, body, raw }, _reply, payload) => {
    if (actionOf(headers) !== 'ReceiveMessage' || !raw.socket.destroyed) return payload
    const { Messages = [] } = JSON.parse(payload) as { Messages?: { ReceiptHandle: string }[] }
    const Entries = Messages.map(({ ReceiptHandle }, index) => ({
      Id: `${index}`,
      ReceiptHandle,
      VisibilityTimeout: 0,
    }))
    if (Entries.length > 0)
      await app.inject({
        method: 'POST',
        url: '/',
        headers: { ...JSON_1_0, 'x-amz-target': 'AmazonSQS.ChangeMessageVisibilityBatch' },
        payload: { QueueUrl: body.QueueUrl, Entries },
      })
    return payload
  })

  const endpoint = await app.listen({ port: 0, host: '127.0.0.1' })
  const credentials = { accessKeyId: 'local', secretAccessKey: 'local' }
  const sqs = new SQSClient({ endpoint, region, credentials })
  const s3 = new S3Client({ endpoint, region, credentials, forcePathStyle: true })
  const close = async () => {
    sqs.destroy()
    s3.destroy()
    await app.close()
  }

  const queueUrls = new Map<string, string>()
  try {
    for (const { logicalId, name, attributes } of queues) {
      const create = new CreateQueueCommand({ QueueName: name, Attributes: attributes })
      const { QueueUrl = '' } = await sqs.send(create)
      const url = `${endpoint}${new URL(QueueUrl).pathname}`
      madeUrls.set(url, QueueUrl)
      queueUrls.set(logicalId, url)
    }
    for (const Bucket of buckets) await s3.send(new CreateBucketCommand({ Bucket }))
  } catch (error) {
    await close()
    throw error
  }
  requests.clear()
  return { endpoint, region, credentials, sqs, s3, queueUrls, requests, close }
}

const JSON_1_0 = { 'content-type': 'application/x-amz-json-1.0' }

const actionOf = (headers: Request['headers']) =>
  /^AmazonSQS\.(\w+)$/.exec(headers['x-amz-target'] ?? '')?.[1]
