import { describe, expect, it } from 'vitest'
import { atOnce, openLedger, resultOf } from '../support/ledger.ts'

/** A claimed event whose collection is there and whose jobs are not written yet. */
async function claimedEvent() {
  const ledger = await openLedger()
  const event = await ledger.app.event()
  const claimed = async () => {
    await ledger.claim()
    await ledger.collectionsDone([{ event_id: event, result: 'exists' }])
  }
  return { ...ledger, event, claimed }
}

describe('writing the jobs of a claimed event', () => {
  it('writes one for each attendee who consents, page by page, and none for anybody else', async () => {
    const { app, claimed, event, fanOut, inside } = await claimedEvent()
    const users = await app.users(25)
    await app.consent(event, users)
    await app.consent(event, await app.users(5), false)
    await app.consent(await app.event({ active: false }), await app.users(5))
    await claimed()
    expect(await fanOut(10)).toEqual({ jobs: 10, more: true })
    expect(await fanOut(10)).toEqual({ jobs: 10, more: true })
    expect((await inside.run(event)).fanned_out_at).toBeNull()
    expect(await fanOut(10)).toEqual({ jobs: 5, more: true })
    expect((await inside.run(event)).fanned_out_at).not.toBeNull()
    expect(await fanOut(10)).toEqual({ jobs: 0, more: false })
    expect((await inside.jobs(event)).map((job) => job.user_id)).toEqual(users)
    for (const job of await inside.jobs(event))
      expect(job).toMatchObject({ state: 'queued', priority: 1, urgent: false, repeated: false })
    expect(await app.status(event)).toBe('in_progress')
  })

  it('knows that all are written when the last page is full', async () => {
    const { app, claimed, event, fanOut, inside } = await claimedEvent()
    await app.consent(event, await app.users(20))
    await claimed()
    while ((await fanOut(10)).more) {}
    expect((await inside.run(event)).fanned_out_at).not.toBeNull()
    expect(await inside.states(event)).toEqual({ queued: 20 })
  })

  it('waits for the collection', async () => {
    const { app, claim, collectionsDone, event, fanOut, inside } = await claimedEvent()
    await app.consent(event, await app.users(2))
    await claim()
    expect(await fanOut()).toEqual({ jobs: 0, more: false })
    await collectionsDone([{ event_id: event, result: 'failed', error: 'away' }])
    expect(await fanOut()).toEqual({ jobs: 0, more: false })
    await collectionsDone([{ event_id: event, result: 'exists' }])
    expect(await fanOut()).toEqual({ jobs: 2, more: true })
    expect(await inside.states(event)).toEqual({ queued: 2 })
  })

  it('completes an event with nobody in it', async () => {
    const { app, claimed, event, fanOut, inside } = await claimedEvent()
    await app.consent(event, await app.users(3), false)
    await claimed()
    expect(await fanOut()).toEqual({ jobs: 0, more: true })
    expect(await app.status(event)).toBe('completed')
    expect(await inside.run(event)).toMatchObject({ state: 'completed', reason: null })
  })

  it('takes the event that starts soonest first, and one that is over last', async () => {
    const { app, claim, collectionsDone, collectionsDue, fanOut, inside } = await openLedger()
    const users = await app.users(3)
    const over = await app.event({ startsAt: "now() - interval '13 h'" })
    const later = await app.event({ startsAt: "now() + interval '10 min'" })
    const sooner = await app.event({ startsAt: "now() + interval '5 min'" })
    for (const event of [over, later, sooner]) await app.consent(event, users)
    await claim()
    const { create } = await collectionsDue()
    await collectionsDone(create.map((event_id) => ({ event_id, result: 'created' })))
    await fanOut()
    expect(await inside.states(sooner)).toEqual({ queued: 3 })
    expect(await inside.states(later)).toEqual({})
    await fanOut()
    expect(await inside.states(later)).toEqual({ queued: 3 })
    expect(await inside.states(over)).toEqual({})
    await fanOut()
    for (const job of await inside.jobs(over)) expect(job).toMatchObject({ state: 'queued', priority: 2 })
  })

  it('writes each attendee once when ten schedulers fan out while consents come and go', async () => {
    const { app, claimed, event, fanOut, inside, processChanges, processSome } = await claimedEvent()
    const users = await app.users(400)
    const coming = users.filter((_, index) => index % 4 === 0)
    const going = users.filter((_, index) => index % 4 === 1)
    await app.consent(event, going)
    await app.consent(
      event,
      users.filter((_, index) => index % 4 > 1),
    )
    await processChanges()
    await claimed()
    const fanningOut = atOnce(10, async () => {
      while ((await fanOut(15)).more) {}
    })
    const changing = atOnce(10, async (lane) => {
      for (let at = lane; at < coming.length; at += 10) {
        await app.consent(event, coming.slice(at, at + 1))
        await app.consent(event, going.slice(at, at + 1), false)
        if (at % 3 === 0) await processSome(at % 2 === 0, 7)
      }
    })
    await Promise.all([fanningOut, changing])
    await processChanges(50)

    const jobs = await inside.jobs(event)
    const known = new Set(jobs.map((job) => job.user_id))
    expect(known.size).toBe(jobs.length)
    for (const user of users) if (!going.includes(user)) expect(known).toContain(user)
    // An attendee who consented when the page was written has a job, which will find the consent gone.
    expect(jobs.every((job) => job.state === 'queued')).toBe(true)
  })
})

describe('an event that is claimed again', () => {
  it('queues every attendee again, once, whom the ledger knows from an earlier claim', async () => {
    const { app, event, fail, inside, prepare, sendAll, work } = await claimedEvent()
    const [gone = '', stays = '', failed = ''] = await app.users(3)
    await app.consent(event, [gone, stays, failed])
    await prepare()
    const messages = await sendAll()
    await work(messages.filter(({ user_id }) => user_id !== failed))
    await fail(messages.filter(({ user_id }) => user_id === failed))
    expect(await app.status(event)).toBe('failed')
    await app.leave(event, [gone])
    await app.change(event, { indexing_status: "'pending'" })
    await prepare()
    expect(await inside.states(event)).toEqual({ queued: 3 })
    for (const job of await inside.jobs(event)) expect(job).toMatchObject({ repeated: true })
    await work(await sendAll())
    expect(await inside.job(event, gone)).toMatchObject({ state: 'erased', reason: 'no_consent' })
    expect(await inside.job(event, stays)).toMatchObject({ state: 'indexed', index_calls: 1 })
    expect(await inside.job(event, failed)).toMatchObject({ state: 'indexed', error: null })
    expect(await app.status(event)).toBe('completed')
  })

  it.each(['rescue', 'finalizer'])(
    'has a job queued again that the %s fails between claim and fan out',
    async (who) => {
      const { app, claimed, event, failDeadLetters, fanOut, inside, lease, owner, prepare, rescue, sendAll } =
        await claimedEvent()
      await app.consent(event, await app.users(1))
      await prepare()
      const messages = await sendAll()
      if (who === 'rescue') await lease(messages)
      await owner.query('update indexing.face_jobs set attempts = 5, dead_letters = 3')
      await app.change(event, { indexing_status: "'pending'" })
      await claimed()
      await inside.expireLeases()
      if (who === 'rescue') await rescue()
      else await failDeadLetters(messages)
      expect(await inside.states(event)).toEqual({ failed: 1 })
      expect(await app.status(event)).toBe('in_progress')
      await fanOut()
      expect(await inside.states(event)).toEqual({ queued: 1 })
    },
  )

  it('leaves a running job with its worker, who hears of the new claim when it completes', async () => {
    const { app, complete, event, inside, lease, prepare, sendAll } = await claimedEvent()
    await app.consent(event, await app.users(1))
    await prepare()
    const { token, tasks } = await lease(await sendAll())
    await app.change(event, { indexing_status: "'pending'" })
    await prepare()
    expect(await inside.states(event)).toEqual({ running: 1 })
    const nexts = await complete(
      token,
      tasks.map((task) => resultOf(task)),
    )
    expect(nexts).toMatchObject([{ next: 'again', version: 2 }])
  })
})
