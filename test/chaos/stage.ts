import {
  DeleteCollectionCommand,
  ListCollectionsCommand,
  RekognitionClient,
} from '@aws-sdk/client-rekognition'
import { DeleteObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { SetQueueAttributesCommand, SQSClient } from '@aws-sdk/client-sqs'
import { startFauxqs } from 'fauxqs'
import pg from 'pg'
import { startGateway } from '../../local/gateway/server.ts'
import { Parts } from '../../local/parts.ts'
import { startPostgres } from '../../local/postgres.ts'
import { imageIdOf } from '../../local/rekognition/collections.ts'
import { startRekognition } from '../../local/rekognition/server.ts'
import { syntheticEngine } from '../../local/rekognition/synthetic-engine.ts'
import { connectPhotoStore } from '../../src/core/photo-store.ts'
import { DatabaseLines } from './line.ts'
import type { Plan } from './trouble.ts'

export const BUCKET = 'photos'
const REGION = 'us-east-1'
/** Longer than any run in real time: visibility is the simulation's. */
const HELD_SECONDS = '43200'

export type Stage = Awaited<ReturnType<typeof openStage>>

/**
 * The servers of the simulations, each a real one: Postgres with a clock that can be put forward, REST gateway, SQS, S3 and
 * Rekognition. One simulation after another uses them: a new database's connections would spend their time on planning.
 */
export async function openStage() {
  const postgres = await startPostgres()
  const database = await postgres.createDatabase()
  const sql = new pg.Pool({ connectionString: database.url, max: 12 })
  sql.on('error', () => {}) // the database was dropped, at the end
  await sql.query(SIMULATED_CLOCK)
  await prepareRoles(database.url, postgres.access.password)
  await sql.query("select indexing.configure_nudge('http://127.0.0.1/', 'not so secret a secret')")

  const parts = new Parts()
  const gateway = await parts.start('the gateway', startGateway(database))
  const aws = await startFauxqs({ port: 0, host: '127.0.0.1', logger: false })
  aws.createBucket(BUCKET)
  const endpoint = `http://127.0.0.1:${aws.port}`
  const queue = (name: string, attributes: Record<string, string>) =>
    aws.createQueue(name, { attributes: { VisibilityTimeout: HELD_SECONDS, ...attributes } }).queueUrl
  const deadLetterUrl = queue('dead-letters', {})
  const workUrl = queue('work', {})
  const urgentUrl = queue('urgent', {})
  const rekognition = await parts.start(
    'Rekognition',
    startRekognition({ engine: syntheticEngine(), s3Endpoint: endpoint, region: REGION }),
  )
  const imageIds = new Map<string, string>()
  const failures = new Map<string, NonNullable<Plan['error']>[]>()
  rekognition.setFaults(({ operation, input }) => {
    const error = failures.get(keyOf(operation, input))?.shift()
    return error && { type: 'error', strikes: error.strikes, error: error.name }
  })

  const client = { region: REGION, credentials: { accessKeyId: 'local', secretAccessKey: 'local' } }
  const s3 = new S3Client({ ...client, endpoint, forcePathStyle: true })
  const sqs = new SQSClient({ ...client, endpoint, useQueueUrlAsEndpoint: false })
  const rekognitionClient = new RekognitionClient({
    ...client,
    endpoint: rekognition.endpoint,
    maxAttempts: 1,
  })

  return {
    sql,
    gateway,
    rekognition,
    rekognitionClient,
    sqs,
    photos: connectPhotoStore(BUCKET, REGION, rekognitionClient, endpoint),
    queueUrls: { work: workUrl, urgent: urgentUrl, deadLetters: deadLetterUrl },

    lines: new DatabaseLines(gateway.serviceRoleKey),

    /** Empties everything. After so many receives a message goes to the dead-letter queue. */
    async reset(maxReceives: number): Promise<void> {
      await sql.query(EMPTY)
      aws.reset()
      failures.clear()
      imageIds.clear()
      const RedrivePolicy = JSON.stringify({
        deadLetterTargetArn: `arn:aws:sqs:${REGION}:000000000000:dead-letters`,
        maxReceiveCount: maxReceives,
      })
      for (const QueueUrl of [workUrl, urgentUrl])
        await sqs.send(new SetQueueAttributesCommand({ QueueUrl, Attributes: { RedrivePolicy } }))
      const { CollectionIds = [] } = await rekognitionClient.send(new ListCollectionsCommand({}))
      for (const CollectionId of CollectionIds)
        await rekognitionClient.send(new DeleteCollectionCommand({ CollectionId }))
    },

    /**
     * Puts the clock of the database so many ms ahead. Returns how many nudges the triggers have queued, which are taken, and
     * the events that are done and not settled.
     */
    async putAhead(ms: number): Promise<{ nudges: number; unsettled: string[] }> {
      const { rows } = await sql.query<{ nudges: number; unsettled: string[] }>({
        ...PUT_AHEAD,
        values: [Math.round(ms)],
      })
      return rows[0] ?? { nudges: 0, unsettled: [] }
    },

    /** How many of these messages, `[{event_id, user_id, version}]`, are not older than their jobs. */
    async currentOf(messages: unknown): Promise<number> {
      const { rowCount } = await sql.query(
        `select from jsonb_to_recordset($1) as m(event_id uuid, user_id uuid, version integer)
         join indexing.face_jobs j using (event_id, user_id) where m.version >= j.version`,
        [JSON.stringify(messages)],
      )
      return rowCount ?? 0
    },

    upload: async (key: string, content: string): Promise<void> => {
      await s3.send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: content }))
      imageIds.set(key, imageIdOf(Buffer.from(content)))
    },

    deleteObject: async (key: string): Promise<void> => {
      await s3.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: key }))
      imageIds.delete(key)
    },

    /** What faces of the object under a key have as their image id. */
    imageIds,

    /** Has Rekognition fail the next call like this one. */
    failNext(operation: string, input: object, error: NonNullable<Plan['error']>): void {
      const key = keyOf(operation, input)
      const waiting = failures.get(key)
      if (waiting) waiting.push(error)
      else failures.set(key, [error])
    },

    async close(): Promise<void> {
      await sql.end()
      await parts.close()
      await aws.stop()
      for (const each of [s3, sqs, rekognitionClient]) each.destroy()
      await postgres.close()
    },
  }
}

/**
 * Lets the database's owner write without triggers, as on hosted Supabase. The API's 8 s for a lock are shorter, since the clock
 * of the simulation stands still meanwhile.
 */
async function prepareRoles(url: string, password: string): Promise<void> {
  const superuser = new pg.Client({
    connectionString: url.replace(/\/\/[^@]+@/, `//supabase_admin:${password}@`),
  })
  await superuser.connect()
  await superuser.query('grant set on parameter session_replication_role to postgres')
  await superuser.query("alter role authenticator set lock_timeout = '500ms'")
  await superuser.end()
}

/** What tells one call from another, whoever makes it. */
function keyOf(operation: string, input: object): string {
  const { CollectionId, ExternalImageId, FaceIds } = input as Record<string, unknown>
  return JSON.stringify([operation, CollectionId, ExternalImageId, FaceIds])
}

const PUT_AHEAD = {
  name: 'put ahead',
  text: `
    with nudges as (delete from net.http_request_queue returning id)
    select setval('simulation.ahead_ms', $1), (select count(*)::int from nudges) as nudges, array(
      select r.event_id from indexing.event_runs r join public.events e using (event_id)
      where r.state = 'in_progress' and r.fanned_out_at is not null
        and not exists (select from indexing.face_jobs j where j.event_id = r.event_id and j.ended_at is null)
    ) as unsettled`,
}

const EMPTY = `
  delete from auth.users;
  delete from public.events;
  truncate indexing.face_jobs, indexing.event_runs, indexing.dead_letters, indexing.changes, indexing.send_batches,
    indexing.erasures, indexing.receipts, indexing.receipt_chain, net.http_request_queue;
  update indexing.settings set index_faces_tps = default, max_failed_share = default, orphans_due = default;
  update indexing.pace set next_slot = default, rate = default, rate_since = default;
  update indexing.nudging set running_until = default, again = default;
`

/** Has our functions, and no others, read a clock that can be put forward; a sequence, for it is read outside of snapshots. */
export const SIMULATED_CLOCK = `
  create schema simulation;
  create sequence simulation.ahead_ms minvalue 0 start 0;
  create function simulation.clock_timestamp() returns timestamptz language sql volatile as $$
    select pg_catalog.clock_timestamp() + (select last_value from simulation.ahead_ms) * interval '1 ms'
  $$;
  do $$
  declare
    name text;
    expression text;
    place record;
  begin
    for name in
      select pg_get_functiondef(p.oid) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where (n.nspname = 'indexing' or n.nspname = 'public' and p.proname like 'indexing\\_%')
        and p.prosrc like '%clock_timestamp()%'
    loop
      execute replace(name, 'clock_timestamp()', 'simulation.clock_timestamp()');
    end loop;
    for place in
      select attrelid::regclass as of_table, attname, pg_get_expr(adbin, adrelid) as value
      from pg_attrdef d join pg_attribute a on (a.attrelid, a.attnum) = (d.adrelid, d.adnum)
      where attrelid::regclass::text like 'indexing.%' and pg_get_expr(adbin, adrelid) like '%clock_timestamp()%'
    loop
      execute format('alter table %s alter column %I set default %s', place.of_table, place.attname,
        replace(place.value, 'clock_timestamp()', 'simulation.clock_timestamp()'));
    end loop;
  end
  $$;
`
