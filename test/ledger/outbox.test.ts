import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { JobRef } from '../../src/core/message.ts'
import { atOnce, openLedger, resultOf } from '../support/ledger.ts'

/** An event whose jobs are all queued. */
async function queuedEvent(attendees: number) {
  const ledger = await openLedger()
  const event = await ledger.app.event()
  const users = await ledger.app.users(attendees)
  await ledger.app.consent(event, users)
  await ledger.prepare()
  return { ...ledger, event, users }
}

const usersOf = (jobs: JobRef[]) => jobs.map((job) => job.user_id)

describe('the order of the outbox', () => {
  it('is erasures first, then the event that starts soonest', async () => {
    const { absorb, app, nextPage, prepare, sendAll, work } = await openLedger()
    const users = await app.users(2)
    const done = await app.event()
    await app.consent(done, users)
    await prepare()
    await work(await sendAll())

    const later = await app.event({ startsAt: "now() + interval '15 min'" })
    const sooner = await app.event({ startsAt: "now() + interval '5 min'" })
    for (const event of [later, sooner]) await app.consent(event, users)
    await prepare()
    await app.consent(done, users, false)
    await absorb()
    const { jobs } = await nextPage()
    expect(jobs.map((job) => job.event_id)).toEqual([done, done, sooner, sooner, later, later])
    expect(usersOf(jobs)).toEqual([...users, ...users, ...users])
  })

  it('follows a start that is moved after the claim', async () => {
    const { absorb, app, nextPage, prepare } = await openLedger()
    const users = await app.users(1)
    const [first = '', second = ''] = await app.events(2)
    for (const event of [first, second]) await app.consent(event, users)
    await prepare()
    await app.change(first, { starts_at: "now() + interval '1 h'" })
    await absorb()
    expect((await nextPage()).jobs.map((job) => job.event_id)).toEqual([second, first])
  })

  it('leaves out the jobs of an event whose collection is not there', async () => {
    const { app, claim, inside, nextPage, prepare } = await openLedger()
    const event = await app.event()
    await app.consent(event, await app.users(2))
    await prepare()
    await app.change(event, { indexing_status: "'pending'" })
    await claim()
    expect(await inside.states(event)).toEqual({ queued: 2 })
    expect(await nextPage()).toMatchObject({ jobs: [], left: 2 })
  })
})

describe('handing out pages', () => {
  it('gives no job to two of ten schedulers that ask at the same moment', async () => {
    const { event, inside, nextPage } = await queuedEvent(500)
    const pages = await atOnce(10, () => nextPage(40))
    const handed = pages.flatMap((page) => usersOf(page.jobs))
    expect(new Set(handed).size).toBe(handed.length)
    expect(handed).toHaveLength(400)
    expect((await nextPage(1000)).jobs).toHaveLength(100)
    expect(await inside.states(event)).toEqual({ sent: 500 })
  })

  it('sends all, each once, when five schedulers empty it page by page', async () => {
    const { event, inside, nextPage } = await queuedEvent(600)
    const sent = await atOnce(5, async () => {
      const messages: JobRef[] = []
      for (let page = await nextPage(25); page.jobs.length > 0; ) {
        messages.push(...page.jobs)
        page = await nextPage(25, 100_000, page.token)
      }
      return messages
    })
    expect(new Set(usersOf(sent.flat())).size).toBe(600)
    expect(sent.flat()).toHaveLength(600)
    expect(await inside.states(event)).toEqual({ sent: 600 })
  })

  it('gives a page again whose scheduler died, when its lease has run out and not before', async () => {
    const { inside, nextPage, users } = await queuedEvent(3)
    expect(usersOf((await nextPage()).jobs)).toEqual(users)
    expect(await nextPage()).toMatchObject({ jobs: [], left: 0 })
    await inside.expirePages()
    const { jobs } = await nextPage()
    expect(usersOf(jobs)).toEqual(users)
    expect(jobs).toMatchObject([{ version: 2 }, { version: 2 }, { version: 2 }])
  })

  it('sends what was left the messages of a page that may never have been sent, when its scheduler died', async () => {
    const { app, begin, event, finish, inside, nextPage, prepare } = await queuedEvent(3)
    const first = await nextPage()
    await nextPage(0, 100_000, first.token)
    const sooner = await app.event({ startsAt: "now() + interval '1 min'" })
    await app.consent(sooner, await app.users(2))
    await prepare()
    await nextPage(2) // and its scheduler dies
    const { tasks, token } = await begin(first.jobs) // two of these places are given to the page's jobs
    await finish(
      token,
      tasks.filter(({ action }) => action === 'index').map((task) => resultOf(task)),
    )
    expect(await inside.states(sooner)).toEqual({ indexed: 2 })
    expect(await inside.states(event)).toEqual({ indexed: 1, sent: 2 })
    await inside.expirePages()
    expect((await nextPage()).jobs).toMatchObject([{ event_id: event }, { event_id: event }])
  })

  it('does not take the word of a scheduler whose page has passed to another', async () => {
    const { event, inside, nextPage } = await queuedEvent(3)
    const slow = await nextPage()
    await inside.expirePages()
    const other = await nextPage()
    expect(usersOf(other.jobs)).toEqual(usersOf(slow.jobs))
    await nextPage(0, 100_000, slow.token)
    await inside.expirePages() // of the other, who died, too
    expect(usersOf((await nextPage()).jobs)).toEqual(usersOf(slow.jobs))
    expect(await inside.states(event)).toEqual({ sent: 3 })
  })

  it('keeps what SQS did not take, and gives it again after a minute, alone', async () => {
    const { inside, nextPage, users } = await queuedEvent(3)
    const page = await nextPage()
    const unsent = page.jobs.slice(1, 2)
    expect(await nextPage(1000, 100_000, page.token, unsent)).toMatchObject({ jobs: [], left: 0 })
    expect(await nextPage()).toMatchObject({ jobs: [] })
    await inside.expirePages()
    expect(usersOf((await nextPage()).jobs)).toEqual([users[1]])
  })

  it('takes the same confirmation twice', async () => {
    const { event, inside, nextPage } = await queuedEvent(3)
    const page = await nextPage()
    await atOnce(2, () => nextPage(0, 100_000, page.token))
    await inside.expirePages()
    expect(await nextPage()).toMatchObject({ jobs: [] })
    expect(await inside.states(event)).toEqual({ sent: 3 })
  })
})

describe('what happens to a job while its page is being sent', () => {
  it.each([
    ['a change of the app', 2],
    ['the result of a worker that had lost its lease', 2],
    ['a new claim of its event', 2],
    ['a collection that was made anew', 2],
  ])('%s: it is sent again with its new version', async (what, version) => {
    const { absorb, app, collectionsDone, event, finish, inside, nextPage, owner, prepare, sendAll, users } =
      await queuedEvent(1)
    const page = await nextPage()
    const [user = ''] = users
    if (what.startsWith('a change')) {
      await app.photo(user, 'photos/new')
      await absorb()
    } else if (what.startsWith('the result')) {
      const task = { event_id: event, user_id: user, version: 1, photo: 'photos/old', keep: null }
      await finish(randomUUID(), [
        resultOf({ ...task, action: 'index', faces: [], list: false, refused: null }),
      ])
    } else if (what.startsWith('a new claim')) {
      await app.change(event, { indexing_status: "'pending'" })
      await prepare()
    } else {
      await owner.query("update indexing.face_jobs set stray_face_ids = '{a}'")
      await collectionsDone([{ event_id: event, result: 'created' }])
    }
    await nextPage(0, 100_000, page.token)
    expect(await inside.states(event)).toEqual({ queued: 1 })
    expect(await sendAll()).toMatchObject([{ version }])
  })

  it('a worker that begins it: it stays with the worker', async () => {
    const { begin, event, inside, nextPage } = await queuedEvent(2)
    const page = await nextPage()
    await begin(page.jobs.slice(0, 1))
    await nextPage(0, 100_000, page.token)
    expect(await inside.states(event)).toEqual({ running: 1, sent: 1 })
  })
})

describe('how much lies in the queue', () => {
  it('is bounded, and more is sent as workers begin', async () => {
    const { begin, event, inside, nextPage } = await queuedEvent(30)
    const page = await nextPage(20, 12)
    expect(page.jobs).toHaveLength(12)
    expect(await nextPage(20, 12, page.token)).toMatchObject({ jobs: [], left: 18 })
    await begin(page.jobs.slice(0, 5))
    expect((await nextPage(20, 12)).jobs).toHaveLength(5)
    expect(await inside.states(event)).toEqual({ queued: 13, running: 5, sent: 12 })
  })

  it('does not hold up erasures', async () => {
    const { absorb, app, event, nextPage, users } = await queuedEvent(10)
    const page = await nextPage(5, 5)
    await nextPage(0, 5, page.token)
    const leaving = users.slice(7, 9)
    await app.leave(event, leaving)
    await absorb()
    expect(usersOf((await nextPage(20, 5)).jobs)).toEqual(leaving)
  })
})
