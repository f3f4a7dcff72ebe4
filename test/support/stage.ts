import { randomUUID } from 'node:crypto'
import { RekognitionClient } from '@aws-sdk/client-rekognition'
import { PutObjectCommand } from '@aws-sdk/client-s3'
import {
  ChangeMessageVisibilityCommand,
  DeleteMessageBatchCommand,
  type Message,
  PurgeQueueCommand,
  ReceiveMessageCommand,
  SendMessageCommand,
} from '@aws-sdk/client-sqs'
import type { SQSRecord } from 'aws-lambda'
import pg from 'pg'
import { startAws } from '../../local/aws.ts'
import { startGateway } from '../../local/gateway/server.ts'
import { startRekognition } from '../../local/rekognition/server.ts'
import { syntheticEngine } from '../../local/rekognition/synthetic-engine.ts'
import { connectDatabase } from '../../src/core/database.ts'
import { emptyOutbox } from '../../src/scheduler/outbox.ts'
import { schedule } from '../../src/scheduler/scheduler.ts'
import { type WorkerParts, work } from '../../src/worker/worker.ts'
import { postgres } from './database.ts'

const PREFIX = 'memento_event_'
const BUCKET = 'photos'
const REGION = 'eu-central-1'
const MINUTE = 60_000

export type Stage = Awaited<ReturnType<typeof openStage>>

/**
 * The whole system around a scheduler and workers that a test calls by itself, step by step: Postgres, the REST gateway, SQS,
 * S3 and the synthetic Rekognition are real servers; time is the test's (`timePasses`).
 */
export async function openStage() {
  const database = await postgres.createDatabase()
  const gateway = await startGateway(database)
  const aws = await startAws({
    region: REGION,
    buckets: [BUCKET],
    queues: [{ logicalId: 'WorkQueue', name: 'work', arn: '', attributes: { VisibilityTimeout: '3600' } }],
  })
  const { s3, sqs } = aws
  const queueUrl = aws.queueUrls.get('WorkQueue') ?? ''
  const rekognition = await startRekognition({
    engine: syntheticEngine(),
    s3Endpoint: aws.endpoint,
    region: REGION,
  })

  const app = new pg.Pool({ connectionString: database.url, max: 10 })
  const parts: WorkerParts = {
    settings: {
      collectionPrefix: PREFIX,
      photoBucket: BUCKET,
      workQueueUrl: queueUrl,
      indexFacesTps: 10_000,
      maxReceives: 1000,
    },
    database: connectDatabase(gateway.url, gateway.serviceRoleKey),
    rekognition: new RekognitionClient({
      region: REGION,
      credentials: aws.credentials,
      endpoint: rekognition.endpoint,
      maxAttempts: 1,
    }),
    sqs,
  }

  const sql = async <Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> =>
    (await app.query<Row>(text, values)).rows

  const upload = async (content: string = randomUUID()): Promise<string> => {
    const key = `photos/${randomUUID()}.jpg`
    await s3.send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: content }))
    return key
  }

  let unread: Message[] = []

  /** Whatever messages there are: those of one event, while the others stay for who asks for them, or all. */
  const receive = async (event?: string): Promise<Message[]> => {
    for (;;) {
      const { Messages = [] } = await sqs.send(
        new ReceiveMessageCommand({
          QueueUrl: queueUrl,
          MaxNumberOfMessages: 10,
          AttributeNames: ['All'],
        }),
      )
      if (Messages.length === 0) break
      unread.push(...Messages)
    }
    const messages = unread.filter(({ Body = '' }) => !event || Body.includes(event))
    unread = unread.filter((message) => !messages.includes(message))
    return messages
  }

  const makeVisible = async (message: Message): Promise<void> => {
    const change = new ChangeMessageVisibilityCommand({
      QueueUrl: queueUrl,
      ReceiptHandle: message.ReceiptHandle,
      VisibilityTimeout: 0,
    })
    await sqs.send(change).catch((error: Error) => {
      if (error.name !== 'MessageNotInflight') throw error // else it is visible already
    })
  }

  const unsettled = () =>
    sql<{ what: string }>(`
      select 'job ' || state || ' ' || event_id || ' ' || user_id || ' ' || coalesce(error, '') as what
      from indexing.face_jobs where state in ('queued', 'sent', 'running') or second_look_at is not null
      union all select 'change of ' || coalesce(event_id::text, user_id::text) from indexing.changes
      union all select 'run of ' || event_id from indexing.event_runs where state = 'in_progress'
      union all select 'collection ' || collection || ' of ' || event_id from indexing.event_runs
        where collection in ('missing', 'closing', 'closing_again') and state <> 'failed'`)

  const stage = {
    parts,
    rekognition,
    gateway,
    sql,
    upload,
    receive,
    makeVisible,

    /** A connection of the app's own, for transactions that are held open. */
    connect: () => app.connect(),

    async createEvent(startsInMinutes = 10): Promise<string> {
      const event = randomUUID()
      await sql(
        `insert into events (event_id, name, starts_at) values ($1, 'an event', now() + make_interval(mins => $2))`,
        [event, startsInMinutes],
      )
      return event
    },

    /** Somebody with a photo, who consents to the event unless told otherwise. */
    async createAttendee(
      event: string,
      { consents = true, photo = undefined as string | null | undefined } = {},
    ) {
      const user = randomUUID()
      const key = photo === undefined ? await upload() : photo
      await sql('insert into auth.users (id, email) values ($1, $2)', [user, `${user}@example.org`])
      await sql(`insert into profiles (user_id, full_name, photo_path) values ($1, 'somebody', $2)`, [
        user,
        key,
      ])
      await sql(
        'insert into event_consents (event_id, user_id, allow_recognition, consented_at) values ($1, $2, $3, now())',
        [event, user, consents],
      )
      return user
    },

    /** Puts a message into the work queue that no scheduler sent. */
    send: (body: string) => sqs.send(new SendMessageCommand({ QueueUrl: queueUrl, MessageBody: body })),

    discardMessages: () => sqs.send(new PurgeQueueCommand({ QueueUrl: queueUrl })),

    runScheduler: (using: WorkerParts = parts) => schedule(20, using, () => MINUTE),

    /** Sends what is queued, and does nothing more of what a scheduler does. */
    async emptyOutbox(): Promise<void> {
      const queued = await sql(`select from indexing.face_jobs where state = 'queued' limit 1`)
      if (queued.length > 0) await emptyOutbox(parts, () => false)
    },

    /** Hands messages to a worker as Lambda would; those that it acknowledges are deleted, the others made visible. */
    async runWorker(messages: Message[], using: WorkerParts = parts, forMs = MINUTE) {
      const end = performance.now() + forMs
      const outcomes = await work(messages.map(asRecord), using, () => end - performance.now())
      for (const message of messages.filter((_, index) => outcomes[index]?.status === 'rejected'))
        await makeVisible(message)
      const done = messages.filter((_, index) => outcomes[index]?.status === 'fulfilled')
      for (let start = 0; start < done.length; start += 10) {
        const Entries = done
          .slice(start, start + 10)
          .map(({ ReceiptHandle }, index) => ({ Id: String(index), ReceiptHandle }))
        await sqs.send(new DeleteMessageBatchCommand({ QueueUrl: queueUrl, Entries }))
      }
      return outcomes
    },

    /** All leases, backoffs and waits run out, or those of one event. */
    async timePasses(event?: string): Promise<void> {
      const of = [event ?? null]
      await sql(
        `update indexing.face_jobs set lease_until = now() - interval '1 s'
         where state = 'running' and ($1::uuid is null or event_id = $1)`,
        of,
      )
      await sql(
        `update indexing.pages p set until = now() - interval '1 s'
         where $1::uuid is null
           or exists (select from indexing.face_jobs j where j.sent_at = p.sent_at and j.event_id = $1)`,
        of,
      )
      await sql(
        `update indexing.event_runs set collection_due = now()
         where collection_due > now() and ($1::uuid is null or event_id = $1)`,
        of,
      )
      await sql(
        `update indexing.face_jobs set second_look_at = now()
         where second_look_at > now() and ($1::uuid is null or event_id = $1)`,
        of,
      )
    },

    /** Minutes go by, with schedulers and workers that live, until nothing is left to do. */
    async comeToRest(): Promise<void> {
      for (let minute = 0; minute < 12; minute++) {
        await stage.timePasses()
        await stage.runScheduler()
        await stage.runWorker(await receive())
        if ((await unsettled()).length === 0) return
      }
      const left = (await unsettled()).map(({ what }) => what)
      throw new Error(`the system did not come to rest: ${left.join('; ')}`)
    },

    /** ExternalImageId and photo of each face in the event's collection; undefined when there is no collection. */
    facesOf: (event: string) =>
      rekognition.collection(PREFIX + event)?.map(({ externalImageId, imageKey }) => ({
        user: externalImageId,
        photo: imageKey,
      })),

    /** What the collection should hold, by the app's tables alone. */
    wantedFacesOf: (event: string) =>
      sql<{ user: string; photo: string }>(
        `select c.user_id as user, p.photo_path as photo
         from event_consents c join profiles p using (user_id) join events e using (event_id)
         where c.event_id = $1 and c.allow_recognition and p.photo_path is not null order by 1`,
        [event],
      ),

    statusOf: async (event: string): Promise<string | undefined> =>
      (
        await sql<{ status: string }>('select indexing_status as status from events where event_id = $1', [
          event,
        ])
      )[0]?.status,

    indexCalls: () => rekognition.calls().IndexFaces.calls,

    async close(): Promise<void> {
      await app.end()
      await gateway.close()
      await rekognition.close()
      await aws.close()
      await database.drop()
    },
  }
  return stage
}

function asRecord(message: Message): SQSRecord {
  return {
    messageId: message.MessageId ?? '',
    receiptHandle: message.ReceiptHandle ?? '',
    body: message.Body ?? '',
    attributes: (message.Attributes ?? {}) as unknown as SQSRecord['attributes'],
    messageAttributes: {},
    md5OfBody: message.MD5OfBody ?? '',
    eventSource: 'aws:sqs',
    eventSourceARN: 'arn:aws:sqs:us-east-1:000000000000:work',
    awsRegion: 'us-east-1',
  }
}
