import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test, vi } from 'vitest'
import type { LocalSystem } from '../../local/system.ts'
import { freshSystem } from '../support/system.ts'

const soon = () => new Date(Date.now() + 600_000)
const people = (count: number) =>
  Array.from({ length: count }, (_, index) => ({ name: `${index}`, photo: `face ${index}` }))

const settled = ({ app }: LocalSystem, event: string, seconds = 50) =>
  vi.waitFor(async () => expect(await app.statusOf(event)).not.toBe('in_progress'), {
    timeout: seconds * 1000,
    interval: 100,
  })

const usersIn = ({ rekognition, environment }: LocalSystem, event: string) =>
  rekognition.collection(`${environment.COLLECTION_PREFIX}${event}`)?.map((face) => face.externalImageId)

test('an event of 2,500 consenting attendees is indexed whole, with one call each', async () => {
  // Without events of the bucket: those of the uploads may come after the claim, and have a photo looked at again.
  const system = await freshSystem({ tps: 250, photoEvents: false })
  system.rekognition.setQuota({}) // on a busy machine calls bunch up: that is not what is counted here
  const event = await system.app.createEvent({ name: 'Stadium', startsAt: soon() })
  const users = await system.app.addAttendees(event, people(2500))
  const report = await system.functions.invoke('scheduler', {})
  expect(report).toMatchObject({ events_claimed: 1, jobs_written: 2500, messages_sent: 2500 })
  await settled(system, event, 500)
  expect(await system.app.statusOf(event)).toBe('completed')
  expect(usersIn(system, event)?.toSorted()).toEqual(users.toSorted())
  expect(system.rekognition.calls().IndexFaces).toEqual({ calls: 2500, throttled: 0, errors: 0 })
}, 600_000)

// These wait for leases to run out, most of a minute each: side by side.
test.concurrent.for([
  ['after the claim', ({ gateway }: LocalSystem) => gateway.calls.has('indexing_claim')],
  ['half-way through sending', ({ aws }: LocalSystem) => (aws.requests.get('SendMessageBatch') ?? 0) > 10],
] as const)(
  'a scheduler is killed %s: the next run goes on, and every attendee costs one call',
  { timeout: 600_000 },
  async ([, reached], { expect, onTestFinished }) => {
    const system = await freshSystem({ tps: 5000 }, onTestFinished)
    const event = await system.app.createEvent({ name: 'Party', startsAt: soon() })
    const users = await system.app.addAttendees(event, people(400))

    const killed = system.functions.invoke('scheduler', {}).then(
      () => 'ended by itself',
      () => 'killed',
    )
    while (!reached(system)) await sleep(1)
    for (const container of system.functions.containers('scheduler')) container.terminate()
    expect(await killed).toBe('killed')

    await vi.waitFor(
      async () => {
        await system.functions.invoke('scheduler', {})
        expect(await system.app.statusOf(event)).toBe('completed')
      },
      // A page that was being sent is handed out again when its lease has ended, after a minute.
      { timeout: 500_000, interval: 1000 },
    )
    expect(usersIn(system, event)?.toSorted()).toEqual(users.toSorted())
    expect(system.rekognition.calls().IndexFaces.calls).toBe(400)
  },
)

test.concurrent('a worker is killed in the middle of a batch: nobody is forgotten, and nobody is indexed twice', {
  timeout: 600_000,
}, async ({ expect, onTestFinished }) => {
  const system = await freshSystem(
    {
      tps: 5000,
      change: ({ functions, queues }) => {
        for (const one of functions) if (one.name === 'worker') one.timeoutSeconds = 20
        for (const queue of queues) queue.attributes.VisibilityTimeout = '1'
      },
    },
    onTestFinished,
  )
  system.rekognition.setLatency({ medianMs: 250, p99Ms: 900 })
  const event = await system.app.createEvent({ name: 'Party', startsAt: soon() })
  const users = await system.app.addAttendees(event, people(40))
  await system.functions.invoke('scheduler', {})
  await vi.waitFor(() => expect(system.rekognition.calls().IndexFaces.calls).toBeGreaterThan(5), 30_000)
  for (const container of system.functions.containers('worker')) container.terminate()

  await vi.waitFor(
    async () => {
      await system.functions.invoke('scheduler', {})
      expect(await system.app.statusOf(event)).toBe('completed')
    },
    // A killed worker's lease outlives every call that it may have made: its time-out and half a minute.
    { timeout: 500_000, interval: 1000 },
  )
  expect(usersIn(system, event)?.toSorted()).toEqual(users.toSorted())
})

test('a worker is killed by its time-out with a batch half done: the whole batch comes back, nobody is indexed twice', async () => {
  const system = await freshSystem({
    tps: 5000,
    change: ({ functions, queues }) => {
      for (const one of functions) if (one.name === 'worker') one.timeoutSeconds = 20
      for (const queue of queues) queue.attributes.VisibilityTimeout = '25'
    },
  })
  const { app, functions, gateway, rekognition } = system
  const event = await app.createEvent({ name: 'Party', startsAt: soon() })
  const users = await app.addAttendees(event, people(10))
  // All have been indexed, and nobody takes the worker's word for it until its time is up.
  // So slow is the indexing that the time is up before the call of the database is given up.
  rekognition.setLatency({ medianMs: 9_500, p99Ms: 9_500 })
  gateway.setFaults((request) => (request.function === 'indexing_complete' ? { delayMs: 60_000 } : undefined))
  await functions.invoke('scheduler', {})
  // By the host, or by middy five milliseconds before it.
  await vi.waitFor(() => expect(functions.counts('worker').milliseconds).toBeGreaterThan(19_000), 120_000)
  expect(rekognition.calls().IndexFaces.calls).toBe(10)
  expect(await app.statusOf(event)).toBe('in_progress')
  gateway.setFaults(undefined)
  rekognition.setLatency(undefined)

  await vi.waitFor(
    async () => {
      await functions.invoke('scheduler', {})
      expect(await app.statusOf(event)).toBe('completed')
    },
    // A lost worker's lease outlives every call that it may have made: its time-out and half a minute.
    { timeout: 110_000, interval: 1000 },
  )
  expect(usersIn(system, event)?.toSorted()).toEqual(users.toSorted())
}, 240_000)

test('a window that is no number from 0 to 10080 is refused, with what is allowed', async () => {
  const { functions } = await freshSystem()
  for (const window_minutes of [-1, 10_081, '20', null, Number.NaN]) {
    await expect(functions.invoke('scheduler', { window_minutes })).rejects.toThrow(
      'window_minutes must be a number from 0 to 10080',
    )
  }
})
