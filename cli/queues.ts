import {
  ChangeMessageVisibilityCommand,
  DeleteMessageCommand,
  GetQueueAttributesCommand,
  ListMessageMoveTasksCommand,
  type Message,
  type QueueAttributeName,
  ReceiveMessageCommand,
  SendMessageCommand,
  type SQSClient,
  SQSServiceException,
  StartMessageMoveTaskCommand,
} from '@aws-sdk/client-sqs'
import { connectSqs } from '../src/core/queue.ts'
import { pause } from '../src/core/time.ts'
import { EXIT, OperatorError } from './exit.ts'
import type { System } from './system.ts'

export interface QueueCounts {
  /** To be received now. */
  waiting: number
  /** Received by somebody, and not yet deleted. */
  inFlight: number
}

/** How a move ended: how many messages were moved, and what went wrong, if anything did. */
export interface Moved {
  moved: number
  error: Error | null
}

/**
 * The URL of the queue to which this one's messages go that were received too often.
 * @throws {OperatorError} when it has none
 */
export async function deadLetterQueueOf(sqs: SQSClient, queueUrl: string): Promise<string> {
  const { RedrivePolicy = '{}' } = await attributesOf(sqs, queueUrl, ['RedrivePolicy'])
  const arn: unknown = JSON.parse(RedrivePolicy).deadLetterTargetArn
  if (typeof arn !== 'string')
    throw new OperatorError(EXIT.notDone, `${queueUrl} has no dead-letter queue: is it the work queue?`)
  // Of the same account and region, as SQS demands: its URL differs in the name alone.
  return queueUrl.replace(/[^/]+$/, arn.replace(/^.*:/, ''))
}

export async function attributesOf(
  sqs: SQSClient,
  queueUrl: string,
  names: QueueAttributeName[],
): Promise<Partial<Record<string, string>>> {
  const get = new GetQueueAttributesCommand({ QueueUrl: queueUrl, AttributeNames: names })
  return (await sqs.send(get)).Attributes ?? {}
}

/** How many messages a queue holds; approximate, as SQS says it. */
export async function countMessages(sqs: SQSClient, queueUrl: string): Promise<QueueCounts> {
  const attributes = await attributesOf(sqs, queueUrl, [
    'ApproximateNumberOfMessages',
    'ApproximateNumberOfMessagesNotVisible',
  ])
  return {
    waiting: Number(attributes.ApproximateNumberOfMessages ?? 0),
    inFlight: Number(attributes.ApproximateNumberOfMessagesNotVisible ?? 0),
  }
}

/** How many messages the dead-letter queue holds at this moment. */
export async function countDeadLetters(system: System): Promise<QueueCounts> {
  const sqs = connectSqs()
  return countMessages(sqs, await deadLetterQueueOf(sqs, await system.workQueueUrl(sqs)))
}

/** Moves the messages of the dead-letter queue back to the work queue. */
export async function redriveDeadLetters(system: System): Promise<Moved> {
  const sqs = connectSqs()
  const to = await system.workQueueUrl(sqs)
  return moveMessages(sqs, await deadLetterQueueOf(sqs, to), to)
}

/** Moves the messages of one queue to another, by SQS itself where it can; without that, one by one. */
export async function moveMessages(sqs: SQSClient, from: string, to: string): Promise<Moved> {
  const [source, destination] = await Promise.all([arnOf(sqs, from), arnOf(sqs, to)])
  try {
    return await moveBySqs(sqs, source, destination)
  } catch (error) {
    if (!isUnknownAction(error)) throw error
    return moveByHand(sqs, from, to)
  }
}

const arnOf = async (sqs: SQSClient, queueUrl: string): Promise<string> =>
  (await attributesOf(sqs, queueUrl, ['QueueArn'])).QueueArn ?? ''

/** What servers other than AWS's answer to an action that they do not have. */
const isUnknownAction = (error: unknown) =>
  error instanceof SQSServiceException &&
  /^(InvalidAction|UnknownOperation|UnknownOperationException|NotImplemented)$/.test(error.name)

/** Starts a task of SQS, unless one is under way, and waits for its end. */
async function moveBySqs(sqs: SQSClient, source: string, destination: string): Promise<Moved> {
  const latestTask = async () => {
    const list = new ListMessageMoveTasksCommand({ SourceArn: source, MaxResults: 1 })
    return (await sqs.send(list)).Results?.[0]
  }
  const earlier = await latestTask()
  const isUnderWay = earlier?.Status === 'RUNNING'
  if (!isUnderWay)
    await sqs.send(new StartMessageMoveTaskCommand({ SourceArn: source, DestinationArn: destination }))

  for (;;) {
    const task = await latestTask()
    const isOurs = isUnderWay || task?.StartedTimestamp !== earlier?.StartedTimestamp
    if (task && isOurs && task.Status !== 'RUNNING' && task.Status !== 'CANCELLING') {
      const { Status, ApproximateNumberOfMessagesMoved = 0, FailureReason = '' } = task
      const error = Status === 'COMPLETED' ? null : new Error(`SQS says ${Status}: ${FailureReason}`)
      return { moved: ApproximateNumberOfMessagesMoved, error }
    }
    await pause(1_000)
  }
}

const HOLD_SECONDS = 60 // for a send and a delete
const LANES = 10 // as many as a receive brings

/**
 * Receives, sends, and deletes what was sent: a message is at every moment in one of the queues at least. It stops at as many
 * as there were in the beginning, for some may fail again and come back meanwhile.
 */
async function moveByHand(sqs: SQSClient, from: string, to: string): Promise<Moved> {
  const { waiting } = await countMessages(sqs, from)
  let moved = 0
  while (moved < waiting) {
    const { Messages = [] } = await sqs.send(
      new ReceiveMessageCommand({
        QueueUrl: from,
        MaxNumberOfMessages: Math.min(LANES, waiting - moved),
        VisibilityTimeout: HOLD_SECONDS,
        WaitTimeSeconds: 2,
        MessageAttributeNames: ['All'],
        MessageSystemAttributeNames: ['MessageGroupId'],
      }),
    )
    if (Messages.length === 0) break
    const moves = await Promise.allSettled(Messages.map((message) => moveMessage(sqs, message, from, to)))
    moved += moves.filter(({ status }) => status === 'fulfilled').length
    const failed = moves.find((move) => move.status === 'rejected')
    if (failed) return { moved, error: failed.reason }
  }
  return { moved, error: null }
}

async function moveMessage(
  sqs: SQSClient,
  { Body, MessageAttributes, Attributes, ReceiptHandle }: Message,
  from: string,
  to: string,
): Promise<void> {
  try {
    await sqs.send(
      new SendMessageCommand({
        QueueUrl: to,
        MessageBody: Body,
        MessageAttributes,
        MessageGroupId: Attributes?.MessageGroupId,
      }),
    )
  } catch (error) {
    const release = { QueueUrl: from, ReceiptHandle, VisibilityTimeout: 0 }
    await sqs.send(new ChangeMessageVisibilityCommand(release)).catch(() => {}) // else after HOLD_SECONDS
    throw error
  }
  await sqs.send(new DeleteMessageCommand({ QueueUrl: from, ReceiptHandle }))
}
