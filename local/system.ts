import { randomBytes } from 'node:crypto'
import { App } from './app.ts'
import { type Aws, startAws } from './aws.ts'
import { type Deployment, readDeployment } from './deployment.ts'
import { startFunctionUrl } from './function-url.ts'
import { type Gateway, startGateway } from './gateway/server.ts'
import { type Bundle, bundleFunctions } from './lambda-host/bundle.ts'
import { type LambdaHost, startLambdaHost } from './lambda-host/host.ts'
import { runSql } from './migrations.ts'
import { Parts, sideBySide } from './parts.ts'
import { type PgNet, startPgNet } from './pg-net.ts'
import { type Database, type Postgres, startPostgres } from './postgres.ts'
import { startFacesEngine } from './rekognition/faces-engine.ts'
import { type RekognitionServer, startRekognition } from './rekognition/server.ts'
import { syntheticEngine } from './rekognition/synthetic-engine.ts'

export interface LocalSystemOptions {
  /** `faces` finds real faces in photos; for `synthetic` a photo's bytes are the face. */
  engine: 'faces' | 'synthetic'
  /** Whether functions run on their schedules. */
  schedules?: boolean
  /** IndexFaces calls a second: what the account allows, and what the workers keep to; serverless.yml's unless given. */
  tps?: number
  /** Where to make the database; a server of its own unless given. */
  postgres?: Pick<Postgres, 'createDatabase'>
  /** The functions, where they have been bundled already. */
  bundle?: Bundle
  /** Changes what serverless.yml says, such as a timeout. */
  change?: (deployment: Deployment) => void
  /** Takes each line that a function logs. */
  onLog?: (functionName: string, line: string) => void
}

/** The deployed system and what it talks to, on this machine. */
export interface LocalSystem {
  database: Database
  gateway: Gateway
  aws: Aws
  rekognition: RekognitionServer
  functions: LambdaHost
  /** Sends the nudges of the database to the scheduler. */
  pgNet: PgNet
  /** The scheduler's function URL. */
  nudgeUrl: string
  /** What the app does. */
  app: App
  /** The environment variables of the functions, for whatever else is to talk to this system. */
  environment: Record<string, string>
  /** Ends all of it. */
  close: () => Promise<void>
}

const ROOT = new URL('../', import.meta.url)
const PHOTO_BUCKET = 'profile-photos'

/**
 * Starts the system: a database as Supabase has it, its API, SQS, S3, Rekognition, and the functions, wired as
 * serverless.yml says. All of it listens on 127.0.0.1 alone and is gone after `close`.
 *
 * @throws {Error} naming the part that did not start, and why; what had started has been closed then
 */
export async function startLocalSystem(options: LocalSystemOptions): Promise<LocalSystem> {
  const deployment = await readDeployment(new URL('serverless.yml', ROOT), {
    photoBucket: PHOTO_BUCKET,
    ...(options.tps !== undefined && { indexFacesTps: String(options.tps) }),
  })
  options.change?.(deployment)

  const parts = new Parts()
  try {
    const [{ database, gateway }, { aws, rekognition }, bundle] = await sideBySide(
      startSupabase(parts, options),
      startServices(parts, deployment, options),
      options.bundle ?? parts.start('bundling the functions', bundleFunctions(deployment, ROOT)),
    )
    const nudgeSecret = randomBytes(16).toString('hex')
    const functions = parts.add(
      startLambdaHost({
        deployment,
        bundle,
        aws,
        environment: {
          SUPABASE_URL: gateway.url,
          SUPABASE_SERVICE_ROLE_KEY: gateway.serviceRoleKey,
          NUDGE_SECRET: nudgeSecret,
          AWS_ENDPOINT_URL: aws.endpoint, // for every service that has none of its own, so that no call leaves this machine
          AWS_ENDPOINT_URL_REKOGNITION: rekognition.endpoint,
        },
        schedules: options.schedules ?? false,
        onLog: options.onLog ?? (() => {}),
      }),
    )
    const { pgNet, nudgeUrl } = await startNudges(parts, database, functions, nudgeSecret)
    const app = parts.add(new App({ databaseUrl: database.url, s3: aws.s3, photoBucket: PHOTO_BUCKET }))
    const environment = functions.environment('worker')
    return {
      database,
      gateway,
      aws,
      rekognition,
      functions,
      pgNet,
      nudgeUrl,
      app,
      environment,
      close: () => parts.close(),
    }
  } catch (error) {
    await parts.close()
    throw error
  }
}

async function startSupabase(parts: Parts, { postgres }: LocalSystemOptions) {
  const server = postgres ?? (await parts.start('Postgres', startPostgres()))
  const database = await server.createDatabase()
  if (postgres) parts.add({ close: database.drop })
  const gateway = await parts.start('the REST gateway', startGateway(database))
  return { database, gateway }
}

async function startNudges(
  parts: Parts,
  { url }: Database,
  functions: LambdaHost,
  secret: string,
): Promise<{ pgNet: PgNet; nudgeUrl: string }> {
  const scheduler = await parts.start(
    'the URL of the scheduler',
    startFunctionUrl((event) => functions.invoke('scheduler', event)),
  )
  const pgNet = await parts.start('pg_net', startPgNet({ url }))
  await runSql(url, `select indexing.configure_nudge('${scheduler.url}', '${secret}')`)
  return { pgNet, nudgeUrl: scheduler.url }
}

async function startServices(parts: Parts, deployment: Deployment, { engine }: LocalSystemOptions) {
  const { region, queues, functions } = deployment
  const [aws, faces] = await sideBySide(
    parts.start('SQS and S3', startAws({ region, queues, buckets: [PHOTO_BUCKET] })),
    parts.start(
      'the face engine',
      engine === 'faces' ? startFacesEngine() : Promise.resolve(syntheticEngine()),
    ),
  )
  const rekognition = await parts.start(
    'Rekognition',
    startRekognition({
      engine: faces,
      s3Endpoint: aws.endpoint,
      region,
      quota: { IndexFaces: Number(functions[0]?.environment.INDEX_FACES_TPS) },
    }),
  )
  return { aws, rekognition }
}
