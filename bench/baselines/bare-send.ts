import { randomUUID } from 'node:crypto'
import { SendMessageBatchCommand } from '@aws-sdk/client-sqs'
import { connectSqs } from '../../src/core/queue.ts'

interface Request {
  messages: number
  /** Requests under way at once. */
  lanes: number
}

const BATCH = 10
const sqs = connectSqs()
const event_id = randomUUID()

/** Sends so many messages like ours as fast as the server takes them, and does nothing else. */
export async function handler({ messages, lanes }: Request): Promise<void> {
  let left = messages
  const lane = async () => {
    while (left > 0) {
      const size = Math.min(BATCH, left)
      left -= size
      const Entries = Array.from({ length: size }, (_, index) => ({
        Id: String(index),
        MessageBody: JSON.stringify({ format: 1, event_id, user_id: randomUUID(), version: 1 }),
        MessageGroupId: event_id,
      }))
      const QueueUrl = process.env.WORK_QUEUE_URL
      const { Failed = [] } = await sqs.send(new SendMessageBatchCommand({ QueueUrl, Entries }))
      if (Failed.length > 0) throw new Error(`SQS did not take ${Failed.length} messages`)
    }
  }
  await Promise.all(Array.from({ length: lanes }, lane))
}
