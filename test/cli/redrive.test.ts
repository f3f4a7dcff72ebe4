import { describe, expect, it } from 'vitest'
import { redrive } from '../../cli/commands/redrive.ts'
import { openOperated } from '../support/operator.ts'
import { startSqsFront } from '../support/sqs-front.ts'

type System = Awaited<ReturnType<typeof openOperated>>

async function fillDeadLetters({ deadLetterQueueUrl, send }: System, count: number): Promise<string[]> {
  const bodies = Array.from({ length: count }, (_, index) => `message ${String(index).padStart(3, '0')}`)
  for (const body of bodies) await send(deadLetterQueueUrl, body)
  return bodies
}

/** The bodies of all messages that can be received from a queue now. */
async function bodiesIn({ receive }: System, queueUrl: string): Promise<string[]> {
  const bodies: string[] = []
  for (;;) {
    const messages = await receive(queueUrl)
    if (messages.length === 0) return bodies.sort()
    bodies.push(...messages.map(({ Body = '' }) => Body))
  }
}

describe('redrive, where SQS moves no messages by itself', () => {
  it('brings what lies in the dead-letter queue back to the work queue', async () => {
    const system = await openOperated()
    const bodies = await fillDeadLetters(system, 23)
    const { code, error, out } = await system.start(['redrive']).ended
    expect({ code, error }).toEqual({ code: 0, error: '' })
    expect(out).toContain(
      'Moving 23 messages from the dead-letter queue back to the work queue …\n23 messages moved.\n',
    )
    expect(await bodiesIn(system, system.workQueueUrl)).toEqual(bodies)
    expect(await system.depth(system.deadLetterQueueUrl)).toBe(0)
  })

  it('brings messages as they are, large ones and those with attributes too', async () => {
    const system = await openOperated()
    const large = 'x'.repeat(250_000)
    for (let copy = 0; copy < 8; copy++) await system.send(system.deadLetterQueueUrl, large)
    await system.send(system.deadLetterQueueUrl, 'with an attribute', {
      from: { DataType: 'String', StringValue: 'somebody' },
    })
    expect((await system.run(redrive, {})).code).toBe(0)
    expect(await system.depth(system.workQueueUrl)).toBe(9)
    const messages = await system.receive(system.workQueueUrl)
    expect(messages.filter(({ Body }) => Body === large)).toHaveLength(8)
    expect(messages.find(({ Body }) => Body === 'with an attribute')?.MessageAttributes).toMatchObject({
      from: { StringValue: 'somebody' },
    })
  })

  it('loses none when the work queue takes no more in the middle of it', async () => {
    const system = await openOperated()
    const bodies = await fillDeadLetters(system, 25)
    const front = await startSqsFront(system.sqs, system.endpoint, {
      refuse: (action, count) =>
        action === 'SendMessage' && count > 7 ? 'AccessDeniedException' : undefined,
    })
    const { code, out } = await system.run(redrive, {}, front.environment(system.workQueueUrl))
    expect(code).toBe(2)
    expect(out).toContain(
      '7 messages moved.\nThe rest is where it was: no SendMessage. Once that is repaired, redrive again.',
    )
    const moved = await bodiesIn(system, system.workQueueUrl)
    const left = await bodiesIn(system, system.deadLetterQueueUrl) // at once, not after the visibility timeout
    expect(moved).toHaveLength(7)
    expect([...moved, ...left].sort()).toEqual(bodies)
  })

  it('has a message twice rather than not at all when it could be sent and not deleted', async () => {
    const system = await openOperated()
    const bodies = await fillDeadLetters(system, 3)
    const front = await startSqsFront(system.sqs, system.endpoint, {
      refuse: (action) => (action === 'DeleteMessage' ? 'AccessDeniedException' : undefined),
    })
    const { code } = await system.run(redrive, {}, front.environment(system.workQueueUrl))
    expect(code).toBe(2)
    expect(await bodiesIn(system, system.workQueueUrl)).toEqual(bodies)
    expect(await system.depth(system.deadLetterQueueUrl)).toBe(3)
  })

  it('does not run after messages that come back', async () => {
    const system = await openOperated()
    await fillDeadLetters(system, 12)
    const front = await startSqsFront(system.sqs, system.endpoint, {
      refuse: (action) => {
        // Each message that is moved is soon a dead letter again.
        if (action === 'DeleteMessage') void system.send(system.deadLetterQueueUrl, 'back again')
        return undefined
      },
    })
    const { code, out } = await system.run(redrive, {}, front.environment(system.workQueueUrl))
    expect(code).toBe(0)
    expect(out).toContain('12 messages moved.')
  })
})

describe('redrive, where SQS moves messages by itself', () => {
  const openWithTasks = async (options: { taskFailure?: string } = {}) => {
    const system = await openOperated()
    const front = await startSqsFront(system.sqs, system.endpoint, { movesMessages: true, ...options })
    return { ...system, front, through: front.environment(system.workQueueUrl) }
  }

  it('leaves it to SQS, and waits for its end', async () => {
    const system = await openWithTasks()
    const bodies = await fillDeadLetters(system, 12)
    const { code, out } = await system.run(redrive, {}, system.through)
    expect(code).toBe(0)
    expect(out).toContain('12 messages moved.')
    expect(system.front.requests('StartMessageMoveTask')).toBe(1)
    expect(system.front.requests('SendMessage')).toBe(0)
    expect(await bodiesIn(system, system.workQueueUrl)).toEqual(bodies)
  })

  it('is not misled by the end of an earlier one', async () => {
    const system = await openWithTasks()
    await fillDeadLetters(system, 2)
    await system.run(redrive, {}, system.through)
    await fillDeadLetters(system, 5)
    expect((await system.run(redrive, {}, system.through)).out).toContain('5 messages moved.')
  })

  it('says what SQS says when it fails', async () => {
    const system = await openWithTasks({ taskFailure: 'CouldNotDetermineMessageSource' })
    await fillDeadLetters(system, 1)
    const { code, out } = await system.run(redrive, {}, system.through)
    expect(code).toBe(2)
    expect(out).toContain('The rest is where it was: SQS says FAILED: CouldNotDetermineMessageSource.')
  })
})

describe('nothing to redrive', () => {
  it('is said, with a word on where failed jobs are', async () => {
    const { run } = await openOperated()
    const { code, out } = await run(redrive, {})
    expect(code).toBe(0)
    expect(out).toContain('Nothing to move: no message waits in the dead-letter queue.')
    expect(out).toContain('npx event-indexer replay --all-failed')
  })

  it('is said with what the finalizer is at', async () => {
    const { deadLetterQueueUrl, receive, run, send } = await openOperated()
    await send(deadLetterQueueUrl, 'being handled')
    await receive(deadLetterQueueUrl)
    expect((await run(redrive, {})).out).toContain('the finalizer is at 1 message')
  })
})

it('redrive asks nothing of the database', async () => {
  const system = await openOperated()
  await fillDeadLetters(system, 1)
  expect((await system.run(redrive, {}, { SUPABASE_URL: 'http://127.0.0.1:1' })).code).toBe(0)
  expect(await system.depth(system.workQueueUrl)).toBe(1)
})
