import {
  ChangeMessageVisibilityBatchCommand,
  SendMessageBatchCommand,
  type SendMessageBatchRequestEntry,
  SQSClient,
} from '@aws-sdk/client-sqs'
import { NodeHttpHandler } from '@smithy/node-http-handler'
import pMap from 'p-map'
import { type JobRef, writeMessage } from './message.ts'

const BATCH = 10 // of SendMessageBatch and ChangeMessageVisibilityBatch
const REQUESTS_AT_ONCE = 16

/** A message that is to be received again after so many seconds, 0 to 43,200. */
export interface Delay {
  receiptHandle: string
  seconds: number
}

export const connectSqs = () =>
  new SQSClient({
    // Requests to SQS are idempotent enough for us (a message may be sent twice) and have no quota that matters here.
    retryMode: 'standard',
    maxAttempts: 3,
    requestHandler: new NodeHttpHandler({
      connectionTimeout: 2_000,
      requestTimeout: 5_000,
      throwOnRequestTimeout: true,
    }),
  })

/** Sends one message for each job. Returns the jobs that SQS did not take, each with its error. */
export async function sendJobs(
  sqs: SQSClient,
  queueUrl: string,
  jobs: JobRef[],
): Promise<{ job: JobRef; error: string }[]> {
  const unsent = await pMap(batchesOf(jobs), (batch) => sendBatch(sqs, queueUrl, batch), {
    concurrency: REQUESTS_AT_ONCE,
  })
  return unsent.flat()
}

async function sendBatch(sqs: SQSClient, QueueUrl: string, jobs: JobRef[]) {
  const Entries = jobs.map(
    (job, index): SendMessageBatchRequestEntry => ({
      Id: String(index),
      MessageBody: writeMessage(job),
      MessageGroupId: job.event_id, // fair queues: the backlog of one event does not delay the others
    }),
  )
  try {
    const { Failed = [] } = await sqs.send(new SendMessageBatchCommand({ QueueUrl, Entries }))
    return Failed.flatMap(({ Id, Code, Message }) => {
      const job = jobs[Number(Id)]
      return job ? [{ job, error: `${Code}: ${Message ?? ''}` }] : []
    })
  } catch (error) {
    return jobs.map((job) => ({ job, error: String(error) }))
  }
}

/** Makes messages visible again after their delays. A message that SQS refuses waits for the queue's visibility timeout. */
export async function delayMessages(sqs: SQSClient, QueueUrl: string, delays: Delay[]): Promise<void> {
  await pMap(
    batchesOf(delays),
    (batch) =>
      sqs.send(
        new ChangeMessageVisibilityBatchCommand({
          QueueUrl,
          Entries: batch.map(({ receiptHandle, seconds }, index) => ({
            Id: String(index),
            ReceiptHandle: receiptHandle,
            VisibilityTimeout: Math.min(43_200, Math.max(0, Math.ceil(seconds))),
          })),
        }),
      ),
    { concurrency: 4 },
  )
}

function batchesOf<T>(items: T[]): T[][] {
  return Array.from({ length: Math.ceil(items.length / BATCH) }, (_, index) =>
    items.slice(index * BATCH, (index + 1) * BATCH),
  )
}
