import { describe, expect, it } from 'vitest'
import { atOnce, failedWith, one, only, openLedger, sentEvent } from '../support/ledger.ts'

describe('a dead letter', () => {
  it('ends its job as failed, with the error of the last attempt, and settles the event', async () => {
    const { app, event, failDeadLetters, inside, messages, users, work } = await sentEvent(1)
    const error = 'InvalidS3ObjectException: unable to get object'
    await work(messages, failedWith(error, 'photo_unreadable'))
    expect(await failDeadLetters(messages)).toEqual({ failed: 1, requeued: 0 })
    expect(await inside.job(event, only(users))).toMatchObject({
      state: 'failed',
      reason: 'photo_unreadable',
      error,
    })
    expect(await app.status(event)).toBe('failed')
  })

  it('is what its job says when no attempt left an error', async () => {
    const { event, failDeadLetters, inside, lease, messages, owner, users } = await sentEvent(1)
    await lease(messages)
    await inside.expireLeases()
    await owner.query('update indexing.face_jobs set dead_letters = 3')
    expect(await failDeadLetters(messages)).toEqual({ failed: 1, requeued: 0 })
    expect(await inside.job(event, only(users))).toMatchObject({
      state: 'failed',
      reason: 'no_word',
      error: expect.stringContaining('the worker died or could not reach the database'),
      lease_token: null,
      needs_listing: true,
    })
  })

  it('whose job was never leased goes back to the outbox, three times', async () => {
    const { app, event, failDeadLetters, inside, messages, sendAll, users } = await sentEvent(1)
    let sent = messages
    for (let time = 1; time <= 3; time++) {
      expect(await failDeadLetters(sent)).toEqual({ failed: 0, requeued: 1 })
      expect(await inside.job(event, only(users))).toMatchObject({
        state: 'queued',
        dead_letters: time,
        error: null,
      })
      sent = await sendAll()
    }
    expect(await app.status(event)).toBe('in_progress')
    expect(await failDeadLetters(sent)).toEqual({ failed: 1, requeued: 0 })
    expect(await app.status(event)).toBe('failed')
  })

  it('whose workers all lost the database before they could complete goes back to the outbox, too', async () => {
    const { event, failDeadLetters, inside, lease, messages, sendAll, work } = await sentEvent(1)
    await lease(messages)
    await inside.expireLeases()
    expect(await failDeadLetters(messages)).toEqual({ failed: 0, requeued: 1 })
    await work(await sendAll())
    expect(await inside.states(event)).toEqual({ indexed: 1 })
  })

  it('older than its job fails nothing', async () => {
    const { app, event, failDeadLetters, inside, lease, messages, processChanges, sendAll, users } =
      await sentEvent(1)
    await app.leave(event, users)
    await processChanges()
    await lease(await sendAll())
    const before = await inside.jobs(event)
    expect(await failDeadLetters(messages)).toEqual({ failed: 0, requeued: 0 })
    expect(await inside.jobs(event)).toEqual(before)
  })

  it('whose job has ended, is leased, is queued or unknown changes nothing', async () => {
    const { app, event, fail, failDeadLetters, inside, lease, messages, owner, work } = await sentEvent(4)
    await work(messages.slice(0, 1))
    await fail(messages.slice(1, 2), 'the first')
    await lease(messages.slice(2, 3))
    await owner.query("update indexing.face_jobs set state = 'queued' where state = 'sent'")
    const [stranger = ''] = await app.users(1)
    const before = await inside.jobs(event)
    const letters = messages.map((message) => ({ ...message, version: 9 }))
    letters.push({ event_id: event, user_id: stranger, version: 1 })
    expect(await failDeadLetters(letters)).toEqual({ failed: 0, requeued: 0 })
    expect(await inside.jobs(event)).toEqual(before)
  })

  it('counts once, however often and by how many it is handled', async () => {
    const { app, event, failDeadLetters, inside, messages, work } = await sentEvent(30)
    await work(messages, failedWith('not to be had'))
    const answers = await atOnce(10, (index) =>
      failDeadLetters(index % 2 ? [...messages, ...messages] : messages.toReversed()),
    )
    expect(answers.reduce((sum, { failed }) => sum + failed, 0)).toBe(30)
    expect(await failDeadLetters(messages)).toEqual({ failed: 0, requeued: 0 })
    expect(await inside.states(event)).toEqual({ failed: 30 })
    expect(await app.status(event)).toBe('failed')
  })

  it('of a replayed job does not end the replay', async () => {
    const { event, fail, failDeadLetters, inside, messages, replay, sendAll, work } = await sentEvent(1)
    await fail(messages)
    await replay()
    const again = await sendAll()
    expect(await failDeadLetters(messages)).toEqual({ failed: 0, requeued: 0 })
    await work(again)
    expect(await inside.states(event)).toEqual({ indexed: 1 })
  })
})

describe('a message that we cannot read', () => {
  const letter = (message_id: string) => ({
    message_id,
    body: '\u{1F600} not JSON "\\',
    attributes: { ApproximateReceiveCount: '5', SentTimestamp: '1764000000000' },
    problem: 'its body is not JSON',
  })

  it('is kept as it came, once', async () => {
    const { keepDeadLetters, owner } = await openLedger()
    expect(await keepDeadLetters([letter('a'), letter('b')])).toBe(2)
    expect(await keepDeadLetters([letter('b'), letter('c'), letter('c')])).toBe(1)
    const { rows } = await owner.query('select * from indexing.dead_letters order by message_id')
    expect(rows.map(({ message_id }) => message_id)).toEqual(['a', 'b', 'c'])
    const { acknowledged_at, received_at, ...kept } = rows[0]
    expect(kept).toEqual(letter('a'))
    expect(received_at).toBeInstanceOf(Date)
    expect(acknowledged_at).toBeNull()
  })

  it('is kept at 256 KB, and once when ten keep it at the same moment', async () => {
    const { keepDeadLetters, owner } = await openLedger()
    const large = { ...letter('large'), body: 'x'.repeat(256 * 1024) }
    const kept = await atOnce(10, () => keepDeadLetters([large]))
    expect(kept.reduce((sum, n) => sum + n, 0)).toBe(1)
    expect(await one(owner, 'select length(body) from indexing.dead_letters')).toBe(256 * 1024)
  })
})
