import {
  ChangeMessageVisibilityCommand,
  DeleteMessageCommand,
  type Message,
  ReceiveMessageCommand,
} from '@aws-sdk/client-sqs'
import type { SQSRecord } from 'aws-lambda'
import { finalize } from '../../src/finalizer/finalizer.ts'
import { returnAll, work } from '../../src/worker/worker.ts'
import { Invocation, type Surroundings } from './invocation.ts'
import type { Random } from './random.ts'

const VISIBILITY_MS = 360_000 // as in serverless.yml
const DEAD_LETTER_VISIBILITY_MS = 90_000
const WORKERS = 8
const LARGEST_BATCH = 10
const WORKER_SECONDS = 60
const FINALIZER_SECONDS = 15

/**
 * Brings messages from the queues to workers and finalizers as an event source mapping does, only worse: in batches of any
 * size and order, late, and some of them twice. The queues are real; the visibility of what was received is kept here.
 */
export class Mail {
  readonly #around: Surroundings
  readonly #random: Random
  readonly #unruly: boolean
  readonly #visibleAt = new Map<string, number>() // by receipt handle
  readonly #origins = new WeakMap<Message, 'work' | 'urgent'>()
  #ready: Message[] = []
  #running = 0
  #batches = 0
  #polled = 0
  #polling = false
  #dispatching = false
  /** Messages that were received and have not been deleted, here or by whoever has them. */
  #held = 0

  /** @param unruly whether messages come twice, late, and in batches of any size while there is trouble */
  constructor(around: Surroundings, random: Random, unruly: boolean) {
    this.#around = around
    this.#random = random
    this.#unruly = unruly
  }

  get #isUnruly(): boolean {
    return this.#unruly && !this.#around.trouble.over
  }

  #originOf(message: Message): 'work' | 'urgent' {
    return this.#origins.get(message) ?? 'work'
  }

  get idle(): boolean {
    return this.#held === 0 && !this.#polling
  }

  setVisibility(receiptHandle: string, seconds: number): void {
    this.#visibleAt.set(receiptHandle, this.#around.clock.now() + seconds * 1000)
  }

  /** Has a look into the queues soon. */
  wake(): void {
    if (this.#polling) return
    this.#polling = true
    const wait = this.#random.of('poll', ++this.#polled).between(100, 1500)
    this.#around.clock.sleep(wait).then(() => {
      this.#polling = false
      return this.#around.clock.during(() => this.#poll())
    })
  }

  async #poll(): Promise<void> {
    for (const queue of ['urgent', 'work'] as const)
      for (const message of await this.#receive(this.#around.stage.queueUrls[queue])) {
        this.#origins.set(message, queue)
        this.#held++
        this.#deliver(message)
      }
    const letters = await this.#receive(this.#around.stage.queueUrls.deadLetters)
    for (let start = 0; start < letters.length; start += 10) {
      const batch = letters.slice(start, start + 10)
      this.#held += batch.length
      this.#finalize(batch)
    }
  }

  async #receive(QueueUrl: string): Promise<Message[]> {
    const received: Message[] = []
    for (;;) {
      const { Messages = [] } = await this.#around.stage.sqs.send(
        new ReceiveMessageCommand({
          QueueUrl,
          MaxNumberOfMessages: 10,
          MessageSystemAttributeNames: ['All'],
        }),
      )
      if (Messages.length === 0) return received
      received.push(...Messages)
    }
  }

  async #deliver(message: Message): Promise<void> {
    const { clock } = this.#around
    this.#visibleAt.set(message.ReceiptHandle ?? '', clock.now() + VISIBILITY_MS)
    const random = this.#random.of(
      'message',
      message.Body ?? '',
      message.Attributes?.ApproximateReceiveCount ?? '',
    )
    if (this.#isUnruly) {
      if (random.chance(0.08)) {
        this.#held++
        this.#deliverAfter(random.between(0, 45_000), message)
      }
      if (random.chance(0.1)) return this.#deliverAfter(random.between(1_000, 90_000), message)
    }
    return this.#deliverAfter(random.between(0, 1_000), message)
  }

  async #deliverAfter(ms: number, message: Message): Promise<void> {
    await this.#around.clock.sleep(ms)
    this.#ready.push(message)
    this.#dispatchSoon()
  }

  #dispatchSoon(): void {
    if (this.#dispatching) return
    this.#dispatching = true
    this.#around.clock.sleep(300).then(() => {
      this.#dispatching = false
      this.#dispatch()
    })
  }

  #dispatch(): void {
    const sorted = this.#ready.sort((one, other) => String(one.Body).localeCompare(String(other.Body)))
    this.#ready = this.#random.of('order', this.#batches).shuffle(sorted)
    while (this.#ready.length > 0 && this.#running < WORKERS) {
      const number = ++this.#batches
      const size = this.#unruly ? this.#random.of('size', number).pick([1, 2, 3, 5, 10]) : LARGEST_BATCH
      this.#work(number, this.#ready.splice(0, size))
    }
  }

  async #work(number: number, messages: Message[]): Promise<void> {
    const invocation = new Invocation(`worker ${number}`, this.#around, WORKER_SECONDS)
    this.#running++
    const outcomes = await invocation
      .run(async (parts) => {
        const records = messages.map((message) => asRecord(message, this.#originOf(message)))
        try {
          await invocation.readSecret()
        } catch (error) {
          return returnAll(records, error, parts) // as the handler does
        }
        return work(records, parts, invocation.remaining)
      })
      .catch(() => [])
    this.#running--
    this.#dispatchSoon()
    for (const [index, message] of messages.entries()) {
      const forgotten = this.#isUnruly && this.#random.of('delete', number, index).chance(0.02)
      if (outcomes[index]?.status === 'fulfilled' && !forgotten)
        this.#delete(this.#originOf(message), message)
      else this.#comeAgain(this.#originOf(message), message)
    }
  }

  async #finalize(messages: Message[]): Promise<void> {
    const { clock } = this.#around
    for (const { ReceiptHandle = '' } of messages)
      this.#visibleAt.set(ReceiptHandle, clock.now() + DEAD_LETTER_VISIBILITY_MS)
    const invocation = new Invocation(`finalizer ${++this.#batches}`, this.#around, FINALIZER_SECONDS)
    const done = await invocation
      .run(async (parts) => {
        await invocation.readSecret()
        return finalize(
          messages.map((message) => asRecord(message, 'dead-letters')),
          parts,
        )
      })
      .then(
        () => true,
        () => false,
      )
    for (const message of messages) {
      if (done) this.#delete('deadLetters', message)
      else this.#comeAgain('deadLetters', message)
    }
  }

  async #delete(queue: 'work' | 'urgent' | 'deadLetters', { ReceiptHandle }: Message): Promise<void> {
    const { clock, stage } = this.#around
    const QueueUrl = stage.queueUrls[queue]
    await clock.during(() => stage.sqs.send(new DeleteMessageCommand({ QueueUrl, ReceiptHandle })))
    this.#held--
  }

  async #comeAgain(queue: 'work' | 'urgent' | 'deadLetters', message: Message): Promise<void> {
    const { clock, stage } = this.#around
    await clock.sleep((this.#visibleAt.get(message.ReceiptHandle ?? '') ?? 0) - clock.now())
    await clock.during(
      () =>
        stage.sqs
          .send(
            new ChangeMessageVisibilityCommand({
              QueueUrl: stage.queueUrls[queue],
              ReceiptHandle: message.ReceiptHandle,
              VisibilityTimeout: 0,
            }),
          )
          .catch(() => {}), // it was delivered twice, and the other copy has been acknowledged
    )
    this.#held--
    this.wake()
  }
}

function asRecord(message: Message, queue: string): SQSRecord {
  return {
    messageId: message.MessageId ?? '',
    receiptHandle: message.ReceiptHandle ?? '',
    body: message.Body ?? '',
    attributes: (message.Attributes ?? {}) as unknown as SQSRecord['attributes'],
    messageAttributes: {},
    md5OfBody: message.MD5OfBody ?? '',
    eventSource: 'aws:sqs',
    eventSourceARN: `arn:aws:sqs:us-east-1:000000000000:${queue}`,
    awsRegion: 'us-east-1',
  }
}
