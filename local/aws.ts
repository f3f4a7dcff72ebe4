import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3'
import { CreateQueueCommand, SQSClient } from '@aws-sdk/client-sqs'
import type { DeployedQueue } from './deployment.ts'
import { buildServer, type Request } from './fauxqs.ts'
import { portOrFree } from './ports.ts'
import { keepObjects } from './s3/kept-objects.ts'
import { type ObjectAccess, serveObjects } from './s3/objects.ts'
import { photoEvent } from './s3/photo-events.ts'

// The SDK's warning about the Node of the years to come is for whoever deploys, and Lambda runs a newer one.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= 'true'

export interface AwsOptions {
  region: string
  queues: DeployedQueue[]
  buckets: string[]
  /** Sends the events of a bucket's objects to a queue (its logical id), as an EventBridge rule does. */
  photoEvents?: { bucket: string; queue: string } | undefined
  /** A folder in which objects outlive this process; they are lost with it unless given. */
  keep?: string | undefined
  /** Taken if it is free; a free one unless given. */
  port?: number | undefined
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
  /** Requests to SQS by action since the start; photo events are not counted. */
  requests: ReadonlyMap<string, number>
  /** From the next request on; `full` at the start. */
  setObjectAccess: (bucket: string, access: ObjectAccess) => void
  /**
   * Switches photo events, which are on from the start if there are any.
   * @throws {Error} where the option `photoEvents` was not given
   */
  setPhotoEvents: (on: boolean) => void
  close: () => Promise<void>
}

/** Starts fauxqs on 127.0.0.1 and makes the queues and buckets. */
export async function startAws(options: AwsOptions): Promise<Aws> {
  const { region, queues, buckets, photoEvents } = options
  const server = buildServer(region)
  const objects = serveObjects(server)
  const requests = new Map<string, number>()
  // A queue's URL, as fauxqs makes it, has a host that not every system resolves: *.localhost.
  const madeUrls = new Map<string, string>()

  const callSqs = (action: string, payload: object) =>
    server.inject({
      method: 'POST',
      url: '/',
      headers: { ...objects.ourselves, ...JSON_1_0, 'x-amz-target': `AmazonSQS.${action}` },
      payload,
    })

  server.addHook('preHandler', async (request) => {
    const action = actionOf(request)
    if (!action) return
    if (!objects.isOurs(request)) requests.set(action, (requests.get(action) ?? 0) + 1)
    const body = request.body as { QueueUrl?: string }
    if (body.QueueUrl) body.QueueUrl = madeUrls.get(body.QueueUrl) ?? body.QueueUrl
  })

  // Messages that were taken for a poll whose client has gone are made visible again, or nobody would see them for the
  // whole visibility timeout.
  server.addHook('onSend', async (request, _reply, payload) => {
    if (actionOf(request) === 'GetQueueUrl') {
      const { QueueUrl } = JSON.parse(payload) as { QueueUrl?: string }
      const ours = [...madeUrls].find(([, made]) => made === QueueUrl)?.[0]
      return ours === undefined ? payload : JSON.stringify({ QueueUrl: ours })
    }
    if (actionOf(request) !== 'ReceiveMessage' || !request.raw.socket.destroyed) return payload
    const { Messages = [] } = JSON.parse(payload) as { Messages?: { ReceiptHandle: string }[] }
    const Entries = Messages.map(({ ReceiptHandle }, index) => ({
      Id: `${index}`,
      ReceiptHandle,
      VisibilityTimeout: 0,
    }))
    const { QueueUrl } = request.body as { QueueUrl?: string }
    if (Entries.length > 0) await callSqs('ChangeMessageVisibilityBatch', { QueueUrl, Entries })
    return payload
  })

  const queueUrls = new Map<string, string>()
  let sendsEvents = false
  if (photoEvents) {
    if (!queues.some(({ logicalId }) => logicalId === photoEvents.queue))
      throw new Error(`photo events cannot be sent: there is no queue ${photoEvents.queue}`)
    objects.onChange((change) => {
      if (!sendsEvents || change.bucket !== photoEvents.bucket) return
      const MessageBody = JSON.stringify(photoEvent(change, region))
      callSqs('SendMessage', { QueueUrl: queueUrls.get(photoEvents.queue), MessageBody }).catch((error) =>
        console.error(`a photo event was not sent: ${error}`),
      )
    })
  }

  const endpoint = await server.listen({ port: await portOrFree(options.port), host: '127.0.0.1' })
  const credentials = { accessKeyId: 'local', secretAccessKey: 'local' }
  const sqs = new SQSClient({ endpoint, region, credentials })
  const s3 = new S3Client({ endpoint, region, credentials, forcePathStyle: true })
  let kept = async () => {}
  const close = async () => {
    sqs.destroy()
    s3.destroy()
    await kept()
    await server.close()
  }

  try {
    for (const { logicalId, name, attributes } of queues) {
      const create = new CreateQueueCommand({ QueueName: name, Attributes: attributes })
      const { QueueUrl = '' } = await sqs.send(create)
      const url = `${endpoint}${new URL(QueueUrl).pathname}`
      madeUrls.set(url, QueueUrl)
      queueUrls.set(logicalId, url)
    }
    for (const Bucket of buckets) await s3.send(new CreateBucketCommand({ Bucket }))
    if (options.keep) kept = await keepObjects(server, objects, options.keep)
  } catch (error) {
    await close()
    throw error
  }
  requests.clear()
  sendsEvents = photoEvents !== undefined
  return {
    endpoint,
    region,
    credentials,
    sqs,
    s3,
    queueUrls,
    requests,
    setObjectAccess: objects.setAccess,
    setPhotoEvents: (on) => {
      if (!photoEvents) throw new Error('there are no photo events: start with the option `photoEvents`')
      sendsEvents = on
    },
    close,
  }
}

const JSON_1_0 = { 'content-type': 'application/x-amz-json-1.0' }

const actionOf = ({ headers }: Request) => /^AmazonSQS\.(\w+)$/.exec(headers['x-amz-target'] ?? '')?.[1]
