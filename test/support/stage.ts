import { randomUUID } from 'node:crypto'
import { RekognitionClient } from '@aws-sdk/client-rekognition'
import { DeleteObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import {
  ChangeMessageVisibilityCommand,
  DeleteMessageCommand,
  type Message,
  PurgeQueueCommand,
  ReceiveMessageCommand,
  SendMessageCommand,
} from '@aws-sdk/client-sqs'
import type { SQSRecord } from 'aws-lambda'
import pg from 'pg'
import { startAws } from '../../local/aws.ts'
import { startGateway } from '../../local/gateway/server.ts'
import { imageIdOf } from '../../local/rekognition/collections.ts'
import type { FaceEngine } from '../../local/rekognition/engine.ts'
import { startRekognition } from '../../local/rekognition/server.ts'
import { syntheticEngine } from '../../local/rekognition/synthetic-engine.ts'
import type { ObjectAccess } from '../../local/s3/objects.ts'
import { dropCollection } from '../../src/core/collection.ts'
import { connectDatabase } from '../../src/core/database.ts'
import { connectPhotoStore } from '../../src/core/photo-store.ts'
import { MISSING_GRACE_SECONDS } from '../../src/core/policy.ts'
import { emptyOutbox } from '../../src/scheduler/outbox.ts'
import { type SchedulerParts, schedule } from '../../src/scheduler/scheduler.ts'
import { type WorkerParts, work } from '../../src/worker/worker.ts'
import { postgres, runAsSuperuser } from './database.ts'

const PREFIX = 'memento_event_'
const BUCKET = 'photos'
const REGION = 'eu-central-1'
const MINUTE = 60_000
const MAX_RECEIVES = 1000

export type Stage = Awaited<ReturnType<typeof openStage>>

/**
 * The whole system around a scheduler and workers that a test calls by itself, step by step: Postgres, the REST gateway, SQS,
 * S3 and the synthetic Rekognition are real servers; time is the test's (`timePasses`).
 */
export async function openStage(engine: FaceEngine = syntheticEngine()) {
  const database = await postgres.createDatabase()
  const gateway = await startGateway(database)
  const queue = (logicalId: string, attributes: Record<string, string>) => {
    const name = `event-indexer-test-${logicalId}`
    return { logicalId, name, arn: `arn:aws:sqs:${REGION}:000000000000:${name}`, attributes }
  }
  const deadLetters = queue('dead-letters', {})
  const RedrivePolicy = JSON.stringify({
    deadLetterTargetArn: deadLetters.arn,
    maxReceiveCount: MAX_RECEIVES,
  })
  const received = { VisibilityTimeout: '3600', RedrivePolicy }
  const aws = await startAws({
    region: REGION,
    buckets: [BUCKET],
    queues: [deadLetters, queue('work', received), queue('urgent', received)],
  })
  const { s3, sqs } = aws
  const workQueueUrl = aws.queueUrls.get('work') ?? ''
  const urgentQueueUrl = aws.queueUrls.get('urgent') ?? ''
  const rekognition = await startRekognition({
    engine,
    s3Endpoint: aws.endpoint,
    region: REGION,
  })

  const app = new pg.Pool({ connectionString: database.url, max: 10 })
  app.on('error', () => {}) // the database was dropped
  const client = new RekognitionClient({
    region: REGION,
    credentials: aws.credentials,
    endpoint: rekognition.endpoint,
    maxAttempts: 1,
  })
  const parts: WorkerParts & SchedulerParts = {
    settings: {
      collectionPrefix: PREFIX,
      workQueueUrl,
      urgentQueueUrl,
      indexFacesTps: 10_000,
      maxFailedShare: 0,
      cleanupAfterHours: undefined,
      maxReceives: MAX_RECEIVES,
      severalFaces: 'skip',
      convertPhotos: true,
    },
    database: connectDatabase(gateway.url, async () => gateway.serviceRoleKey),
    rekognition: client,
    photos: connectPhotoStore(BUCKET, REGION, client, aws.endpoint),
    sqs,
  }

  const sql = async <Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> =>
    (await app.query<Row>(text, values)).rows

  /** What the faces of each object of the bucket have for ImageId. */
  const imageIds = new Map<string, string>()

  /** Puts a photo into the bucket: under this key, or under one of its own. Returns the key. */
  const upload = async (
    content: string | Uint8Array = randomUUID(),
    key = `photos/${randomUUID()}.jpg`,
    contentType?: string,
  ): Promise<string> => {
    await s3.send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: content, ContentType: contentType }))
    imageIds.set(key, imageIdOf(Buffer.from(content)))
    return key
  }

  let unread: Message[] = []
  /** The queue that each message came from. */
  const origins = new WeakMap<Message, string>()
  const originOf = (message: Message) => origins.get(message) ?? workQueueUrl

  /** Receives all messages, or those of one event; the others stay for later calls. */
  const receive = async (event?: string): Promise<Message[]> => {
    for (const QueueUrl of [urgentQueueUrl, workQueueUrl])
      for (;;) {
        const { Messages = [] } = await sqs.send(
          new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10, AttributeNames: ['All'] }),
        )
        if (Messages.length === 0) break
        for (const message of Messages) origins.set(message, QueueUrl)
        unread.push(...Messages)
      }
    const messages = unread.filter(({ Body = '' }) => !event || Body.includes(event))
    unread = unread.filter((message) => !messages.includes(message))
    return messages
  }

  const makeVisible = async (message: Message): Promise<void> => {
    const change = new ChangeMessageVisibilityCommand({
      QueueUrl: originOf(message),
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
      from indexing.face_jobs where state in ('queued', 'sent', 'running') or missing_since is not null and look_again_at is not null
      union all select 'change of ' || coalesce(event_id::text, user_id::text) from indexing.changes
      union all select 'run of ' || event_id from indexing.event_runs where state = 'in_progress'
      union all select 'collection ' || collection || ' of ' || event_id from indexing.event_runs
        where collection in ('missing', 'closing') and state <> 'failed'`)

  const stage = {
    parts,
    rekognition,
    gateway,

    /** What an operator has in the shell, for the commands. */
    environment: {
      SUPABASE_URL: gateway.url,
      SUPABASE_SERVICE_ROLE_KEY: gateway.serviceRoleKey,
      WORK_QUEUE_URL: workQueueUrl,
      URGENT_QUEUE_URL: urgentQueueUrl,
      MAX_RECEIVE_COUNT: String(MAX_RECEIVES),
      AWS_REGION: REGION,
      AWS_ACCESS_KEY_ID: aws.credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: aws.credentials.secretAccessKey,
      AWS_ENDPOINT_URL: aws.endpoint,
      AWS_ENDPOINT_URL_REKOGNITION: rekognition.endpoint,
    },
    sql,
    /** Writes as a restore or a replication does: no trigger fires. */
    writeWithoutTriggers: (statement: string) =>
      runAsSuperuser(database.url, `set session_replication_role = replica; ${statement}`),
    upload,
    async deleteObject(key: string): Promise<void> {
      await s3.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: key }))
      imageIds.delete(key)
    },
    /** What the functions may read in the photo bucket, from now on. */
    setObjectAccess: (access: ObjectAccess) => aws.setObjectAccess(BUCKET, access),
    receive,
    makeVisible,

    /** A connection of the app's own, for transactions that are held open. */
    connect: () => app.connect(),

    async createEvent(startsInMinutes = 18): Promise<string> {
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
    send: (body: string) => sqs.send(new SendMessageCommand({ QueueUrl: workQueueUrl, MessageBody: body })),

    async discardMessages(): Promise<void> {
      for (const QueueUrl of [urgentQueueUrl, workQueueUrl])
        await sqs.send(new PurgeQueueCommand({ QueueUrl }))
    },

    runScheduler: (using: SchedulerParts = parts) => schedule(20, using, () => MINUTE),

    /** Sends what is queued, and does nothing more of what a scheduler does. */
    async emptyOutbox(): Promise<void> {
      const queued = await sql(`select from indexing.face_jobs where state = 'queued' limit 1`)
      if (queued.length > 0) await emptyOutbox(parts, () => false)
    },

    /** Hands messages to a worker as Lambda would; those that it acknowledges are deleted, the others made visible. */
    async runWorker(messages: Message[], using: WorkerParts = parts, forMs = MINUTE) {
      const end = performance.now() + forMs
      const outcomes = await work(
        messages.map((message) => asRecord(message, originOf(message))),
        using,
        () => end - performance.now(),
      )
      for (const message of messages.filter((_, index) => outcomes[index]?.status === 'rejected'))
        await makeVisible(message)
      const done = messages.filter((_, index) => outcomes[index]?.status === 'fulfilled')
      for (const message of done)
        await sqs.send(
          new DeleteMessageCommand({ QueueUrl: originOf(message), ReceiptHandle: message.ReceiptHandle }),
        )
      return outcomes
    },

    /** All leases, backoffs and waits run out, or those of one event. */
    async timePasses(event?: string): Promise<void> {
      const of = [event ?? null]
      const ofEvent = '($1::uuid is null or event_id = $1)'
      const grace = `interval '${MISSING_GRACE_SECONDS} s'`
      for (const statement of [
        `update indexing.face_jobs set lease_until = now() - interval '5 s' where state = 'running' and ${ofEvent}`,
        `update indexing.send_batches b set handed_at = now() - interval '1 hour'
         where $1::uuid is null
           or exists (select from indexing.face_jobs j where j.send_batch = b.id and j.event_id = $1)`,
        `update indexing.event_runs set collection_due = now(), closed_at = closed_at - interval '1 hour'
         where collection in ('missing', 'closing') and ${ofEvent}`,
        `update indexing.event_runs set reconcile_due = now(), changed_at = changed_at - interval '1 hour'
         where reconcile_due between now() and now() + interval '2 minutes' and ${ofEvent}`,
        `update indexing.face_jobs set missing_since = missing_since - ${grace}, look_again_at = look_again_at - ${grace}
         where missing_since is not null and ${ofEvent}`,
        `update indexing.face_jobs set ended_at = ended_at - interval '1 minute' where ${ofEvent}`,
        `update indexing.erasures set noted_at = noted_at - interval '1 minute', deleted_at = deleted_at - interval '1 minute'
         where ${ofEvent}`,
      ])
        await sql(statement, of)
    },

    /** So many seconds go by for the ledger: every time that it has noted, but those of the app's events, lies further back. */
    async secondsPass(seconds: number): Promise<void> {
      await sql(
        `do $$
        declare
          noted record;
        begin
          for noted in
            select a.attrelid::regclass as of_table, string_agg(format('%1$I = %1$I - interval ''${seconds} s''', a.attname), ', ') as sets
            from pg_attribute a join pg_class c on c.oid = a.attrelid
            where c.relnamespace = 'indexing'::regnamespace and c.relkind = 'r' and a.atttypid = 'timestamptz'::regtype
              and a.attname not in ('starts_at', 'ends_at') and c.relname not in ('receipts', 'receipt_chain')
            group by a.attrelid
          loop
            execute format('update %s set %s where true', noted.of_table, noted.sets);
          end loop;
        end $$`,
      )
    },

    /** A scheduler's run, as the nudge or the next minute brings it, and a worker's pass. */
    async follow(): Promise<void> {
      await stage.runScheduler()
      await stage.runWorker(await receive())
    },

    /** Schedulers and workers live while this is done; for them it takes minutes. */
    async whileLiving<T>(act: () => Promise<T>): Promise<T> {
      let over = false
      const live = async () => {
        while (!over) {
          await stage.timePasses()
          await stage.runScheduler()
          await stage.runWorker(await receive())
        }
      }
      const [done] = await Promise.all([act().finally(() => (over = true)), live()])
      return done
    },

    /** Minutes go by, with schedulers and workers that live, until nothing is left to do. */
    async comeToRest(): Promise<void> {
      for (let minute = 0; minute < 12; minute++) {
        await stage.timePasses()
        await stage.runScheduler()
        await stage.runWorker(await receive())
        const { length } = await unsettled()
        const [{ due } = { due: 0 }] = await sql<{ due: number }>(
          `select count(*)::int as due from indexing.event_runs
           where collection = 'ready' and reconcile_due <= now() + interval '2 minutes'`,
        )
        if (length === 0 && due === 0) return
      }
      const left = (await unsettled()).map(({ what }) => what)
      throw new Error(`the system did not come to rest: ${left.join('; ')}`)
    },

    /** ExternalImageId, photo and its content of each face in the event's collection; undefined when there is none. */
    facesOf: (event: string) =>
      rekognition.collection(PREFIX + event)?.map(({ externalImageId, imageKey, imageId }) => ({
        user: externalImageId,
        photo: imageKey,
        content: imageId,
      })),

    /** What the collection should hold, by the app's tables and the bucket alone: photos that are there and show a face. */
    async wantedFacesOf(event: string) {
      const wanted = await sql<{ user: string; photo: string }>(
        `select c.user_id as user, p.photo_path as photo
         from event_consents c join profiles p using (user_id) join events e using (event_id)
         where c.event_id = $1 and c.allow_recognition and p.photo_path is not null order by 1`,
        [event],
      )
      return wanted.flatMap((face) => {
        const content = imageIds.get(face.photo)
        return content === undefined ? [] : [{ ...face, content }]
      })
    },

    statusOf: async (event: string): Promise<string | undefined> =>
      (
        await sql<{ status: string }>('select indexing_status as status from events where event_id = $1', [
          event,
        ])
      )[0]?.status,

    /** Deletes the event's collection, as the app does. */
    dropCollection: (event: string) => dropCollection(client, PREFIX + event),

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

function asRecord(message: Message, queueUrl: string): SQSRecord {
  return {
    messageId: message.MessageId ?? '',
    receiptHandle: message.ReceiptHandle ?? '',
    body: message.Body ?? '',
    attributes: (message.Attributes ?? {}) as unknown as SQSRecord['attributes'],
    messageAttributes: {},
    md5OfBody: message.MD5OfBody ?? '',
    eventSource: 'aws:sqs',
    eventSourceARN: `arn:aws:sqs:${REGION}:000000000000:${queueUrl.split('/').at(-1)}`,
    awsRegion: REGION,
  }
}
