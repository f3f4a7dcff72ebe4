import type { RekognitionClient } from '@aws-sdk/client-rekognition'
import { connectRekognition } from '../../src/core/collection.ts'
import {
  connectDatabase,
  type Database,
  requireSchemaVersion,
  SchemaVersionError,
} from '../../src/core/database.ts'
import { connectPhotoStore } from '../../src/core/photo-store.ts'
import { connectSqs } from '../../src/core/queue.ts'
import { readSettings, type Settings, SettingsError } from '../../src/core/settings.ts'
import { type Environment, readParameter, type System } from '../system.ts'
import { type Check, isDenied, look, lookIfAllowed, ok, problem, unknown, wordsFor } from './check.ts'
import {
  askDatabase,
  checkClocks,
  checkKey,
  checkLastRun,
  checkNudge,
  checkRights,
  checkSchema,
  checkTables,
  checkTriggers,
  type Diagnosis,
} from './database.ts'
import { askBucket, type BucketAnswer, checkBucket, checkQueues, checkRekognition } from './resources.ts'
import { DeployedStage, type Functions } from './stage.ts'

/** Looks at all that the system needs, one thing after another, and says what is wrong and what to do. Changes nothing. */
export const examine = (system: System): AsyncGenerator<Check> => new Examination(system).run()

/** What the functions run with, as far as it is known: as they are deployed, or by the environment and the ledger. */
type Known = { settings: Settings | undefined; check: Check; functions: Functions | undefined }

class Examination {
  readonly #system: System
  readonly #stage: DeployedStage | undefined
  readonly #rekognition: RekognitionClient = connectRekognition()
  readonly #sqs = connectSqs()

  constructor(system: System) {
    this.#system = system
    this.#stage = system.stage === null ? undefined : new DeployedStage(system.stage)
  }

  async *run(): AsyncGenerator<Check> {
    const { database, checks } = await this.#connect()
    yield* checks
    const ledger = await database?.deployment({}).catch(() => undefined)
    const region = this.#system.environment.AWS_REGION ?? (await this.#region())
    const known = await this.#known(region, ledger)
    yield known.check
    const { settings, functions } = known

    const secret = database && (await this.#nudgeSecret(functions))
    const asked = database && (await this.#diagnose(database, secret))
    let bucket: BucketAnswer | undefined
    if (settings)
      yield* await this.#look('bucket', async () => {
        bucket = await askBucket(settings.photoBucket, region, this.#rekognition)
        const photos = connectPhotoStore(settings.photoBucket, region, this.#rekognition)
        return checkBucket(bucket, photos, region)
      })
    if (asked && 'answer' in asked)
      yield* this.#ofDatabase(asked, ledger?.photo_bucket ?? null, settings, bucket)
    else if (asked) yield asked
    if (asked && 'answer' in asked) yield* await this.#nudge(asked)

    yield* await this.#look('queues', async () => {
      const work = settings?.workQueueUrl ?? (await this.#system.workQueueUrl(this.#sqs))
      const urgent = settings?.urgentQueueUrl ?? (await this.#system.urgentQueueUrl(this.#sqs))
      return checkQueues(
        this.#sqs,
        { work, urgent },
        { maxReceives: settings?.maxReceives, workerTimeout: functions?.worker?.Timeout },
      )
    })
    if (settings) yield* await this.#look('rekognition', () => checkRekognition(this.#rekognition, settings))
    if (this.#stage) yield* this.#ofStage(this.#stage, settings, functions)
  }

  #look = (check: string, examine: () => Promise<Check | Check[]>) => look(check, this.#system, examine)

  async #region(): Promise<string> {
    return this.#rekognition.config.region().catch(() => '')
  }

  async #connect(): Promise<{ database: Database | undefined; checks: Check[] }> {
    let database: Database | undefined
    const checks = await this.#look('connection', async () => {
      const key = await this.#system.serviceRoleKey()
      const connected = connectDatabase(this.#system.supabaseUrl, async () => key)
      const version = await connected.schema_version({})
      try {
        requireSchemaVersion(version)
        database = connected
        return [checkKey(key), checkSchema(null)]
      } catch (error) {
        if (!(error instanceof SchemaVersionError)) throw error
        return [checkKey(key), checkSchema(error)]
      }
    })
    return { database, checks }
  }

  async #known(
    region: string,
    ledger: { collection_prefix: string | null; photo_bucket: string | null } | undefined,
  ): Promise<Known> {
    const { environment, stage } = this.#system
    if (!this.#stage) {
      if (!environment.S3_BUCKET_NAME && !ledger?.photo_bucket)
        return {
          settings: undefined,
          functions: undefined,
          check: unknown(
            'settings',
            'Which bucket and collections are meant is in the ledger, once the scheduler has run.',
            'First what is said about the database; or set S3_BUCKET_NAME and COLLECTION_PREFIX.',
          ),
        }
      const of: Environment = {
        ...(ledger?.photo_bucket && { S3_BUCKET_NAME: ledger.photo_bucket }),
        ...(ledger?.collection_prefix !== null && { COLLECTION_PREFIX: ledger?.collection_prefix }),
        ...environment,
        AWS_REGION: region || undefined,
      }
      return { ...readAll(of, 'the environment and the ledger'), functions: undefined }
    }
    try {
      const functions = await this.#stage.functions()
      const variables = functions.worker?.Environment?.Variables
      if (!variables)
        return {
          settings: undefined,
          functions,
          check: problem(
            'settings',
            'The worker is not deployed in this region and account.',
            `npx serverless deploy --stage ${stage}`,
          ),
        }
      if (sameUrl(variables.SUPABASE_URL, this.#system.supabaseUrl))
        return { ...readAll({ ...variables, AWS_REGION: region }, 'the deployed functions'), functions }
      return {
        ...readAll({ ...variables, AWS_REGION: region }, ''),
        functions,
        check: problem(
          'settings',
          `SUPABASE_URL is ${this.#system.supabaseUrl} here, and ${variables.SUPABASE_URL} in the deployed functions.`,
          'Set the one of this stage in your shell; or deploy with it.',
        ),
      }
    } catch (error) {
      const check = isDenied(error)
        ? unknown(
            'settings',
            'AWS does not let you read the settings of the functions.',
            'Your role or user needs lambda:GetFunctionConfiguration.',
          )
        : problem('settings', wordsFor(error, this.#system))
      return { settings: undefined, functions: undefined, check }
    }
  }

  /** The secret that the nudge's function has; undefined where you may not read it. */
  async #nudgeSecret(functions: Functions | undefined): Promise<string | undefined> {
    const parameter = functions?.nudge?.Environment?.Variables?.NUDGE_SECRET_PARAMETER
    if (!parameter) return this.#system.environment.NUDGE_SECRET
    return readParameter(parameter).catch(() => undefined)
  }

  async #diagnose(database: Database, secret: string | undefined): Promise<Diagnosis | Check> {
    try {
      return await askDatabase(database, secret)
    } catch (error) {
      return problem('database', wordsFor(error, this.#system))
    }
  }

  *#ofDatabase(
    { answer, ahead }: Diagnosis,
    bucketOfRun: string | null,
    settings: Settings | undefined,
    bucket: BucketAnswer | undefined,
  ): Generator<Check> {
    yield checkClocks(ahead, bucket?.ahead)
    yield checkTables(answer)
    yield checkTriggers(answer)
    yield checkRights(answer)
    yield checkLastRun(answer, bucketOfRun, settings?.indexFacesTps)
  }

  #nudge({ answer }: Diagnosis): Promise<Check[]> {
    return this.#look('nudge', async () =>
      checkNudge(answer, {
        deployedUrl: await this.#stage?.nudgeUrl().catch(() => undefined),
        ask: askUrl,
      }),
    )
  }

  async *#ofStage(
    stage: DeployedStage,
    settings: Settings | undefined,
    functions: Functions | undefined,
  ): AsyncGenerator<Check> {
    const of = (check: string, right: string, examine: () => Promise<Check>) =>
      lookIfAllowed(check, right, this.#system, examine)
    if (functions) {
      yield* await of('functions', 'lambda:ListEventSourceMappings', () => stage.checkFunctions(functions))
      if (functions.scheduler)
        yield* await of('schedule', 'events:ListRuleNamesByTarget and events:DescribeRule', () =>
          stage.checkSchedule(functions),
        )
    }
    if (settings && functions?.photos)
      yield* await of(
        'photo events',
        's3:GetBucketNotification, events:ListRuleNamesByTarget and events:DescribeRule',
        () =>
          stage.checkPhotoEvents(settings.photoBucket, photoEventsQueue(functions.photos?.FunctionArn ?? '')),
      )
    if (settings)
      yield* await of('quota', 'servicequotas:ListServiceQuotas', () =>
        stage.checkQuota(settings.indexFacesTps),
      )
    yield* await of('alarms', 'cloudwatch:DescribeAlarms', () => stage.checkAlarms())
  }
}

const NUDGE_MS = 10_000

/** What a nudge without a secret is answered, by the status of HTTP. */
const askUrl = (url: string): Promise<number | Error> =>
  fetch(url, { method: 'POST', body: '{}', signal: AbortSignal.timeout(NUDGE_MS) }).then(
    ({ status }) => status,
    (error: Error) => (error.cause instanceof Error ? error.cause : error),
  )

const sameUrl = (one: string | undefined, other: string): boolean =>
  one !== undefined && URL.canParse(one) && new URL(one).href === new URL(other).href

/** The queue of photo events has the account and region of the function that receives from it. */
const photoEventsQueue = (functionArn: string): string =>
  functionArn
    .replace(':lambda:', ':sqs:')
    .replace(':function:', ':')
    .replace(/-photos$/, '-photo-events')

/** Reads settings as the functions do. */
function readAll(environment: Environment, of: string): { settings: Settings | undefined; check: Check } {
  try {
    return {
      settings: readSettings(environment),
      check: ok('settings', `The settings of ${of} are complete.`),
    }
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error
    const found = error.message.replace('event-indexer cannot start: ', '')
    return {
      settings: undefined,
      check: problem('settings', `${found}.`, 'Set these as docs/settings.md says.'),
    }
  }
}
