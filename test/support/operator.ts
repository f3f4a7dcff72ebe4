import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import {
  DeleteMessageCommand,
  GetQueueAttributesCommand,
  type Message,
  type MessageAttributeValue,
  ReceiveMessageCommand,
  SendMessageCommand,
} from '@aws-sdk/client-sqs'
import { onTestFinished, vi } from 'vitest'
import type { ExitCode } from '../../cli/exit.ts'
import { type Session, sessionOf } from '../../cli/session.ts'
import { type Environment, findSystem } from '../../cli/system.ts'
import type { Terminal } from '../../cli/terminal.ts'
import { startAws } from '../../local/aws.ts'
import { startGateway } from '../../local/gateway/server.ts'
import type { Result } from '../../src/core/contract.ts'
import { type JobRef, readMessage } from '../../src/core/message.ts'
import { openLedger } from './ledger.ts'

/** As many as a worker takes at once: thousands would take a busy machine as long as a statement may last. */
const BATCH = 500
const REGION = 'eu-central-1'
const STAGE = 'test'
const CLI = fileURLToPath(new URL('../../cli/event-indexer.js', import.meta.url))

/** What a command printed and how it ended. */
export interface Ended {
  code: number | null
  out: string
  error: string
}

/**
 * A system for an operator, for the length of a test: a fresh ledger behind the REST gateway, and SQS with both queues, named
 * as those of stage `test`. Workers are the test's.
 */
export async function openOperated() {
  const ledger = await openLedger()
  const gateway = await startGateway(ledger.database)
  onTestFinished(gateway.close)
  const queue = (kind: string, attributes = {}) => {
    const name = `event-indexer-${STAGE}-${kind}`
    return { logicalId: kind, name, arn: `arn:aws:sqs:${REGION}:000000000000:${name}`, attributes }
  }
  const deadLetters = queue('dead-letters')
  const redrive = { deadLetterTargetArn: deadLetters.arn, maxReceiveCount: '5' }
  const work = queue('work', { RedrivePolicy: JSON.stringify(redrive) })
  const urgent = queue('urgent', { RedrivePolicy: JSON.stringify(redrive) })
  const aws = await startAws({ region: REGION, queues: [deadLetters, work, urgent], buckets: [] })
  onTestFinished(aws.close)
  const workQueueUrl = aws.queueUrls.get('work') ?? ''
  const deadLetterQueueUrl = aws.queueUrls.get('dead-letters') ?? ''

  /** As `npm run dev` has it in .local/running.json. */
  const environment = {
    SUPABASE_URL: gateway.url,
    SUPABASE_SERVICE_ROLE_KEY: gateway.serviceRoleKey,
    WORK_QUEUE_URL: workQueueUrl,
    URGENT_QUEUE_URL: aws.queueUrls.get('urgent') ?? '',
    AWS_REGION: REGION,
    AWS_ACCESS_KEY_ID: aws.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: aws.credentials.secretAccessKey,
    AWS_ENDPOINT_URL_SQS: aws.endpoint,
  }

  /** Messages of a queue, which stay hidden for half a minute. */
  async function receive(queueUrl: string, waitSeconds = 0): Promise<Message[]> {
    const { Messages = [] } = await aws.sqs.send(
      new ReceiveMessageCommand({
        QueueUrl: queueUrl,
        MaxNumberOfMessages: 10,
        WaitTimeSeconds: waitSeconds,
        VisibilityTimeout: 30,
        MessageAttributeNames: ['All'],
      }),
    )
    return Messages
  }

  /** Works on messages until nothing of them is left: a result that has them come again makes dead letters of them. */
  async function exhaust(messages: JobRef[], said: Partial<Result> = {}): Promise<void> {
    for (let start = 0; start < messages.length; start += BATCH) {
      const batch = messages.slice(start, start + BATCH)
      await ledger.work(batch, said)
      if (said.outcome === 'retry') await ledger.failDeadLetters(batch)
    }
  }

  return {
    ...ledger,
    gateway,
    sqs: aws.sqs,
    /** Of SQS. */
    endpoint: aws.endpoint,
    workQueueUrl,
    deadLetterQueueUrl,
    environment,
    receive,

    send: (queueUrl: string, body: string, attributes: Record<string, MessageAttributeValue> = {}) =>
      aws.sqs.send(
        new SendMessageCommand({ QueueUrl: queueUrl, MessageBody: body, MessageAttributes: attributes }),
      ),

    /** How many messages a queue holds, those that somebody has received included. */
    async depth(queueUrl: string): Promise<number> {
      const { Attributes = {} } = await aws.sqs.send(
        new GetQueueAttributesCommand({ QueueUrl: queueUrl, AttributeNames: ['All'] }),
      )
      const { ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible } = Attributes
      return Number(ApproximateNumberOfMessages) + Number(ApproximateNumberOfMessagesNotVisible)
    },

    /** Claims what is due and has every attendee of it end as a worker says that reports this each time. */
    async indexAll(said: Partial<Result> = {}): Promise<void> {
      await ledger.prepare()
      await exhaust(await ledger.sendAll(), said)
    },
    exhaust,

    /** Has a worker report the same result for every job from the work queue, until the test ends. */
    startWorker(said: Partial<Result> = {}): void {
      let stopped = false
      const worker = async () => {
        while (!stopped) {
          const messages = await receive(workQueueUrl, 1)
          if (messages.length === 0) continue
          const ours = messages.filter(({ Body = '' }) => Body.startsWith('{"format":1,'))
          await exhaust(
            ours.map(({ Body = '' }) => readMessage(Body)),
            said,
          )
          for (const { ReceiptHandle } of ours)
            await aws.sqs.send(new DeleteMessageCommand({ QueueUrl: workQueueUrl, ReceiptHandle }))
        }
      }
      const running = worker()
      onTestFinished(async () => {
        stopped = true
        await running
      })
    },

    /** Runs a command here, with this environment; what it throws is left as it is. */
    run: <Options>(
      command: (session: Session, options: Options) => Promise<ExitCode>,
      options: Options,
      added: Environment = {},
    ) => runCommand(command, options, { ...environment, ...added }),

    /** Starts the command line as an operator does, in this environment. */
    start: (args: string[], added: Environment = {}) => startCli(args, { ...environment, ...added }),
  }
}

/** Runs a command here, for the named stage or with what the environment names; what it throws is left as it is. */
export async function runCommand<Options>(
  command: (session: Session, options: Options) => Promise<ExitCode>,
  options: Options,
  { stage, ...environment }: Environment,
): Promise<Pick<Ended, 'code' | 'out'>> {
  const system = await findSystem(stage, environment)
  for (const [name, value] of Object.entries(system.environment)) vi.stubEnv(name, value)
  onTestFinished(() => void vi.unstubAllEnvs())
  let out = ''
  const code = await command(
    sessionOf(
      system,
      paper((text) => (out += text)),
    ),
    options,
  )
  return { code, out }
}

/** A terminal that is none: a file or a pipe. */
export const paper = (write: (text: string) => void): Terminal => ({
  columns: 100,
  rows: Number.POSITIVE_INFINITY,
  live: false,
  paint: (_, text) => text,
  write,
})

/** Starts the command line as a process of its own, which knows no environment but this one. */
export function startCli(args: string[], environment: Environment) {
  const child = spawn(process.execPath, [CLI, ...args], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, TZ: 'UTC', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended: Ended = { code: null, out: '', error: '' }
  child.stdout.setEncoding('utf8').on('data', (text) => {
    ended.out += text
  })
  child.stderr.setEncoding('utf8').on('data', (text) => {
    ended.error += text
  })
  const closed = once(child, 'close').then(([code]) => ({ ...ended, code }))
  return {
    /** As it is typed. */
    pressCtrlC: () => child.kill('SIGINT'),
    /** What it has printed so far. */
    output: () => ended.out,
    ended: closed as Promise<Ended>,
  }
}
