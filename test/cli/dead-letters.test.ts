import { expect, it } from 'vitest'
import { type DeadLettersDocument, deadLetters } from '../../cli/commands/dead-letters.ts'
import { openOperated } from '../support/operator.ts'

const letters = (count: number) =>
  Array.from({ length: count }, (_, index) => ({
    message_id: `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`,
    body: `poison ${index}`,
    attributes: { ApproximateReceiveCount: '6' },
    problem: 'not a message of the event indexer: its body is not JSON',
  }))

it('dead-letters lists what is no message of ours, and counts what lies in the queue', async () => {
  const { deadLetterQueueUrl, keepDeadLetters, send, start } = await openOperated()
  const [letter] = letters(1)
  await keepDeadLetters(letter ? [{ ...letter, body: 'hello\u001b[31m\nworld' }] : [])
  await send(deadLetterQueueUrl, 'on its way to the finalizer')
  const { code, error, out } = await start(['dead-letters']).ended
  expect({ code, error }).toEqual({ code: 0, error: '' })
  expect(out).toContain('In the dead-letter queue: 1 waiting, 0 in flight.')
  expect(out).toContain('Back to the work queue: npx event-indexer redrive')
  expect(out).toContain('Kept as no messages of ours: 1 message')
  expect(out).toContain('00000000-0000-4000-8000-000000000000')
  expect(out).toContain('  not a message of the event indexer: its body is not JSON\n  hello [31m world\n')
})

it('dead-letters shows the latest, and says how many are older', async () => {
  const { keepDeadLetters, run } = await openOperated()
  for (const letter of letters(23)) await keepDeadLetters([letter])
  const { out } = await run(deadLetters, {})
  expect(out).toContain('23 messages, the latest first')
  expect([...out.matchAll(/poison (\d+)/g)].map(([, number]) => Number(number))).toEqual(
    Array.from({ length: 20 }, (_, index) => 22 - index),
  )
  expect(out).toContain('… and 3 older: --json lists them all')
})

it('dead-letters --json has them all, whole and as they came, however many', async () => {
  const { keepDeadLetters, run } = await openOperated()
  const many = letters(120)
  await keepDeadLetters(many)
  const document = JSON.parse((await run(deadLetters, { json: true })).out) as DeadLettersDocument
  expect(document.queue).toEqual({ waiting: 0, in_flight: 0 })
  expect(document.kept).toHaveLength(120)
  expect(document.kept.map(({ message_id }) => message_id).sort()).toEqual(
    many.map(({ message_id }) => message_id),
  )
  expect(document.kept[0]).toMatchObject({
    body: expect.stringMatching(/^poison \d+$/),
    attributes: { ApproximateReceiveCount: '6' },
    problem: 'not a message of the event indexer: its body is not JSON',
  })
})

it('dead-letters says what lies in the queue also while the database is away', async () => {
  const { deadLetterQueueUrl, gateway, send, start } = await openOperated()
  await send(deadLetterQueueUrl, 'waits for the database')
  gateway.setFaults(() => ({ status: 503 }))
  const { code, error, out } = await start(['dead-letters']).ended
  expect(code).toBe(3)
  expect(out).toContain('In the dead-letter queue: 1 waiting')
  expect(error).toContain('The database of the environment is away or overloaded: try again in a moment.')
})

it('dead-letters that are acknowledged are listed no more, though the finalizer meets them again', async () => {
  const { keepDeadLetters, owner, run, start } = await openOperated()
  await keepDeadLetters(letters(3))
  const [first = '', , third = ''] = letters(3).map(({ message_id }) => message_id)
  const { code, out } = await start(['dead-letters', '--acknowledge', first]).ended
  expect(code).toBe(0)
  expect(out).toContain('1 message acknowledged')
  await keepDeadLetters(letters(1))
  const listed = (await run(deadLetters, {})).out
  expect(listed).toContain('2 messages, the latest first.')
  expect(listed).not.toContain(first)
  expect(listed).toContain(third)
  expect((await run(deadLetters, { acknowledge: true })).out).toContain('2 messages acknowledged')
  expect((await run(deadLetters, {})).out).toContain('Kept as no messages of ours: none.')
  await expect(run(deadLetters, { acknowledge: true })).rejects.toMatchObject({ exitCode: 1 })
  expect((await owner.query('select from indexing.dead_letters')).rowCount).toBe(3)
})
