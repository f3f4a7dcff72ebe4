import { SendMessageBatchCommand, SQSClient } from '@aws-sdk/client-sqs'

const sqs = new SQSClient()

/** A function that needs nothing but SQS. */
export const handler = () =>
  sqs.send(
    new SendMessageBatchCommand({
      QueueUrl: process.env.WORK_QUEUE_URL,
      Entries: [{ Id: '0', MessageBody: '{}' }],
    }),
  )
