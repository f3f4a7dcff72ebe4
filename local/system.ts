import { randomBytes } from 'node:crypto'
import { RekognitionClient } from '@aws-sdk/client-rekognition'
import { App } from './app.ts'
import { type Aws, startAws } from './aws.ts'
import { type Deployment, readDeployment } from './deployment.ts'
import { startFunctionUrl } from './function-url.ts'
import { type Gateway, startGateway } from './gateway/server.ts'
import type { Home } from './home.ts'
import { type LambdaApi, startLambdaApi } from './lambda-api.ts'
import { type Bundle, bundleFunctions } from './lambda-host/bundle.ts'
import { type LambdaHost, startLambdaHost } from './lambda-host/host.ts'
import { runSql } from './migrations.ts'
import { Parts, sideBySide } from './parts.ts'
import { type PgNet, startPgNet } from './pg-net.ts'
import { portOrFree } from './ports.ts'
import { type Database, type Postgres, startKeptPostgres, startPostgres } from './postgres.ts'
import type { FaceEngine } from './rekognition/engine.ts'
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
  /** Whether the bucket's events go to the queue PhotoEventsQueue, if the deployment has it; they do unless told otherwise. */
  photoEvents?: boolean
  /** Where the database and the photos are kept; they are gone after `close` unless given. */
  home?: Home
  /** Ports to take where they are free; free ones unless given. */
  ports?: Ports
  /** Where to make the database; a server of its own unless given. */
  postgres?: Pick<Postgres, 'createDatabase'>
  /** The functions, where they have been bundled already. */
  bundle?: Bundle
  /** Changes what serverless.yml says, such as a timeout. */
  change?: (deployment: Deployment) => void
  /** Takes each line that a function logs. */
  onLog?: (functionName: string, line: string) => void
}

export interface Ports {
  postgres: number
  gateway: number
  /** Of SQS and S3. */
  aws: number
  rekognition: number
  /** Of the nudge's function URL. */
  nudge: number
}

/** The deployed system and what it talks to, on this machine. */
export interface LocalSystem {
  database: Omit<Database, 'drop'>
  gateway: Gateway
  aws: Aws
  rekognition: RekognitionServer
  /** That of Rekognition. */
  engine: FaceEngine
  functions: LambdaHost
  /** Sends the nudges of the database to the scheduler. */
  pgNet: PgNet
  /** The URL of the function `nudge`. */
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
const PHOTO_EVENTS_QUEUE = 'PhotoEventsQueue'

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
    const [{ database, gateway }, { aws, rekognition, engine }, bundle] = await sideBySide(
      startSupabase(parts, options),
      startServices(parts, deployment, options),
      options.bundle ?? parts.start('bundling the functions', bundleFunctions(deployment, ROOT)),
    )
    const nudgeSecret = options.home?.secrets.nudgeSecret ?? randomBytes(16).toString('hex')
    let host: LambdaHost | undefined
    const lambda: LambdaApi = await parts.start(
      "Lambda's API",
      startLambdaApi((deployedName, event) => {
        const called = deployment.functions.find((known) => known.deployedName === deployedName)
        return called && host?.invoke(called.name, event)
      }),
    )
    const functions = parts.add(
      startLambdaHost({
        deployment,
        bundle,
        aws,
        environment: {
          SUPABASE_URL: gateway.url,
          SUPABASE_SERVICE_ROLE_KEY: gateway.secretKey,
          NUDGE_SECRET: nudgeSecret,
          AWS_ENDPOINT_URL: aws.endpoint, // for every service that has none of its own, so that no call leaves this machine
          AWS_ENDPOINT_URL_REKOGNITION: rekognition.endpoint,
          AWS_ENDPOINT_URL_LAMBDA: lambda.endpoint,
        },
        schedules: options.schedules ?? false,
        onLog: options.onLog ?? (() => {}),
      }),
    )
    host = functions
    const { pgNet, nudgeUrl } = await startNudges(parts, database, functions, {
      secret: nudgeSecret,
      port: options.ports?.nudge,
    })
    const environment = functions.environment('worker')
    const client = new RekognitionClient({
      endpoint: rekognition.endpoint,
      region: aws.region,
      credentials: aws.credentials,
    })
    parts.add({ close: async () => client.destroy() })
    const app = parts.add(
      new App({
        databaseUrl: database.url,
        s3: aws.s3,
        photoBucket: PHOTO_BUCKET,
        rekognition: client,
        collectionPrefix: environment.COLLECTION_PREFIX ?? '',
      }),
    )
    return {
      database,
      gateway,
      aws,
      rekognition,
      engine,
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

async function startSupabase(parts: Parts, options: LocalSystemOptions) {
  const { home, ports } = options
  const database = await startDatabase(parts, options)
  const keys = home && {
    secret: Buffer.from(home.secrets.jwtSecret, 'hex'),
    issuedAt: home.secrets.keysIssuedAt,
  }
  const gateway = await parts.start(
    'the REST gateway',
    startGateway(database, { ...(keys && { keys }), ...(ports && { port: ports.gateway }) }),
  )
  return { database, gateway }
}

async function startDatabase(
  parts: Parts,
  { postgres, home, ports }: LocalSystemOptions,
): Promise<Omit<Database, 'drop'>> {
  if (home)
    return (await parts.start('Postgres', startKeptPostgres({ home, port: ports?.postgres ?? 0 }))).database
  const server = postgres ?? (await parts.start('Postgres', startPostgres()))
  const database = await server.createDatabase()
  if (postgres) parts.add({ close: database.drop })
  return database
}

async function startNudges(
  parts: Parts,
  { url }: Pick<Database, 'url'>,
  functions: LambdaHost,
  { secret, port }: { secret: string; port: number | undefined },
): Promise<{ pgNet: PgNet; nudgeUrl: string }> {
  const nudge = await parts.start(
    'the URL of the nudge',
    startFunctionUrl((event) => functions.invoke('nudge', event), port),
  )
  const pgNet = await parts.start('pg_net', startPgNet({ url }))
  await runSql(url, `select indexing.configure_nudge('${nudge.url}', '${secret}')`)
  return { pgNet, nudgeUrl: nudge.url }
}

async function startServices(parts: Parts, deployment: Deployment, options: LocalSystemOptions) {
  const { engine, home, ports, photoEvents = true } = options
  const { region, queues, functions } = deployment
  const hasEvents = photoEvents && queues.some(({ logicalId }) => logicalId === PHOTO_EVENTS_QUEUE)
  const [aws, faces] = await sideBySide(
    parts.start(
      'SQS and S3',
      startAws({
        region,
        queues,
        buckets: [PHOTO_BUCKET],
        photoEvents: hasEvents ? { bucket: PHOTO_BUCKET, queue: PHOTO_EVENTS_QUEUE } : undefined,
        keep: home?.objects,
        port: ports?.aws,
      }),
    ),
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
      port: await portOrFree(ports?.rekognition),
      quota: { IndexFaces: Number(functions[0]?.environment.INDEX_FACES_TPS) },
    }),
  )
  return { aws, rekognition, engine: faces }
}
