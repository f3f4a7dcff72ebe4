import { setTimeout as sleep } from 'node:timers/promises'
import {
  DeleteMessageBatchCommand,
  type Message,
  ReceiveMessageCommand,
  type SQSClient,
} from '@aws-sdk/client-sqs'
import type { SQSBatchResponse, SQSEvent, SQSMessageAttributes, SQSRecord } from 'aws-lambda'
import type { QueueEventSource } from '../deployment.ts'
import type { LambdaFunction } from './lambda-function.ts'

export interface EventSourceMappingOptions {
  source: QueueEventSource
  queueUrl: string
  region: string
  sqs: SQSClient
  target: LambdaFunction
  /** Takes what goes wrong with a batch; its messages come again after the queue's visibility timeout. */
  onError: (error: unknown) => void
}

const RECEIVE_LIMIT = 10 // messages of one request to SQS
const LONGEST_WAIT = 20 // seconds of a long poll

/** Feeds a function from a queue: polls, batches, invokes, and deletes what was handled, as Lambda's own mapping does. */
export class EventSourceMapping {
  readonly #options: EventSourceMappingOptions
  readonly #closing = new AbortController()
  readonly #running: Promise<void>

  constructor(options: EventSourceMappingOptions) {
    this.#options = options
    this.#running = this.#run()
  }

  /** Stops polling and waits for the batches that are with the function. */
  async close(): Promise<void> {
    this.#closing.abort()
    await this.#running
  }

  async #run(): Promise<void> {
    const { source } = this.#options
    const underWay = new Set<Promise<void>>()
    while (!this.#closing.signal.aborted) {
      try {
        // No more is received than can be handed over: what waits here ages towards its visibility timeout.
        if (underWay.size >= source.maximumConcurrency) await Promise.race(underWay)
        const batch = await this.#gather()
        if (batch.length === 0) continue
        const delivery = this.#deliver(batch)
          .catch((error) => this.#report(error))
          .finally(() => underWay.delete(delivery))
        underWay.add(delivery)
      } catch (error) {
        this.#report(error)
        await sleep(1000, undefined, { signal: this.#closing.signal }).catch(() => {})
      }
    }
    await Promise.all(underWay)
  }

  #report(error: unknown): void {
    if (!this.#closing.signal.aborted) this.#options.onError(error)
  }

  /** Waits for messages; once there are some, waits for more until the batch is full or its window is over. */
  async #gather(): Promise<Message[]> {
    const { batchSize, batchingWindow } = this.#options.source
    const batch = await this.#receive(batchSize, LONGEST_WAIT)
    const end = performance.now() + batchingWindow * 1000
    while (batch.length > 0 && batch.length < batchSize) {
      const seconds = Math.round((end - performance.now()) / 1000) // SQS waits whole seconds only
      if (seconds < 1) break
      batch.push(...(await this.#receive(batchSize - batch.length, seconds)))
    }
    return batch
  }

  async #receive(limit: number, waitSeconds: number): Promise<Message[]> {
    const { sqs, queueUrl } = this.#options
    const { Messages = [] } = await sqs.send(
      new ReceiveMessageCommand({
        QueueUrl: queueUrl,
        MaxNumberOfMessages: Math.min(limit, RECEIVE_LIMIT),
        WaitTimeSeconds: waitSeconds,
        MessageSystemAttributeNames: ['All'],
        MessageAttributeNames: ['All'],
      }),
      { abortSignal: this.#closing.signal },
    )
    return Messages
  }

  async #deliver(batch: Message[]): Promise<void> {
    const { source, region, target } = this.#options
    const event: SQSEvent = { Records: batch.map((message) => recordOf(message, source.queueArn, region)) }
    const response = await target.invoke(event)
    const failed = source.reportsBatchItemFailures ? failedIds(response, batch) : new Set()
    await this.#delete(batch.filter(({ MessageId }) => !failed.has(MessageId)))
  }

  async #delete(messages: Message[]): Promise<void> {
    const { sqs, queueUrl } = this.#options
    for (let start = 0; start < messages.length; start += RECEIVE_LIMIT) {
      const Entries = messages
        .slice(start, start + RECEIVE_LIMIT)
        .map(({ ReceiptHandle }, index) => ({ Id: String(index), ReceiptHandle }))
      const { Failed = [] } = await sqs.send(new DeleteMessageBatchCommand({ QueueUrl: queueUrl, Entries }))
      for (const { Code, Message } of Failed)
        this.#report(new Error(`a message was not deleted: ${Code}: ${Message}`))
    }
  }
}

/**
 * The messages that a function reports as failed. Null, or no list, or an empty one: none.
 * @throws {Error} for a response that is not of the documented form; the whole batch has failed then
 */
function failedIds(response: unknown, batch: Message[]): Set<string | undefined> {
  const { batchItemFailures } = (response ?? {}) as Partial<SQSBatchResponse>
  const ids = new Set((batchItemFailures ?? []).map((failure) => failure.itemIdentifier))
  for (const id of ids) {
    if (batch.every(({ MessageId }) => MessageId !== id))
      throw new Error(
        `the function reported a failed message that is not in its batch: ${JSON.stringify(id)}`,
      )
  }
  return ids
}

function recordOf(message: Message, eventSourceARN: string, awsRegion: string): SQSRecord {
  const messageAttributes: SQSMessageAttributes = Object.fromEntries(
    Object.entries(message.MessageAttributes ?? {}).map(
      ([name, { DataType = 'String', StringValue, BinaryValue }]) => [
        name,
        {
          dataType: DataType,
          stringListValues: [],
          binaryListValues: [],
          ...(StringValue !== undefined && { stringValue: StringValue }),
          ...(BinaryValue && { binaryValue: Buffer.from(BinaryValue).toString('base64') }),
        },
      ],
    ),
  )
  return {
    messageId: message.MessageId ?? '',
    receiptHandle: message.ReceiptHandle ?? '',
    body: message.Body ?? '',
    attributes: { ...message.Attributes } as unknown as SQSRecord['attributes'],
    messageAttributes,
    md5OfBody: message.MD5OfBody ?? '',
    eventSource: 'aws:sqs',
    eventSourceARN,
    awsRegion,
  }
}
