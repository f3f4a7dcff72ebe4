import { setTimeout as sleep } from 'node:timers/promises'
import { GetQueueAttributesCommand, SendMessageBatchCommand } from '@aws-sdk/client-sqs'
import type { SQSRecord } from 'aws-lambda'
import { expect, test, vi } from 'vitest'
import type { LambdaFunctionError } from '../../local/lambda-host/protocol.ts'
import { type FixtureHost, startFixture } from '../support/lambda-host.ts'

/** What the fixture's consumer logs of a batch. */
interface Batch {
  bodies: string[]
  began: number
  ended: number
  records: SQSRecord[]
}

const batchesOf = ({ lines }: FixtureHost, functionName = 'consumer') =>
  lines
    .filter((entry) => entry.functionName === functionName && entry.line.startsWith('{'))
    .map((entry) => JSON.parse(entry.line) as Batch)
    .filter(({ bodies }) => bodies.length > 0)

const received = (fixture: FixtureHost, functionName?: string) =>
  batchesOf(fixture, functionName).flatMap(({ bodies }) => bodies)

async function send({ aws }: FixtureHost, ...bodies: string[]): Promise<void> {
  for (let start = 0; start < bodies.length; start += 10) {
    const Entries = bodies.slice(start, start + 10).map((MessageBody, index) => ({
      Id: String(index),
      MessageBody,
      MessageAttributes: { Kind: { DataType: 'String', StringValue: 'fixture' } },
    }))
    await aws.sqs.send(new SendMessageBatchCommand({ QueueUrl: aws.queueUrls.get('Work'), Entries }))
  }
}

/** Messages in a queue: waiting, and received but not deleted. */
async function left({ aws }: FixtureHost, queue = 'Work') {
  const { Attributes } = await aws.sqs.send(
    new GetQueueAttributesCommand({ QueueUrl: aws.queueUrls.get(queue), AttributeNames: ['All'] }),
  )
  return [Attributes?.ApproximateNumberOfMessages, Attributes?.ApproximateNumberOfMessagesNotVisible].map(
    Number,
  )
}

const failureOf = (call: Promise<unknown>): Promise<LambdaFunctionError> =>
  call.then(
    () => expect.fail('the invocation did not fail'),
    (error) => error,
  )

const eventually = <T>(check: () => T | Promise<T>) => vi.waitFor(check, { timeout: 90_000, interval: 50 })

/**
 * The fixture with nobody at the dead-letter queue, its consumer started already and slow to get a message again: so it has
 * ended before that, also on a busy machine.
 */
async function startUnhurried(): Promise<FixtureHost> {
  const fixture = await startFixture({
    change: ({ functions, queues }) => {
      for (const one of functions) if (one.name === 'undertaker') one.eventSources = []
      for (const queue of queues) queue.attributes.VisibilityTimeout = '5'
    },
  })
  await fixture.host.invoke('consumer', { Records: [] })
  return fixture
}

test('a direct call returns what the function returns, through JSON', async () => {
  const { host } = await startFixture()
  const event = { text: 'hello', when: new Date(0), nothing: undefined }
  expect(await host.invoke('echo', event)).toMatchObject({
    event: { text: 'hello', when: '1970-01-01T00:00:00.000Z' },
  })
  expect(await host.invoke('misbehave', { how: 'nothing' })).toBeNull()
})

test('a function sees the context, and the environment, that Lambda would give it, and nothing of this process', async () => {
  const { host, aws } = await startFixture()
  const { context, environment } = (await host.invoke('echo', {})) as Record<string, Record<string, unknown>>
  expect(context).toMatchObject({
    awsRequestId: expect.stringMatching(/^[0-9a-f-]{36}$/),
    functionName: 'fixture-local-echo',
    functionVersion: '$LATEST',
    invokedFunctionArn: 'arn:aws:lambda:eu-west-1:000000000000:function:fixture-local-echo',
    memoryLimitInMB: '256',
    logGroupName: '/aws/lambda/fixture-local-echo',
  })
  expect(context?.remaining).toBeGreaterThan(1000)
  expect(context?.remaining).toBeLessThanOrEqual(2000)
  expect(environment).toMatchObject({
    AWS_REGION: 'eu-west-1',
    AWS_LAMBDA_FUNCTION_NAME: 'fixture-local-echo',
    GREETING: 'hello from local',
    ATTEMPTS: '3',
    QUEUE_URL: aws.queueUrls.get('Work'),
  })
  expect(environment).not.toHaveProperty('PATH')
})

test('a warm container is used again; calls at the same time have one each', async () => {
  const { host } = await startFixture()
  const counts = async (calls: Promise<unknown>[]) =>
    (await Promise.all(calls)).map((result) => (result as { invocations: number }).invocations)
  expect(await counts([host.invoke('echo', {})])).toEqual([1])
  expect(await counts([host.invoke('echo', {})])).toEqual([2])
  expect((await counts([host.invoke('echo', {}), host.invoke('echo', {})])).sort()).toEqual([1, 3])
  expect(host.containers('echo')).toHaveLength(2)
  expect(host.counts('echo')).toMatchObject({ invocations: 4, errors: 0, timeouts: 0, coldStarts: 2 })
})

test('what a function throws comes with its type and message, and its container stays warm', async () => {
  const { host } = await startFixture()
  const failure = await failureOf(host.invoke('misbehave', { how: 'throw' }))
  expect(failure).toMatchObject({ name: 'LambdaFunctionError', errorType: 'RangeError' })
  expect(failure.message).toBe('fixture-local-misbehave: RangeError: too far')
  expect(failure.trace.join('\n')).toContain('misbehave')
  await host.invoke('misbehave', { how: 'nothing' })
  expect(host.counts('misbehave')).toMatchObject({ invocations: 2, errors: 1, coldStarts: 1 })
})

test('a function that cannot be loaded says why, each time', async () => {
  const { host } = await startFixture()
  for (const _ of [1, 2])
    await expect(host.invoke('broken', {})).rejects.toThrow('TypeError: SETTING_THAT_IS_MISSING is missing')
  expect(host.containers('broken')).toEqual([])
})

test.each(['hang', 'spin'])('a function that does not come back in time is killed: %s', async (how) => {
  const { host } = await startFixture()
  await expect(host.invoke('misbehave', { how })).rejects.toThrow(
    /Sandbox\.Timedout: RequestId: \S+ Error: Task timed out after 1\.00 seconds$/,
  )
  expect(host.containers('misbehave')).toEqual([])
  expect(host.counts('misbehave')).toMatchObject({ errors: 1, timeouts: 1 })
  await host.invoke('misbehave', { how: 'nothing' })
})

test.each([
  ['exit', 'Runtime.ExitError: Runtime exited with error: exit status 3'],
  ['reject', 'Error: nobody listens'],
])('a container that ends in the middle fails its invocation only: %s', async (how, message) => {
  const { host } = await startFixture()
  await expect(host.invoke('misbehave', { how })).rejects.toThrow(message)
  await host.invoke('misbehave', { how: 'nothing' })
})

test('a container can be killed at work, as if its machine had died', async () => {
  const { host } = await startFixture()
  const failure = failureOf(host.invoke('misbehave', { how: 'spin' }))
  await eventually(() => expect(host.containers('misbehave')).toHaveLength(1))
  await host.containers('misbehave')[0]?.terminate()
  expect((await failure).errorType).toBe('Runtime.ExitError')
})

test('a function that is not there is named, with those that are', async () => {
  const { host } = await startFixture()
  await expect(host.invoke('nobody', {})).rejects.toThrow(
    'there is no function nobody; there are echo, misbehave',
  )
})

test('a schedule calls its function with its input', async () => {
  const { host } = await startFixture({ schedules: true })
  await eventually(() => expect(host.counts('ticking').invocations).toBe(1))
  const idle = await startFixture()
  expect(idle.host.counts('ticking').invocations).toBe(0)
})

test('messages come as Lambda hands them over, and are deleted when the function has returned', async () => {
  const fixture = await startFixture()
  await send(fixture, 'a')
  await eventually(async () => expect(await left(fixture)).toEqual([0, 0]))
  const [record] = batchesOf(fixture)[0]?.records ?? []
  expect(record).toMatchObject({
    messageId: expect.stringMatching(/^[0-9a-f-]{36}$/),
    receiptHandle: expect.any(String),
    body: 'a',
    attributes: {
      ApproximateReceiveCount: '1',
      SentTimestamp: expect.stringMatching(/^\d{13}$/),
      ApproximateFirstReceiveTimestamp: expect.stringMatching(/^\d{13}$/),
      SenderId: expect.any(String),
    },
    messageAttributes: { Kind: { dataType: 'String', stringValue: 'fixture' } },
    md5OfBody: '0cc175b9c0f1b6a831c399e269772661',
    eventSource: 'aws:sqs',
    eventSourceARN: 'arn:aws:sqs:eu-west-1:000000000000:fixture-local-work',
    awsRegion: 'eu-west-1',
  })
})

test('batches fill up to their size, and one that is not full leaves when its window is over', async () => {
  const fixture = await startFixture()
  await send(fixture, '1', '2', '3', '4', '5')
  await eventually(() => expect(received(fixture)).toHaveLength(5))
  expect(batchesOf(fixture).map(({ bodies }) => bodies.length)).toEqual([4, 1])

  await send(fixture, '6')
  await sleep(300)
  await send(fixture, '7')
  await eventually(() => expect(received(fixture)).toHaveLength(7))
  expect(batchesOf(fixture)[2]?.bodies).toEqual(['6', '7'])
})

test('no more batches are under way than maximumConcurrency allows, and no more is received than they hold', async () => {
  const fixture = await startFixture({
    change: ({ queues }) => {
      for (const queue of queues) queue.attributes.VisibilityTimeout = '60' // nothing is to come twice
    },
  })
  await send(fixture, ...Array.from({ length: 24 }, () => 'slow'))
  const visible: number[] = []
  await eventually(async () => {
    const [waiting = 0, taken = 0] = await left(fixture)
    visible.push(taken)
    expect(waiting + taken).toBe(0)
  })
  expect(Math.max(...visible)).toBeLessThanOrEqual(2 * 4)
  const batches = batchesOf(fixture)
  const underWay = batches.map(
    ({ began }) => batches.filter((other) => other.began <= began && began < other.ended).length,
  )
  expect(Math.max(...underWay)).toBe(2)
  expect(fixture.host.counts('consumer')).toMatchObject({ invocations: 6, coldStarts: 2 })
})

test('a message reported as failed comes again alone, after the visibility timeout; the others are deleted', async () => {
  const fixture = await startUnhurried()
  const began = Date.now()
  await send(fixture, 'good', 'fail')
  await eventually(() => expect(received(fixture)).toHaveLength(3))
  const [first, second] = batchesOf(fixture)
  expect(first?.bodies.toSorted()).toEqual(['fail', 'good'])
  expect(second?.bodies).toEqual(['fail'])
  expect(second?.records[0]?.attributes.ApproximateReceiveCount).toBe('2')
  expect((second?.began ?? 0) - began).toBeGreaterThanOrEqual(5000)
})

test.each(['throw', 'hang', 'unknown'])(
  'a batch fails whole, and nothing of it is deleted, when the function does this: %s',
  async (what) => {
    const fixture = await startUnhurried()
    await send(fixture, 'good', what)
    await eventually(() => expect(received(fixture)).toHaveLength(4))
    expect(received(fixture).toSorted()).toEqual(['good', 'good', what, what].toSorted())
  },
)

test('a message that was received too often goes to the dead-letter queue, and to the function that reads it', async () => {
  const fixture = await startFixture()
  await send(fixture, 'fail')
  await eventually(() => expect(received(fixture, 'undertaker')).toEqual(['fail']))
  expect(received(fixture)).toEqual(['fail', 'fail'])
  expect(batchesOf(fixture, 'undertaker')[0]?.records[0]?.eventSourceARN).toContain('fixture-local-dead')
  await eventually(async () =>
    expect([await left(fixture), await left(fixture, 'Dead')]).toEqual([
      [0, 0],
      [0, 0],
    ]),
  )
})

test('the requests to SQS are counted by action', async () => {
  const fixture = await startFixture()
  await send(fixture, 'a', 'b', 'c', 'd')
  await eventually(() => expect(fixture.aws.requests.get('DeleteMessageBatch')).toBe(1))
  expect(fixture.aws.requests.get('SendMessageBatch')).toBe(1)
  expect(fixture.aws.requests.get('ReceiveMessage')).toBeGreaterThanOrEqual(2)
})

test('close ends at once what is at work and what is waiting for messages', async () => {
  const fixture = await startFixture()
  await send(fixture, 'hang')
  await eventually(() => expect(received(fixture)).toEqual(['hang']))
  const began = performance.now()
  await fixture.host.close()
  expect(performance.now() - began).toBeLessThan(5000)
  expect(fixture.host.containers('consumer')).toEqual([])
  await expect(fixture.host.invoke('consumer', { Records: [] })).rejects.toThrow('has been closed')
})

test('a message that arrives after a poll was given up goes to the next poll', async () => {
  const fixture = await startFixture()
  await eventually(() => expect(fixture.aws.requests.get('ReceiveMessage')).toBeGreaterThan(0))
  await fixture.host.close()
  await send(fixture, 'late')
  expect(await left(fixture)).toEqual([1, 0])
})
