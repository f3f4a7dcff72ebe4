import {
  ChangeMessageVisibilityBatchCommand,
  SendMessageBatchCommand,
  type SendMessageBatchRequestEntry,
  SQSClient,
} from '@aws-sdk/client-sqs'
import { NodeHttpHandler } from '@smithy/node-http-handler'
import { type JobRef, writeMessage } from './message.ts'

const BATCH = 10 // of SendMessageBatch and ChangeMessageVisibilityBatch

/** A failed message and the seconds, 0 to 43,200, after which it may be received again. */
export interface Backoff {
  receiptHandle: string
  seconds: number
}

export const connectSqs = () =>
  new SQSClient({
    // Requests to SQS are idempotent enough for us (a message may be sent twice) and have no quota worth minding.
    retryMode: 'standard',
    maxAttempts: 3,
    requestHandler: new NodeHttpHandler({
      connectionTimeout: 2_000,
      requestTimeout: 5_000,
      throwOnRequestTimeout: true,
    }),
  })

/**
 * Sends one message for each job, in requests of ten, `lanes` of them under way.
 * Returns the jobs that SQS did not take; each with the reason.
 */
export async function sendJobs(
  sqs: SQSClient,
  queueUrl: string,
  jobs: JobRef[],
  lanes: number,
): Promise<{ job: JobRef; error: string }[]> {
  const unsent: { job: JobRef; error: string }[] = []
  await inBatches(jobs, lanes, async (batch) => {
    const Entries = batch.map(
      (job, index): SendMessageBatchRequestEntry => ({
        Id: String(index),
        MessageBody: writeMessage(job),
        // Fair queues: one event's backlog does not delay the others.
        MessageGroupId: job.event_id,
      }),
    )
    try {
      const { Failed = [] } = await sqs.send(new SendMessageBatchCommand({ QueueUrl: queueUrl, Entries }))
      for (const { Id, Code, Message } of Failed) {
        const job = batch[Number(Id)]
        if (job) unsent.push({ job, error: `${Code}: ${Message ?? ''}` })
      }
    } catch (error) {
      unsent.push(...batch.map((job) => ({ job, error: String(error) })))
    }
  })
  return unsent
}

/** Makes failed messages visible again after their backoff. What SQS refuses waits for the queue's visibility timeout. */
export async function backOff(sqs: SQSClient, queueUrl: string, backoffs: Backoff[]): Promise<void> {
  await inBatches(backoffs, 4, async (batch) => {
    await sqs.send(
      new ChangeMessageVisibilityBatchCommand({
        QueueUrl: queueUrl,
        Entries: batch.map(({ receiptHandle, seconds }, index) => ({
          Id: String(index),
          ReceiptHandle: receiptHandle,
          VisibilityTimeout: Math.round(seconds),
        })),
      }),
    )
  })
}

async function inBatches<T>(items: T[], lanes: number, act: (batch: T[]) => Promise<void>): Promise<void> {
  let start = 0
  const lane = async () => {
    while (start < items.length) {
      const batch = items.slice(start, start + BATCH)
      start += BATCH
      await act(batch)
    }
  }
  await Promise.all(Array.from({ length: lanes }, lane))
}
