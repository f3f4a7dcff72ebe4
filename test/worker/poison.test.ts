import { GetQueueAttributesCommand, SendMessageCommand } from '@aws-sdk/client-sqs'
import pg from 'pg'
import { expect, it, onTestFinished, vi } from 'vitest'
import type { LocalSystem } from '../../local/system.ts'
import { freshSystem } from '../support/system.ts'

const ID = '3f0c6f0e-9a3b-4a57-8d0c-0f6f3a1b2c4d'
const body = (fields: object) =>
  JSON.stringify({ format: 1, event_id: ID, user_id: ID, version: 1, ...fields })
const LARGEST = 256 * 1024

/** Each with what is said of it. */
const STRANGERS: [string, string][] = [
  ['not json', 'not JSON'],
  ['[]', 'body:'],
  ['null', 'body:'],
  ['"text"', 'body:'],
  ['{"Records": [{"s3": {"object": {"key": "photo.jpg"}}}]}', 'format:'],
  [body({ format: 2 }), 'format:'],
  [body({ event_id: 'opening-night' }), 'event_id:'],
  [body({ user_id: 7 }), 'user_id:'],
  [body({ version: 0 }), 'version:'],
  [body({ version: 1.5 }), 'version:'],
  [body({ version: 1e300 }), 'version:'],
  [body({ event_id: `${ID}'; drop table events; --` }), 'event_id:'],
  [`{"text": "a \\u0000 and a \\ud800 that Postgres takes in no jsonb"}`, 'format:'],
  ['x'.repeat(LARGEST), 'not JSON'],
  [`{"format": 1, "event_id": "${'x'.repeat(LARGEST - 32)}"}`, 'event_id:'],
]

const depthOf = async ({ aws }: LocalSystem, queue: string) => {
  const { Attributes } = await aws.sqs.send(
    new GetQueueAttributesCommand({
      QueueUrl: aws.queueUrls.get(queue),
      AttributeNames: ['ApproximateNumberOfMessages', 'ApproximateNumberOfMessagesNotVisible'],
    }),
  )
  return Object.values(Attributes ?? {}).reduce((sum, value) => sum + Number(value), 0)
}

it('an unreadable message among those of an event is kept unchanged in the ledger, and delays no attendee', async () => {
  const system = await freshSystem({ tps: 5000 })
  const { app, aws, database, functions } = system
  const event = await app.createEvent({ name: 'Party', startsAt: new Date(Date.now() + 600_000) })
  await app.addAttendees(
    event,
    Array.from({ length: 30 }, (_, n) => ({ name: `${n}`, photo: `face ${n}` })),
  )
  const nobody = body({}) // of an event that never was: acknowledged
  for (const text of [...STRANGERS.map(([text]) => text), nobody])
    await aws.sqs.send(
      new SendMessageCommand({ QueueUrl: aws.queueUrls.get('WorkQueue'), MessageBody: text }),
    )
  await functions.invoke('scheduler', {})

  await vi.waitFor(
    async () => {
      expect(await app.statusOf(event)).toBe('completed')
      expect(await depthOf(system, 'WorkQueue')).toBe(0)
      expect(await depthOf(system, 'DeadLetterQueue')).toBe(0)
    },
    { timeout: 60_000, interval: 200 },
  )
  const sql = new pg.Client(database.url)
  await sql.connect()
  onTestFinished(() => sql.end())
  const { rows: kept } = await sql.query<{ body: string; problem: string; receives: string }>(
    `select body, problem, attributes ->> 'ApproximateReceiveCount' as receives from indexing.dead_letters`,
  )
  expect(kept.map(({ body }) => body).toSorted()).toEqual(STRANGERS.map(([text]) => text).toSorted())
  for (const [text, problem] of STRANGERS)
    expect(kept.find(({ body }) => body === text)?.problem).toContain(problem)
  expect(kept.every(({ receives }) => Number(receives) >= 5)).toBe(true)
  expect(functions.counts('worker').errors + functions.counts('finalizer').errors).toBe(0)
}, 120_000)
