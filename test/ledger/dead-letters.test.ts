import { describe, expect, it } from 'vitest'
import { atOnce, one, only, openLedger, resultOf, sentEvent } from '../support/ledger.ts'

describe('a dead letter', () => {
  it('ends its job as failed, with the error of the last attempt, and settles the event', async () => {
    const { app, begin, bury, event, finish, inside, messages, users } = await sentEvent(1)
    const { token, tasks } = await begin(messages)
    const error = 'InvalidS3ObjectException: unable to get object'
    await finish(
      token,
      tasks.map((task) =>
        resultOf(task, { outcome: 'retry', face_id: null, reason: 'photo_unreadable', error }),
      ),
    )
    expect(await bury(messages)).toEqual({ failed: 1, requeued: 0 })
    expect(await inside.job(event, only(users))).toMatchObject({
      state: 'failed',
      reason: 'photo_unreadable',
      error,
    })
    expect(await app.status(event)).toBe('failed')
  })

  it('says that no attempt left a word when none did', async () => {
    const { begin, bury, event, inside, messages, owner, users } = await sentEvent(1)
    await begin(messages)
    await inside.expireLeases()
    await owner.query('update indexing.face_jobs set attempts = 5')
    expect(await bury(messages)).toEqual({ failed: 1, requeued: 0 })
    expect(await inside.job(event, only(users))).toMatchObject({
      state: 'failed',
      reason: 'no_word',
      error: expect.stringContaining('the worker died or could not reach the database'),
      lease_token: null,
      unconfirmed: true,
    })
  })

  it('whose job was never begun goes back to the outbox, three times', async () => {
    const { app, bury, event, inside, messages, sendAll, users } = await sentEvent(1)
    let sent = messages
    for (let time = 1; time <= 3; time++) {
      expect(await bury(sent)).toEqual({ failed: 0, requeued: 1 })
      expect(await inside.job(event, only(users))).toMatchObject({
        state: 'queued',
        dead_letters: time,
        error: null,
      })
      sent = await sendAll()
    }
    expect(await app.status(event)).toBe('in_progress')
    expect(await bury(sent)).toEqual({ failed: 1, requeued: 0 })
    expect(await app.status(event)).toBe('failed')
  })

  it('whose workers all lost the database before they could say a word goes back to the outbox, too', async () => {
    const { begin, bury, event, inside, messages, sendAll, work } = await sentEvent(1)
    await begin(messages)
    await inside.expireLeases()
    expect(await bury(messages)).toEqual({ failed: 0, requeued: 1 })
    await work(await sendAll())
    expect(await inside.states(event)).toEqual({ indexed: 1 })
  })

  it('whose job’s worker was lost was a place that another job may wait for, and that one goes back to the outbox', async () => {
    const { begin, bury, event, inside, messages } = await sentEvent(2)
    await begin(messages.slice(0, 1))
    await inside.expireLeases()
    expect(await bury(messages.slice(0, 1))).toEqual({ failed: 0, requeued: 1 })
    expect(await inside.states(event)).toEqual({ queued: 2 })
  })

  it('older than its job fails nothing', async () => {
    const { absorb, app, begin, bury, event, inside, messages, sendAll, users } = await sentEvent(1)
    await app.photo(only(users), 'photos/new')
    await absorb()
    await begin(await sendAll())
    const before = await inside.jobs(event)
    expect(await bury(messages)).toEqual({ failed: 0, requeued: 0 })
    expect(await inside.jobs(event)).toEqual(before)
  })

  it('that was the place of another job has that one sent again', async () => {
    const { app, bury, event, inside, messages, prepare, sendAll, work } = await sentEvent(2)
    // A sooner event takes the places; its own messages are left to the first, and one of them is lost.
    const sooner = await app.event({ startsAt: "now() + interval '1 min'" })
    await app.consent(sooner, await app.users(2))
    await prepare()
    const left = await sendAll()
    await work(messages)
    expect(await inside.states(event)).toEqual({ sent: 2 })
    expect(await bury(left.slice(0, 1))).toEqual({ failed: 0, requeued: 0 })
    expect(await inside.states(event)).toEqual({ sent: 1, queued: 1 })
    await work([...left.slice(1), ...(await sendAll())])
    expect(await inside.states(event)).toEqual({ indexed: 2 })
  })

  it('whose job has ended, is being worked on, is queued or unknown changes nothing', async () => {
    const { app, begin, bury, event, inside, messages, owner, work } = await sentEvent(4)
    await work(messages.slice(0, 1))
    await work(messages.slice(1, 2), { outcome: 'failed', face_id: null, error: 'the first' })
    await begin(messages.slice(2, 3))
    await owner.query("update indexing.face_jobs set state = 'queued' where state = 'sent'")
    const [stranger = ''] = await app.users(1)
    const before = await inside.jobs(event)
    expect(await bury([...messages, { event_id: event, user_id: stranger, version: 1 }])).toEqual({
      failed: 0,
      requeued: 0,
    })
    expect(await inside.jobs(event)).toEqual(before)
  })

  it('counts once, however often and by how many it is handled', async () => {
    const { app, bury, event, inside, messages, work } = await sentEvent(30)
    await work(messages, { outcome: 'retry', face_id: null, error: 'not to be had' })
    const answers = await atOnce(10, (index) =>
      bury(index % 2 ? [...messages, ...messages] : messages.toReversed()),
    )
    expect(answers.reduce((sum, { failed }) => sum + failed, 0)).toBe(30)
    expect(await bury(messages)).toEqual({ failed: 0, requeued: 0 })
    expect(await inside.states(event)).toEqual({ failed: 30 })
    expect(await app.status(event)).toBe('failed')
  })

  it('of a replayed job does not end the replay', async () => {
    const { begin, bury, event, inside, messages, replay, sendAll, work } = await sentEvent(1)
    await begin(messages)
    await inside.expireLeases()
    await bury(messages)
    await replay()
    const again = await sendAll()
    expect(await bury(messages)).toEqual({ failed: 0, requeued: 0 })
    await work(again)
    expect(await inside.states(event)).toEqual({ indexed: 1 })
  })
})

describe('what is no message of ours', () => {
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
    const { received_at, ...kept } = rows[0]
    expect(kept).toEqual(letter('a'))
    expect(received_at).toBeInstanceOf(Date)
  })

  it('is kept at 256 KB, and once when ten keep it at the same moment', async () => {
    const { keepDeadLetters, owner } = await openLedger()
    const large = { ...letter('large'), body: 'x'.repeat(256 * 1024) }
    const kept = await atOnce(10, () => keepDeadLetters([large]))
    expect(kept.reduce((sum, n) => sum + n, 0)).toBe(1)
    expect(await one(owner, 'select length(body) from indexing.dead_letters')).toBe(256 * 1024)
  })
})
