import { describe, expect, it } from 'vitest'
import { atOnce, only, openLedger, resultOf, sentEvent } from '../support/ledger.ts'

describe('a job whose worker died', () => {
  it('is queued again with a new version when the lease has run out, and not before', async () => {
    const { begin, event, inside, messages, sendAll, sweep } = await sentEvent(2)
    await begin(messages)
    expect(await sweep()).toEqual({ jobs: 0, failed: 0 })
    await inside.expireLeases()
    expect(await sweep()).toEqual({ jobs: 2, failed: 0 })
    expect(await inside.states(event)).toEqual({ queued: 2 })
    const again = await sendAll()
    expect(again.map(({ version }) => version)).toEqual([2, 2])
    expect((await begin(again)).tasks).toMatchObject([
      { action: 'index', list: true },
      { action: 'index', list: true },
    ])
  })

  it('has failed when five of them have', async () => {
    const { app, begin, event, inside, sendAll, sweep, messages, users } = await sentEvent(1)
    let sent = messages
    for (let died = 1; died <= 5; died++) {
      expect(await app.status(event)).toBe('in_progress')
      await begin(sent)
      await inside.expireLeases()
      expect(await sweep()).toEqual({ jobs: 1, failed: died === 5 ? 1 : 0 })
      sent = await sendAll()
    }
    expect(await inside.job(event, only(users))).toMatchObject({
      state: 'failed',
      reason: 'worker_lost',
      error: 'its worker died or lost the database, 5 times',
      unconfirmed: true,
    })
    expect(await app.status(event)).toBe('failed')
  })

  it('keeps the error of an attempt that left one', async () => {
    const { begin, event, finish, inside, messages, owner, sweep, users } = await sentEvent(1)
    const { token, tasks } = await begin(messages)
    await finish(
      token,
      tasks.map((task) => resultOf(task, { outcome: 'retry', face_id: null, error: 'InternalServerError' })),
    )
    await begin(messages)
    await owner.query('update indexing.face_jobs set attempts = 5')
    await inside.expireLeases()
    await sweep()
    expect((await inside.job(event, only(users))).error).toBe(
      'InternalServerError; its worker died or lost the database, 5 times',
    )
  })
})

describe('a job whose message is gone', () => {
  it('is queued again with a new version when it is older than the bound, and not before', async () => {
    const { event, inside, messages, sendAll, sweep, work } = await sentEvent(2)
    await inside.ageMessages(299)
    expect(await sweep(300)).toEqual({ jobs: 0, failed: 0 })
    await inside.ageMessages(301)
    expect(await sweep(300)).toEqual({ jobs: 2, failed: 0 })
    expect(await inside.states(event)).toEqual({ queued: 2 })
    const again = await sendAll()
    expect(again.map(({ version }) => version)).toEqual([2, 2])
    // It was alive after all, and whichever comes first does the work of both.
    await work(messages)
    await work(again)
    for (const job of await inside.jobs(event))
      expect(job).toMatchObject({ state: 'indexed', version: 2, index_calls: 1 })
  })

  it('waits out a backoff, and is then queued again, however often it was tried', async () => {
    const { begin, event, finish, inside, messages, owner, sweep } = await sentEvent(1)
    const { token, tasks } = await begin(messages)
    await finish(
      token,
      tasks.map((task) =>
        resultOf(task, { outcome: 'retry', face_id: null, error: 'AccessDeniedException' }),
      ),
    )
    await owner.query('update indexing.face_jobs set attempts = 3')
    await inside.ageMessages(449)
    expect(await sweep(300)).toEqual({ jobs: 0, failed: 0 })
    await inside.ageMessages(451)
    expect(await sweep(300)).toEqual({ jobs: 1, failed: 0 })
    expect(await inside.states(event)).toEqual({ queued: 1 })
  })

  it('has failed when five were lost, each waited for longer than the one before', async () => {
    const { app, event, inside, sendAll, sweep, users } = await sentEvent(1)
    for (let lost = 1; lost <= 5; lost++) {
      expect(await app.status(event)).toBe('in_progress')
      await inside.ageMessages(300 * lost - 1)
      expect(await sweep(300)).toEqual({ jobs: 0, failed: 0 })
      await inside.ageMessages(300 * lost + 1)
      expect(await sweep(300)).toEqual({ jobs: 1, failed: lost === 5 ? 1 : 0 })
      await sendAll()
    }
    expect(await inside.job(event, only(users))).toMatchObject({
      state: 'failed',
      reason: 'message_lost',
      error: 'its message was lost or waited too long, 5 times',
    })
    expect(await app.status(event)).toBe('failed')
  })
})

describe('sweeping', () => {
  it('touches nothing else', async () => {
    const { absorb, app, begin, event, finish, inside, messages, nextPage, owner, sweep } = await sentEvent(6)
    const { token, tasks } = await begin(messages.slice(0, 5))
    const [indexed, skipped, failed, later] = tasks
    if (!indexed || !skipped || !failed || !later) throw new Error('too few tasks')
    await finish(token, [
      resultOf(indexed),
      resultOf(skipped, { outcome: 'skipped', face_id: null, reason: 'no_face' }),
      resultOf(failed, { outcome: 'failed', face_id: null }),
      resultOf(later, { outcome: 'later', face_id: null }),
    ])
    await app.consent(event, await app.users(1))
    await absorb()
    await nextPage(1)
    expect(await inside.states(event)).toEqual({
      indexed: 1,
      skipped: 1,
      failed: 1,
      queued: 1,
      running: 1,
      sent: 2,
    })

    const all = async () => [
      (await owner.query('select * from indexing.face_jobs order by user_id')).rows,
      (await owner.query('select * from indexing.event_runs')).rows,
      (await owner.query('select * from public.events')).rows,
    ]
    const before = await all()
    expect(await sweep()).toEqual({ jobs: 0, failed: 0 })
    expect(await all()).toEqual(before)
  })

  it('counts each job once when ten sweep at the same moment', async () => {
    const { begin, event, inside, messages, sweep } = await sentEvent(60)
    await begin(messages.slice(0, 30))
    await inside.expireLeases()
    await inside.ageMessages(1000)
    const swept = await atOnce(10, () => sweep())
    expect(swept.reduce((sum, { jobs }) => sum + jobs, 0)).toBe(60)
    expect((await inside.jobs(event)).map(({ version, attempts }) => [version, attempts])).toEqual(
      Array(60).fill([2, 1]),
    )
  })

  it('does not wait for a job that another holds', async () => {
    const { begin, inside, messages, serviceSession, sweep } = await sentEvent(2)
    await begin(messages)
    await inside.expireLeases()
    const worker = await serviceSession()
    await worker.query('begin')
    await worker.query('select public.indexing_begin($1, gen_random_uuid(), 60, 1)', [
      JSON.stringify(messages.slice(0, 1)),
    ])
    expect(await sweep()).toEqual({ jobs: 1, failed: 0 })
    await worker.query('commit')
    expect(await sweep()).toEqual({ jobs: 0, failed: 0 })
  })

  it('settles the event whose last finisher did not', async () => {
    const { app, event, inside, messages, owner, sweep, work } = await sentEvent(1)
    await work(messages)
    await owner.query(
      "update indexing.event_runs set state = 'in_progress', settled_at = null; update public.events set indexing_status = 'in_progress'",
    )
    await sweep()
    expect(await app.status(event)).toBe('completed')
    expect(await inside.run(event)).toMatchObject({ state: 'completed' })
  })
})

describe('an event whose collection cannot be made', () => {
  /** A claimed event whose collection could not be made so many times. */
  async function stuckEvent(attempts: number) {
    const ledger = await openLedger()
    const event = await ledger.app.event()
    const users = await ledger.app.users(2)
    await ledger.app.consent(event, users)
    await ledger.claim()
    for (let attempt = 0; attempt < attempts; attempt++)
      await ledger.collectionsDone([{ event_id: event, result: 'failed', error: 'AccessDeniedException' }])
    return { ...ledger, event, users }
  }

  it('goes on after nine attempts', async () => {
    const { app, event, inside, sweep } = await stuckEvent(9)
    await sweep()
    expect(await app.status(event)).toBe('in_progress')
    expect(await inside.run(event)).toMatchObject({ state: 'in_progress', collection_attempts: 9 })
  })

  it('has failed after ten', async () => {
    const { app, collections, event, inside, sweep } = await stuckEvent(10)
    await sweep()
    expect(await app.status(event)).toBe('failed')
    expect(await inside.run(event)).toMatchObject({
      state: 'failed',
      reason: 'collection_failed',
      collection_error: 'AccessDeniedException',
    })
    expect(await collections()).toEqual({ create: [], delete: [] })
  })

  it('fails who consents before and after that, with the error', async () => {
    const { absorb, app, event, inside, sweep } = await stuckEvent(10)
    const [before = '', after = ''] = await app.users(2)
    await absorb() // of those whom the claim has seen
    await app.consent(event, [before])
    await absorb()
    await sweep()
    await app.consent(event, [after])
    await absorb()
    await sweep()
    for (const user of [before, after])
      expect(await inside.job(event, user)).toMatchObject({
        state: 'failed',
        reason: 'collection_failed',
        error: 'AccessDeniedException',
      })
  })

  it('does not hold up the sweep when the app holds it', async () => {
    const { app, appSession, event, inside, sweep } = await stuckEvent(10)
    const session = await appSession()
    await session.query('begin')
    await session.query("update public.events set name = 'A talk'")
    await sweep()
    expect(await inside.run(event)).toMatchObject({ state: 'in_progress' })
    await session.query('commit')
    await sweep()
    expect(await app.status(event)).toBe('failed')
  })

  it('ends right when it is set back to pending by hand', async () => {
    const { app, event, inside, prepare, sendAll, sweep, work } = await stuckEvent(10)
    await sweep()
    await app.change(event, { indexing_status: "'pending'" })
    expect(await prepare()).toEqual([event])
    await work(await sendAll())
    expect(await inside.states(event)).toEqual({ indexed: 2 })
    expect(await app.status(event)).toBe('completed')
  })
})
