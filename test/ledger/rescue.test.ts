import { describe, expect, it } from 'vitest'
import { atOnce, failedWith, one, only, refusedFor, resultOf, sentEvent } from '../support/ledger.ts'

const NOTHING = { jobs: 0, failed: 0, looked_again: 0 }

describe('a job whose worker died', () => {
  it('is queued again with a new version when the lease has run out, and not before', async () => {
    const { event, inside, lease, messages, rescue, sendAll } = await sentEvent(2)
    await lease(messages)
    expect(await rescue()).toEqual(NOTHING)
    await inside.expireLeases()
    expect(await rescue()).toMatchObject({ jobs: 2, failed: 0 })
    expect(await inside.states(event)).toEqual({ queued: 2 })
    const again = await sendAll()
    expect(again.map(({ version }) => version)).toEqual([2, 2])
    expect((await lease(again)).tasks).toMatchObject([{ needs_listing: true }, { needs_listing: true }])
  })

  it('has failed when five of them have', async () => {
    const { app, event, inside, lease, messages, rescue, sendAll, users } = await sentEvent(1)
    let sent = messages
    for (let died = 1; died <= 5; died++) {
      expect(await app.status(event)).toBe('in_progress')
      await lease(sent)
      await inside.expireLeases()
      expect(await rescue()).toMatchObject({ jobs: 1, failed: died === 5 ? 1 : 0 })
      sent = await sendAll()
    }
    expect(await inside.job(event, only(users))).toMatchObject({
      state: 'failed',
      reason: 'worker_lost',
      error: 'its worker died or lost the database, five times',
      needs_listing: true,
    })
    expect(await app.status(event)).toBe('failed')
  })

  it('keeps the error of an attempt that left one', async () => {
    const { event, inside, lease, messages, owner, rescue, users, work } = await sentEvent(1)
    await work(messages, failedWith('InternalServerError'))
    await lease(messages)
    await owner.query('update indexing.face_jobs set attempts = 5')
    await inside.expireLeases()
    await rescue()
    expect(await inside.job(event, only(users))).toMatchObject({
      state: 'failed',
      reason: 'unavailable',
      error: 'InternalServerError',
    })
  })
})

describe('a job whose message is gone', () => {
  it('is queued again with a new version when it is older than the bound, and not before', async () => {
    const { event, inside, messages, rescue, sendAll, work } = await sentEvent(2)
    await inside.ageMessages(299)
    expect(await rescue(300)).toEqual(NOTHING)
    await inside.ageMessages(301)
    expect(await rescue(300)).toMatchObject({ jobs: 2, failed: 0 })
    expect(await inside.states(event)).toEqual({ queued: 2 })
    const again = await sendAll()
    expect(again.map(({ version }) => version)).toEqual([2, 2])
    await work(messages) // it was alive after all, and is stale
    await work(again)
    for (const job of await inside.jobs(event))
      expect(job).toMatchObject({ state: 'indexed', version: 2, index_calls: 1 })
  })

  it('waits out a backoff, which begins when the worker completes', async () => {
    const { event, inside, messages, rescue, work } = await sentEvent(1)
    await inside.ageMessages(299)
    await work(messages, failedWith('AccessDeniedException'))
    expect(await rescue(300)).toEqual(NOTHING)
    await inside.ageMessages(301)
    expect(await rescue(300)).toMatchObject({ jobs: 1, failed: 0 })
    expect(await inside.states(event)).toEqual({ queued: 1 })
  })

  it('has failed when ten were lost, each waited for longer than the one before', async () => {
    const { app, event, inside, rescue, sendAll, users } = await sentEvent(1)
    for (let lost = 1; lost <= 10; lost++) {
      expect(await app.status(event)).toBe('in_progress')
      await inside.ageMessages(300 * lost - 1)
      expect(await rescue(300)).toEqual(NOTHING)
      await inside.ageMessages(300 * lost + 1)
      expect(await rescue(300)).toMatchObject({ jobs: 1, failed: lost === 10 ? 1 : 0 })
      await sendAll()
    }
    expect(await inside.job(event, only(users))).toMatchObject({
      state: 'failed',
      reason: 'message_lost',
      error: 'its message was lost or waited too long, ten times',
    })
    expect(await app.status(event)).toBe('failed')
  })
})

describe('a job that has failed', () => {
  /** In how many minutes the job is looked at again; undefined: not by itself. */
  const minutes = (look_again_at: Date | null) =>
    look_again_at === null ? undefined : Math.round((Number(look_again_at) - Date.now()) / 60_000)

  it('is tried again by itself at growing intervals, and its event heals', async () => {
    const { app, event, fail, inside, messages, owner, rescue, sendAll, users, work } = await sentEvent(1)
    const waits: (number | undefined)[] = []
    let sent = messages
    for (let time = 0; time < 6; time++) {
      await fail(sent)
      waits.push(minutes((await inside.job(event, only(users))).look_again_at))
      expect(await rescue()).toEqual(NOTHING)
      await owner.query('update indexing.face_jobs set look_again_at = now()')
      expect(await rescue()).toMatchObject({ looked_again: 1 })
      sent = await sendAll()
    }
    expect(waits).toEqual([5, 10, 20, 40, 60, 60])
    expect(await app.status(event)).toBe('failed')
    await work(sent)
    expect(await inside.job(event, only(users))).toMatchObject({ state: 'indexed', failures: 0 })
    expect(await app.status(event)).toBe('completed')
  })

  it('is not tried again by itself when its event is over', async () => {
    const { app, event, fail, inside, messages, processChanges, users } = await sentEvent(1)
    await app.change(event, { ends_at: "now() - interval '1 s'" })
    await processChanges()
    await fail(messages)
    expect(minutes((await inside.job(event, only(users))).look_again_at)).toBeUndefined()
  })
})

describe('rescue', () => {
  it('touches nothing else', async () => {
    const {
      app,
      complete,
      event,
      fail,
      inside,
      lease,
      messages,
      owner,
      processChanges,
      rescue,
      takeSendBatch,
    } = await sentEvent(6)
    await fail(messages.slice(5))
    const { token, tasks } = await lease(messages.slice(0, 4))
    const [indexed, skipped, later] = tasks
    if (!indexed || !skipped || !later) throw new Error('too few tasks')
    await complete(token, [
      resultOf(indexed),
      resultOf(skipped, refusedFor('no_face')),
      resultOf(later, { ...failedWith('no time'), outcome: 'later' }),
    ])
    await app.consent(event, await app.users(1))
    await processChanges()
    await takeSendBatch({ page: 1 })
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
      (await owner.query('select * from indexing.send_batches')).rows,
      (await owner.query('select * from public.events')).rows,
    ]
    const before = await all()
    expect(await rescue()).toEqual(NOTHING)
    expect(await all()).toEqual(before)
  })

  it('counts each job once when ten schedulers come at the same moment', async () => {
    const { event, inside, lease, messages, rescue } = await sentEvent(60)
    await lease(messages.slice(0, 30))
    await inside.expireLeases()
    await inside.ageMessages(1000)
    const rescued = await atOnce(10, () => rescue())
    expect(rescued.reduce((sum, { jobs }) => sum + jobs, 0)).toBe(60)
    expect((await inside.jobs(event)).map(({ version }) => version)).toEqual(Array(60).fill(2))
  })

  it('does not wait for a job that another holds', async () => {
    const { inside, lease, messages, rescue, serviceSession } = await sentEvent(2)
    await lease(messages)
    await inside.expireLeases()
    const worker = await serviceSession()
    await worker.query('begin')
    await worker.query('select public.indexing_lease($1, gen_random_uuid(), 60)', [
      JSON.stringify(messages.slice(0, 1)),
    ])
    expect(await rescue()).toMatchObject({ jobs: 1, failed: 0 })
    await worker.query('commit')
    expect(await rescue()).toEqual(NOTHING)
  })

  it('settles the event whose last worker did not', async () => {
    const { app, event, inside, messages, owner, rescue, work } = await sentEvent(1)
    await work(messages)
    await owner.query(
      "update indexing.event_runs set state = 'in_progress', settled_at = null; update public.events set indexing_status = 'in_progress'",
    )
    await rescue()
    expect(await app.status(event)).toBe('completed')
    expect(await inside.run(event)).toMatchObject({ state: 'completed' })
  })

  it('gives up a send batch from the future: a clock was set back', async () => {
    const { app, inside, owner, prepare, rescue, takeSendBatch, event } = await sentEvent(0)
    await app.change(event, { indexing_status: "'pending'" })
    await app.consent(event, await app.users(2))
    await prepare()
    await takeSendBatch()
    await owner.query("update indexing.send_batches set handed_at = now() + interval '1 hour'")
    await rescue()
    expect(await inside.states(event)).toEqual({ queued: 2 })
    expect(await one(owner, 'select count(*)::int from indexing.send_batches')).toBe(0)
  })
})
