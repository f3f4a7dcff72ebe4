import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { JobRef } from '../../src/core/message.ts'
import { atOnce, openLedger, resultOf } from '../support/ledger.ts'

/** A later event whose messages are all in the queue, and a sooner one whose jobs wait in the outbox. */
async function twoEvents(later: number, sooner: number) {
  const ledger = await openLedger()
  const { app, prepare, sendAll } = ledger
  const laterEvent = await app.event({ startsAt: "now() + interval '15 min'" })
  await app.consent(laterEvent, await app.users(later))
  await prepare()
  const messages = await sendAll()
  const soonerEvent = await app.event({ startsAt: "now() + interval '5 min'" })
  await app.consent(soonerEvent, await app.users(sooner))
  await prepare()
  return { ...ledger, laterEvent, soonerEvent, messages }
}

const eventsOf = (jobs: JobRef[]) => jobs.map((job) => job.event_id)

describe('a batch of less urgent messages', () => {
  it('gives its places to the more urgent jobs of the outbox, and what gave them goes there', async () => {
    const { begin, inside, laterEvent, messages, sendAll, soonerEvent } = await twoEvents(5, 2)
    const { tasks } = await begin(messages.slice(0, 3))
    expect(eventsOf(tasks).sort()).toEqual([laterEvent, soonerEvent, soonerEvent].sort())
    for (const task of tasks) expect(task).toMatchObject({ action: 'index', list: false })
    expect(await inside.states(soonerEvent)).toEqual({ running: 2 })
    expect(await inside.states(laterEvent)).toEqual({ running: 1, sent: 2, queued: 2 })
    expect(eventsOf(await sendAll())).toEqual([laterEvent, laterEvent])
  })

  it('gives its places to more urgent jobs of the queue, and what gave them has the places of their messages', async () => {
    const { inside, laterEvent, messages, sendAll, soonerEvent, work } = await twoEvents(5, 2)
    const urgent = await sendAll()
    await work(messages.slice(0, 3))
    expect(await inside.states(soonerEvent)).toEqual({ indexed: 2 })
    expect(await inside.states(laterEvent)).toEqual({ indexed: 1, sent: 4 })
    await work(urgent)
    expect(await inside.states(laterEvent)).toEqual({ indexed: 3, sent: 2 })
    await work(messages.slice(3))
    expect(await inside.states(laterEvent)).toEqual({ indexed: 5 })
    for (const job of await inside.jobs(laterEvent)) expect(job.index_calls).toBe(1)
  })

  it('leaves a message in the queue for every job that waits for one', async () => {
    const { inside, laterEvent, messages, nextPage, soonerEvent, work } = await twoEvents(6, 3)
    const page = await nextPage(2) // two of the three urgent ones are sent
    await nextPage(0, 100_000, page.token)
    const sent = async () =>
      ((await inside.states(laterEvent)).sent ?? 0) + ((await inside.states(soonerEvent)).sent ?? 0)
    for (const [handled, left] of [
      [messages.slice(0, 2), 6],
      [page.jobs, 4], // whose jobs were done in the places of the first
      [messages.slice(2, 5), 1],
      [messages.slice(5), 0],
    ] as const) {
      await work([...handled])
      expect(await sent()).toBeLessThanOrEqual(left)
    }
    expect(await inside.states(soonerEvent)).toEqual({ indexed: 3 })
  })

  it('keeps its places from jobs that wait for another try', async () => {
    const { begin, laterEvent, messages, sendAll, work } = await twoEvents(2, 2)
    await work(await sendAll(), { outcome: 'retry', face_id: null, error: 'not there yet' })
    const { tasks } = await begin(messages)
    expect(eventsOf(tasks)).toEqual([laterEvent, laterEvent])
  })

  it('gives all of them to erasures', async () => {
    const { absorb, app, begin, laterEvent, messages, work } = await twoEvents(4, 0)
    await work(messages.slice(0, 2))
    await absorb()
    const gone = messages.slice(0, 2).map(({ user_id }) => user_id)
    await app.leave(laterEvent, gone)
    await absorb()
    const { tasks } = await begin(messages.slice(2))
    expect(tasks.map(({ user_id }) => user_id).sort()).toEqual(gone)
    expect(tasks).toMatchObject([{ action: 'erase' }, { action: 'erase' }])
  })

  it('is given the same when it is asked again with its token', async () => {
    const { begin, finish, inside, laterEvent, messages, soonerEvent } = await twoEvents(4, 2)
    const token = randomUUID()
    const first = await begin(messages.slice(0, 3), token)
    const again = await begin(messages.slice(0, 3), token)
    const acting = again.tasks.filter(({ action }) => action !== 'none')
    expect(eventsOf(acting).sort()).toEqual(eventsOf(first.tasks).sort())
    await finish(
      token,
      acting.map((task) => resultOf(task)),
    )
    expect(await inside.states(soonerEvent)).toEqual({ indexed: 2 })
    expect(await inside.states(laterEvent)).toEqual({ indexed: 1, sent: 1, queued: 2 })
  })

  it('keeps its places from jobs that are as urgent, or without a collection', async () => {
    const { app, begin, claim, laterEvent, messages, prepare } = await twoEvents(4, 0)
    const nowEvent = await app.event({ startsAt: 'now()' })
    await app.consent(nowEvent, await app.users(2))
    await prepare()
    await app.change(nowEvent, { indexing_status: "'pending'" })
    await claim() // its collection is not made yet
    const { tasks } = await begin(messages)
    expect(eventsOf(tasks)).toEqual(Array(4).fill(laterEvent))
    expect(tasks.map(({ action }) => action)).toEqual(Array(4).fill('index'))
  })

  it('gives each urgent job to one of twenty workers, and every job is done once', async () => {
    const { begin, finish, inside, laterEvent, messages, sendAll, soonerEvent, work } = await twoEvents(
      200,
      50,
    )
    const given = await atOnce(20, async (worker) => {
      const { token, tasks } = await begin(messages.filter((_, index) => index % 20 === worker))
      const acting = tasks.filter(({ action }) => action === 'index')
      await finish(
        token,
        acting.map((task) => resultOf(task)),
      )
      return acting
    })
    const urgent = given.flat().filter(({ event_id }) => event_id === soonerEvent)
    expect(urgent).toHaveLength(50)
    expect(new Set(urgent.map(({ user_id }) => user_id)).size).toBe(50)
    for (let sent = await sendAll(); sent.length > 0; sent = await sendAll()) await work(sent)
    for (const event of [soonerEvent, laterEvent])
      for (const job of await inside.jobs(event))
        expect(job).toMatchObject({ state: 'indexed', index_calls: 1 })
  })
})
