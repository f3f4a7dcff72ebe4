import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { parse, type ScalarTag } from 'yaml'
import { z } from 'zod'
import { workerSize } from '../deployment/worker-size.js'
import { resolveVariables } from './serverless-variables.ts'

/** What serverless.yml says of the deployed system, as far as it runs locally. */
export interface Deployment {
  region: string
  functions: DeployedFunction[]
  queues: DeployedQueue[]
  /** How the functions are bundled: esbuild's options and those of serverless-esbuild. */
  bundling: Record<string, unknown>
}

export interface DeployedFunction {
  /** Its name in serverless.yml. */
  name: string
  /** Its name in AWS, with the service and stage. */
  deployedName: string
  /** Path of the module without its extension, and the name of its export. */
  module: string
  export: string
  timeoutSeconds: number
  memoryMB: number
  environment: Record<string, string | QueueUrl>
  /** Files of the project beside its bundle, by their paths. */
  files: string[]
  /** How often it is called, each with its input. */
  schedules: { everySeconds: number; input: unknown }[]
  eventSources: QueueEventSource[]
}

/** Stands for the URL of a queue, which is known when it has been made. */
export interface QueueUrl {
  urlOfQueue: string
}

/** A queue that a function takes its events from. */
export interface QueueEventSource {
  queueArn: string
  batchSize: number
  /** Seconds to wait for a batch to fill up. */
  batchingWindow: number
  maximumConcurrency: number
  reportsBatchItemFailures: boolean
}

export interface DeployedQueue {
  /** Its name in the template, as `!Ref` uses it. */
  logicalId: string
  name: string
  arn: string
  /** As CreateQueue of SQS takes them. */
  attributes: Record<string, string>
}

const ACCOUNT = '000000000000'
const STAGE = 'local'

/**
 * Reads serverless.yml.
 * @param params values for its `${param:…}` variables. Its `${env:…}` have none: what is set in this shell is meant for
 *   a deployment.
 * @throws {Error} naming the file and what in it cannot be understood
 */
export async function readDeployment(file: URL, params: Record<string, string> = {}): Promise<Deployment> {
  try {
    return interpret(await readFile(file, 'utf8'), params)
  } catch (error) {
    const problem = error instanceof z.ZodError ? z.prettifyError(error) : (error as Error).message
    throw new Error(`${fileURLToPath(file)}: ${problem}`, { cause: error })
  }
}

function interpret(text: string, params: Record<string, string>): Deployment {
  const self: unknown = parse(text, { customTags: REFERENCES, logLevel: 'error', merge: true })
  const { service, custom, provider, functions, resources } = template.parse(self)
  const resolve = (value: unknown): unknown =>
    resolveVariables(value, { self, stage: STAGE, param: params, plugins: { workerSize: sizeOfWorker } })
  const sizeOfWorker = (name: string) =>
    Object.entries(workerSize(Number(resolve(custom.indexFacesTps)))).find(([member]) => member === name)?.[1]
  /** Reads the members that a shape names; others may have variables that mean nothing without a deployment. */
  const read = <Shape extends z.ZodObject>(shape: Shape, value: Record<string, unknown>) => {
    const members = Object.entries(value).filter(([name]) => name in shape.shape)
    return shape.parse(dereference(resolve(Object.fromEntries(members)), known))
  }

  const arns = new Map<string, string>()
  const known: Known = { arns, pseudo: {} }
  const { region } = read(z.object({ region: z.string() }), provider)
  known.pseudo = { 'AWS::Partition': 'aws', 'AWS::Region': region, 'AWS::AccountId': ACCOUNT }
  const queues = Object.entries(resources.Resources).filter(([, { Type }]) => Type === 'AWS::SQS::Queue')
  for (const [logicalId, { Properties }] of queues) {
    const { QueueName } = read(z.object({ QueueName: z.string() }), Properties)
    arns.set(logicalId, `arn:aws:sqs:${region}:${ACCOUNT}:${QueueName}`)
  }
  const inherited = read(functionDefaults, provider)

  return {
    region,
    bundling: z.record(z.string(), z.unknown()).parse(resolve(custom.esbuild)),
    queues: queues.map(([logicalId, { Properties }]) => {
      const properties = Object.entries(Properties).filter(([name]) => !MEANINGLESS_HERE.includes(name))
      const { QueueName, ...attributes } = queueProperties.parse(
        dereference(resolve(Object.fromEntries(properties)), known),
      )
      return { logicalId, name: QueueName, arn: arns.get(logicalId) ?? '', attributes: asTexts(attributes) }
    }),
    functions: Object.entries(functions).map(([name, value]) => {
      const { handler, events, environment, ...own } = read(functionShape, value)
      return {
        name,
        deployedName: `${service}-${STAGE}-${name}`,
        module: handler.replace(/\.[^.]+$/, ''),
        export: handler.replace(/^.*\./, ''),
        timeoutSeconds: own.timeout ?? inherited.timeout,
        memoryMB: own.memorySize ?? inherited.memorySize,
        environment: { ...inherited.environment, ...environment },
        files: own.package?.patterns ?? [],
        schedules: events.flatMap(({ schedule }) => (schedule ? [schedule] : [])),
        eventSources: events.flatMap(({ sqs }) => (sqs ? [ofKnownQueue(sqs, arns)] : [])),
      }
    }),
  }
}

function ofKnownQueue(source: QueueEventSource, arns: Map<string, string>): QueueEventSource {
  if ([...arns.values()].includes(source.queueArn)) return source
  throw new Error(`${source.queueArn}, a function's event source, is no queue among the resources`)
}

const member = z.record(z.string(), z.unknown())
const template = z.object({
  service: z.string(),
  custom: member,
  provider: member,
  functions: z.record(z.string(), member),
  resources: z.object({
    Resources: z.record(z.string(), z.object({ Type: z.string(), Properties: member.default({}) })),
  }),
})

/** Properties of a queue that change nothing on this machine. */
const MEANINGLESS_HERE = ['Tags', 'SqsManagedSseEnabled', 'KmsMasterKeyId']

const queueProperties = z.looseObject({ QueueName: z.string() })

const environmentShape = z
  .record(
    z.string(),
    z.union([
      z.union([z.string(), z.number(), z.boolean()]).transform(String),
      z.object({ urlOfQueue: z.string() }),
    ]),
  )
  .default({})

// Defaults as the Serverless Framework and Lambda have them.
const functionDefaults = z.object({
  timeout: z.number().default(6),
  memorySize: z.number().default(1024),
  environment: environmentShape,
})

const scheduleEvent = z
  .object({ rate: z.string(), input: z.unknown() })
  .transform(({ rate, input }, context) => {
    const [, amount, unit = ''] = /^rate\((\d+) (minute|hour|day)s?\)$/.exec(rate) ?? []
    const seconds = { minute: 60, hour: 3600, day: 86_400 }[unit]
    if (seconds) return { everySeconds: Number(amount) * seconds, input: input ?? {} }
    context.addIssue(`${rate} is not understood here: rate(…) in minutes, hours or days is`)
    return z.NEVER
  })

const sqsEvent = z
  .object({
    arn: z.string(),
    batchSize: z.number().default(10),
    maximumBatchingWindow: z.number().default(0),
    maximumConcurrency: z.number().default(10),
    functionResponseType: z.literal('ReportBatchItemFailures').optional(),
  })
  .transform((event) => ({
    queueArn: event.arn,
    batchSize: event.batchSize,
    batchingWindow: event.maximumBatchingWindow,
    maximumConcurrency: event.maximumConcurrency,
    reportsBatchItemFailures: event.functionResponseType !== undefined,
  }))

const functionShape = z.object({
  handler: z.string().regex(/^.+\.\w+$/, 'is not a path and the name of an export'),
  timeout: z.number().optional(),
  memorySize: z.number().optional(),
  environment: environmentShape,
  package: z.object({ patterns: z.array(z.string()) }).optional(),
  events: z.array(z.object({ schedule: scheduleEvent.optional(), sqs: sqsEvent.optional() })).default([]),
})

const REFERENCES: ScalarTag[] = ['Ref', 'GetAtt', 'Sub'].map((name) => ({
  tag: `!${name}`,
  resolve: (text) => ({ [name]: text }),
}))

/** What references can refer to: ARNs of queues by their names in the template, and CloudFormation's pseudo parameters. */
interface Known {
  arns: Map<string, string>
  pseudo: Record<string, string>
}

/** Replaces `!GetAtt Queue.Arn` by the queue's ARN, fills in `!Sub`, and marks `!Ref Queue`, which is its URL. */
function dereference(value: unknown, known: Known): unknown {
  if (Array.isArray(value)) return value.map((item) => dereference(item, known))
  if (typeof value !== 'object' || value === null) return value
  if ('Ref' in value && typeof value.Ref === 'string') {
    if (!known.arns.has(value.Ref)) throw new Error(`!Ref ${value.Ref}: only a queue is known here`)
    return { urlOfQueue: value.Ref }
  }
  if ('GetAtt' in value && typeof value.GetAtt === 'string') {
    const arn = known.arns.get(value.GetAtt.replace(/\.Arn$/, ''))
    if (!arn) throw new Error(`!GetAtt ${value.GetAtt}: only the Arn of a queue is known here`)
    return arn
  }
  if ('Sub' in value && typeof value.Sub === 'string')
    return value.Sub.replace(/\$\{(.*?)\}/g, (_, name: string) => {
      const replacement = known.pseudo[name]
      if (replacement === undefined)
        throw new Error(`!Sub \${${name}}: only pseudo parameters are known here`)
      return replacement
    })
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, dereference(item, known)]))
}

/** CloudFormation's properties as the texts that SQS takes. */
const asTexts = (attributes: Record<string, unknown>) =>
  Object.fromEntries(
    Object.entries(attributes).map(([name, value]) => [
      name,
      typeof value === 'object' ? JSON.stringify(value) : String(value),
    ]),
  )
