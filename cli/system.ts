import { readFile } from 'node:fs/promises'
import type { SQSClient } from '@aws-sdk/client-sqs'
import * as z from 'zod'
import { EXIT, OperatorError } from './exit.ts'

export type Environment = Record<string, string | undefined>

/** The system that a command is for: a deployed stage, what the environment names, or the local one. */
export interface System {
  /** For people, such as `stage prod`. */
  name: string
  /** The deployed stage, if one is named. */
  stage: string | null
  /** The option that leads to it, for commands that are suggested; '' for those that need none. */
  option: string
  supabaseUrl: string
  /** What the AWS clients read: this process's own environment, or that of the local system. */
  environment: Environment
  /** The column of the app's profiles that holds names, if the operator wants to see them. */
  nameColumn: string | null
  serviceRoleKey: () => Promise<string>
  workQueueUrl: (sqs: SQSClient) => Promise<string>
  urgentQueueUrl: (sqs: SQSClient) => Promise<string>
}

/** Where `npm run dev` says how to reach it, as long as it runs. */
const RUNNING_FILE = new URL('../.local/running.json', import.meta.url)

const running = z.object({ pid: z.int(), environment: z.record(z.string(), z.string()) })

/**
 * Finds the system: the stage if one is named, else what SUPABASE_URL in the environment says, else the local system if it runs.
 * @throws {OperatorError} when there is none, or a setting that it needs is missing
 */
export async function findSystem(
  stage: string | undefined,
  environment: Environment,
  runningFile: URL = RUNNING_FILE,
): Promise<System> {
  if (stage !== undefined) return deployedStage(stage, environment)
  if (environment.SUPABASE_URL) return named('the environment', environment)
  const local = await localEnvironment(runningFile)
  if (local) return named('the local system', { ...environment, AWS_PROFILE: undefined, ...local })
  throw new OperatorError(
    EXIT.unreachable,
    `Which system? There are three ways to say it:
  --stage NAME    a deployed stage, with SUPABASE_URL and AWS credentials in the
                  environment
  SUPABASE_URL    in the environment, with SUPABASE_SERVICE_ROLE_KEY,
                  WORK_QUEUE_URL and URGENT_QUEUE_URL
  npm run dev     the local system, by itself while it runs; it does not run now`,
  )
}

function deployedStage(stage: string, environment: Environment): System {
  return {
    ...common(environment, `/event-indexer/${stage}/supabase-service-role-key`),
    name: `stage ${stage}`,
    stage,
    option: ` --stage ${stage}`,
    workQueueUrl: (sqs) => queueUrlOf(sqs, `event-indexer-${stage}-work`),
    urgentQueueUrl: (sqs) => queueUrlOf(sqs, `event-indexer-${stage}-urgent`),
  }
}

async function queueUrlOf(sqs: SQSClient, name: string): Promise<string> {
  const { GetQueueUrlCommand } = await import('@aws-sdk/client-sqs') // not every command needs it, and it is slow to load
  return (await sqs.send(new GetQueueUrlCommand({ QueueName: name }))).QueueUrl ?? name
}

function named(name: string, environment: Environment): System {
  return {
    ...common(environment),
    name,
    stage: null,
    option: '',
    workQueueUrl: async () => required('WORK_QUEUE_URL', environment),
    urgentQueueUrl: async () => required('URGENT_QUEUE_URL', environment),
  }
}

function common(environment: Environment, usualParameter?: string) {
  const supabaseUrl = required('SUPABASE_URL', environment)
  if (!/^https?:\/\/\S+$/.test(supabaseUrl) || !URL.canParse(supabaseUrl))
    throw new OperatorError(EXIT.notDone, 'SUPABASE_URL is not a URL such as https://abcdefgh.supabase.co')
  return {
    supabaseUrl,
    environment,
    nameColumn: environment.ATTENDEE_NAME_COLUMN || null,
    serviceRoleKey: async () => {
      const { SUPABASE_SERVICE_ROLE_KEY: key } = environment
      const parameter = environment.SUPABASE_SERVICE_ROLE_KEY_PARAMETER ?? usualParameter
      return (
        key || (parameter ? readParameter(parameter) : required('SUPABASE_SERVICE_ROLE_KEY', environment))
      )
    },
  }
}

/** Reads a parameter of SSM, decrypted. */
export async function readParameter(name: string): Promise<string> {
  const { GetParameterCommand, SSMClient } = await import('@aws-sdk/client-ssm') // rarely needed, and slow to load
  const get = new GetParameterCommand({ Name: name, WithDecryption: true })
  return (await new SSMClient().send(get)).Parameter?.Value?.trim() ?? ''
}

function required(variable: Variable, environment: Environment): string {
  const value = environment[variable]
  if (value) return value
  throw new OperatorError(EXIT.unreachable, `${variable} is not set: ${MEANINGS[variable]}.`)
}

const MEANINGS = {
  SUPABASE_URL: 'the URL of the Supabase project',
  SUPABASE_SERVICE_ROLE_KEY:
    'a secret key of the project (sb_secret_…), or its legacy service_role key; or SUPABASE_SERVICE_ROLE_KEY_PARAMETER, the SSM parameter that holds it',
  WORK_QUEUE_URL: 'the URL of the work queue; --stage NAME finds it by itself',
  URGENT_QUEUE_URL: 'the URL of the urgent queue; --stage NAME finds it by itself',
}

type Variable = keyof typeof MEANINGS

/** The environment of the local system, if it runs: its file may have outlived it. */
async function localEnvironment(runningFile: URL): Promise<Environment | undefined> {
  const text = await readFile(runningFile, 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  const { pid, environment } = running.parse(JSON.parse(text))
  return isAlive(pid) ? environment : undefined
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM' // there, and somebody else's
  }
}
