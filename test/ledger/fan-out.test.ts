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

describe('who changed something just before the claim', () => {
  /** Everybody's second look, by user; absorbed before the claim, as every run does. */
  async function looksAfter(
    change: (ledger: Awaited<ReturnType<typeof claimedEvent>>, user: string) => Promise<unknown>,
  ) {
    const ledger = await claimedEvent()
    const [changed = '', other = ''] = await ledger.app.users(2)
    await ledger.app.consent(ledger.event, [changed, other])
    await change(ledger, changed)
    await ledger.absorb()
    await ledger.claimed()
    await ledger.expand()
    const looks = new Map(
      (await ledger.inside.jobs(ledger.event)).map((job) => [job.user_id, job.second_look_at !== null]),
    )
    return { ...ledger, changed, looks: { changed: looks.get(changed), other: looks.get(other) } }
  }

  it.each([
    ['another photo', ({ app }, user) => app.photo(user, 'photos/new')],
    ['no photo any more', ({ app }, user) => app.photo(user, null)],
    ['consent taken back', ({ app, event }, user) => app.consent(event, [user], false)],
    ['the event left', ({ app, event }, user) => app.leave(event, [user])],
    ['the account deleted', ({ app }, user) => app.deleteAccounts([user])],
  ] as [string, Parameters<typeof looksAfter>[0]][])(
    '%s: looked at a second time a minute later, for what the app did late about what was before',
    async (_, change) => {
      const { begin, changed, event, inside, looks, owner, sendAll, sweep, work } = await looksAfter(change)
      expect(looks).toEqual({ changed: true, other: false })
      await work(await sendAll())
      expect((await inside.job(event, changed)).ended_at).not.toBeNull()
      await owner.query(
        "update indexing.face_jobs set second_look_at = now() - interval '1 s' where second_look_at > now()",
      )
      await sweep()
      expect((await begin(await sendAll())).tasks).toMatchObject([{ user_id: changed, list: true }])
    },
  )

  it.each([
    [
      'a first photo',
      async ({ app, owner }, user) => {
        await app.photo(user, null)
        await owner.query('truncate indexing.changes')
        await app.photo(user, 'photos/first')
      },
    ],
    ['nothing but the consent', () => Promise.resolve()],
    [
      'something, over a minute before',
      async ({ app, owner }, user) => {
        await app.photo(user, 'photos/new')
        await owner.query("update indexing.changes set noted_at = now() - interval '61 s'")
      },
    ],
  ] as [string, Parameters<typeof looksAfter>[0]][])('%s: not looked at twice', async (_, change) => {
    const { looks } = await looksAfter(change)
    expect(looks).toEqual({ changed: false, other: false })
  })
})

describe('writing the jobs of a claimed event', () => {
  it('writes one for each attendee who consents, page by page, and none for anybody else', async () => {
    const { app, claimed, event, expand, inside } = await claimedEvent()
    const users = await app.users(25)
    await app.consent(event, users)
    await app.consent(event, await app.users(5), false)
    await app.consent(await app.event({ active: false }), await app.users(5))
    await claimed()
    expect(await expand(10)).toEqual({ jobs: 10, more: true })
    expect(await expand(10)).toEqual({ jobs: 10, more: true })
    expect((await inside.run(event)).expanded_at).toBeNull()
    expect(await expand(10)).toEqual({ jobs: 5, more: true })
    expect((await inside.run(event)).expanded_at).not.toBeNull()
    expect(await expand(10)).toEqual({ jobs: 0, more: false })
    expect((await inside.jobs(event)).map((job) => job.user_id)).toEqual(users)
    expect(await app.status(event)).toBe('in_progress')
  })

  it('knows that all are written when the last page is full', async () => {
    const { app, claimed, event, expand, inside } = await claimedEvent()
    await app.consent(event, await app.users(20))
    await claimed()
    while ((await expand(10)).more) {}
    expect((await inside.run(event)).expanded_at).not.toBeNull()
    expect(await inside.states(event)).toEqual({ queued: 20 })
  })

  it('waits for the collection', async () => {
    const { app, claim, collectionsDone, event, expand, inside } = await claimedEvent()
    await app.consent(event, await app.users(2))
    await claim()
    expect(await expand()).toEqual({ jobs: 0, more: false })
    await collectionsDone([{ event_id: event, result: 'failed', error: 'away' }])
    expect(await expand()).toEqual({ jobs: 0, more: false })
    await collectionsDone([{ event_id: event, result: 'exists' }])
    expect(await expand()).toEqual({ jobs: 2, more: true })
    expect(await inside.states(event)).toEqual({ queued: 2 })
  })

  it('completes an event with nobody in it', async () => {
    const { app, claimed, event, expand, inside } = await claimedEvent()
    await app.consent(event, await app.users(3), false)
    await claimed()
    expect(await expand()).toEqual({ jobs: 0, more: true })
    expect(await app.status(event)).toBe('completed')
    expect(await inside.run(event)).toMatchObject({ state: 'completed', reason: null })
  })

  it('takes the event that starts soonest first', async () => {
    const { app, claim, collections, collectionsDone, expand, inside } = await openLedger()
    const users = await app.users(3)
    const later = await app.event({ startsAt: "now() + interval '10 min'" })
    const sooner = await app.event({ startsAt: "now() + interval '5 min'" })
    for (const event of [later, sooner]) await app.consent(event, users)
    await claim()
    const { create } = await collections()
    await collectionsDone(create.map((event_id) => ({ event_id, result: 'created' })))
    await expand(3)
    expect(await inside.states(sooner)).toEqual({ queued: 3 })
    expect(await inside.states(later)).toEqual({})
  })

  it('writes those of many small events in one call', async () => {
    const { app, claim, collections, collectionsDone, expand, inside } = await openLedger()
    const users = await app.users(2)
    const events = await app.events(20)
    for (const event of events) await app.consent(event, users)
    await claim()
    const { create } = await collections()
    await collectionsDone(create.map((event_id) => ({ event_id, result: 'created' })))
    expect(await expand()).toEqual({ jobs: 40, more: true })
    for (const event of events) expect((await inside.run(event)).expanded_at).not.toBeNull()
    expect(await expand()).toEqual({ jobs: 0, more: false })
  })

  it('writes each attendee once when ten schedulers expand while consents come and go', async () => {
    const { absorb, app, claimed, event, expand, inside } = await claimedEvent()
    const users = await app.users(400)
    const coming = users.filter((_, index) => index % 4 === 0)
    const going = users.filter((_, index) => index % 4 === 1)
    await app.consent(event, going)
    await app.consent(
      event,
      users.filter((_, index) => index % 4 > 1),
    )
    await claimed()
    const expanding = atOnce(10, async () => {
      while ((await expand(15)).more) {}
    })
    const changing = atOnce(10, async (lane) => {
      for (let at = lane; at < coming.length; at += 10) {
        await app.consent(event, coming.slice(at, at + 1))
        await app.consent(event, going.slice(at, at + 1), false)
        if (at % 3 === 0) await absorb(7)
      }
    })
    await Promise.all([expanding, changing])
    while ((await absorb(50)).changes > 0) {}

    const jobs = await inside.jobs(event)
    expect(new Set(jobs.map((job) => job.user_id)).size).toBe(jobs.length)
    const known = new Set(jobs.map((job) => job.user_id))
    for (const user of users) if (!going.includes(user)) expect(known).toContain(user)
    // Whoever consented when the page was written has a job, which will find the consent gone.
    expect(jobs.every((job) => job.state === 'queued')).toBe(true)
  })

  it('queues again, once, whoever the ledger knows from an earlier claim', async () => {
    const { app, event, inside, prepare, sendAll, work } = await claimedEvent()
    const [gone = '', stays = '', failed = ''] = await app.users(3)
    await app.consent(event, [gone, stays, failed])
    await prepare()
    const messages = await sendAll()
    await work(messages.filter(({ user_id }) => user_id !== failed))
    await work(
      messages.filter(({ user_id }) => user_id === failed),
      { outcome: 'failed', face_id: null },
    )
    expect(await app.status(event)).toBe('failed')
    await app.leave(event, [gone])
    await app.change(event, { indexing_status: "'pending'" })
    await prepare()
    expect(await inside.states(event)).toEqual({ queued: 3 })
    await work(await sendAll())
    expect(await inside.job(event, gone)).toMatchObject({ state: 'erased', reason: 'no_consent' })
    expect(await inside.job(event, stays)).toMatchObject({ state: 'indexed', index_calls: 1 })
    expect(await inside.job(event, failed)).toMatchObject({ state: 'indexed', error: null })
    expect(await app.status(event)).toBe('completed')
  })

  it.each([
    ['sweep', { died: true }],
    ['finalizer', { died: false }],
  ])('queues again what the %s has failed between the claim and this', async (_, { died }) => {
    const { app, begin, bury, claimed, event, expand, inside, owner, prepare, sendAll, sweep } =
      await claimedEvent()
    await app.consent(event, await app.users(1))
    await prepare()
    const messages = await sendAll()
    if (died) await begin(messages)
    await owner.query('update indexing.face_jobs set attempts = 5')
    await app.change(event, { indexing_status: "'pending'" })
    await claimed()
    await inside.expireLeases()
    if (died) await sweep()
    else await bury(messages)
    expect(await inside.states(event)).toEqual({ failed: 1 })
    await expand()
    expect(await inside.states(event)).toEqual({ queued: 1 })
  })

  it('leaves a running job with its worker, who hears of the new claim when it reports', async () => {
    const { app, begin, event, finish, inside, prepare, sendAll } = await claimedEvent()
    await app.consent(event, await app.users(1))
    await prepare()
    const { token, tasks } = await begin(await sendAll())
    await app.change(event, { indexing_status: "'pending'" })
    await prepare()
    expect(await inside.states(event)).toEqual({ running: 1 })
    const nexts = await finish(
      token,
      tasks.map((task) => resultOf(task)),
    )
    expect(nexts).toMatchObject([{ next: 'again', version: 2 }])
  })
})
