import { CreateCollectionCommand } from '@aws-sdk/client-rekognition'
import {
  DeleteMessageBatchCommand,
  type Message,
  ReceiveMessageCommand,
  SendMessageBatchCommand,
  type SQSClient,
} from '@aws-sdk/client-sqs'
import { indexPhoto } from '../../src/core/collection.ts'
import type { SequentialParts } from './sequential.ts'

export interface NaiveParts extends SequentialParts {
  sqs: SQSClient
  /** A queue as SQS makes them: a message that was not deleted comes again after 30 s. */
  queueUrl: string
}

const WORKERS = 10
const BATCH = 10

/**
 * The usual fan-out: a message for each attendee, ten workers that take ten messages at a time and handle them side by side,
 * each with a query and a call, with the SDK's own retries; whatever fails comes again from the queue.
 * @param signal ends it, finished or not
 * @returns how many attendees were indexed
 */
export async function indexNaively(event: string, parts: NaiveParts, signal: AbortSignal): Promise<number> {
  const { lookup, rekognition, sqs, queueUrl } = parts
  await rekognition.send(new CreateCollectionCommand({ CollectionId: event }))
  const attendees = await lookup.attendees(event)
  const sending = send(attendees, sqs, queueUrl)

  const indexed = new Set<string>()
  const worker = async () => {
    while (indexed.size < attendees.length && !signal.aborted) {
      const receive = new ReceiveMessageCommand({
        QueueUrl: queueUrl,
        MaxNumberOfMessages: BATCH,
        WaitTimeSeconds: 1,
      })
      const { Messages = [] } = await sqs.send(receive)
      const outcomes = await Promise.allSettled(
        Messages.map(async ({ Body: user = '' }) => {
          await indexOne(event, user, parts)
          indexed.add(user)
        }),
      )
      const done = Messages.filter((_, index) => outcomes[index]?.status === 'fulfilled')
      if (done.length > 0) await remove(done, sqs, queueUrl)
    }
  }
  await Promise.all([sending, ...Array.from({ length: WORKERS }, worker)])
  return indexed.size
}

async function indexOne(event: string, user: string, { lookup, rekognition, bucket }: NaiveParts) {
  const key = await lookup.photo(user)
  await indexPhoto(rekognition, event, user, { bucket, key }, 'largest')
}

async function send(users: string[], sqs: SQSClient, queueUrl: string): Promise<void> {
  for (let start = 0; start < users.length; start += BATCH) {
    const Entries = users
      .slice(start, start + BATCH)
      .map((user, index) => ({ Id: String(index), MessageBody: user }))
    await sqs.send(new SendMessageBatchCommand({ QueueUrl: queueUrl, Entries }))
  }
}

async function remove(messages: Message[], sqs: SQSClient, queueUrl: string): Promise<void> {
  const Entries = messages.map(({ ReceiptHandle }, index) => ({ Id: String(index), ReceiptHandle }))
  await sqs.send(new DeleteMessageBatchCommand({ QueueUrl: queueUrl, Entries }))
}
