import { describe, expect, it } from 'vitest'
import { atOnce, faceOf, openLedger, sentEvent } from '../support/ledger.ts'

describe('the collections of claimed events', () => {
  it('are each handed to one scheduler, and again after a minute when it said nothing', async () => {
    const { app, claim, collections, owner } = await openLedger()
    const events = await app.events(40)
    await claim()
    const handed = await atOnce(8, () => collections())
    expect(handed.flatMap(({ create }) => create).sort()).toEqual(events.sort())
    expect(await collections()).toEqual({ create: [], delete: [] })
    await owner.query("update indexing.event_runs set collection_due = collection_due - interval '61 s'")
    expect((await collections()).create.sort()).toEqual(events)
  })

  it('are tried again after 1, 2, 4 … 60 s when they could not be made', async () => {
    const { app, claim, collectionsDone, owner } = await openLedger()
    const event = await app.event()
    await claim()
    const waits: number[] = []
    for (let attempt = 0; attempt < 9; attempt++) {
      await collectionsDone([{ event_id: event, result: 'failed', error: 'ThrottlingException' }])
      const { rows } = await owner.query<{ wait: number }>(
        'select round(extract(epoch from collection_due - now()))::int as wait from indexing.event_runs',
      )
      waits.push(...rows.map(({ wait }) => wait))
    }
    expect(waits).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60])
  })

  it('are known to be there, however often and by how many that is said', async () => {
    const { app, claim, collections, collectionsDone, inside } = await openLedger()
    const event = await app.event()
    await claim()
    await collections()
    await atOnce(5, () => collectionsDone([{ event_id: event, result: 'exists' }]))
    expect(await collectionsDone([{ event_id: event, result: 'created' }])).toEqual({ [event]: 'ready' })
    expect(await inside.run(event)).toMatchObject({ collection: 'ready', collection_attempts: 0 })
    expect(await collectionsDone([])).toEqual({})
  })
})

describe('a collection that is made anew while its event is indexed', () => {
  it('has every face of it indexed again, and what is being worked on looked at again', async () => {
    const { app, begin, collectionsDone, event, inside, messages, sendAll, work } = await sentEvent(3)
    await work(messages.slice(0, 2))
    await begin(messages.slice(2))
    expect(await collectionsDone([{ event_id: event, result: 'created' }])).toEqual({ [event]: 'ready' })
    expect(await inside.states(event)).toEqual({ queued: 2, running: 1 })
    const again = await begin(await sendAll())
    expect(again.tasks.map(({ action, keep, faces }) => [action, keep, faces])).toEqual(
      Array(2).fill(['index', null, []]),
    )
    expect(await app.status(event)).toBe('in_progress')
  })

  it('forgets nothing when it turns out to have been there', async () => {
    const { collectionsDone, event, inside, messages, users, work } = await sentEvent(1)
    await work(messages)
    await collectionsDone([{ event_id: event, result: 'exists' }])
    expect(await inside.job(event, users[0] ?? '')).toMatchObject({
      state: 'indexed',
      face_id: faceOf(`photos/${users[0]}`),
    })
  })
})

describe('the collection of a deleted event', () => {
  it('is deleted at once, and once more when nothing that was under way can still land in it', async () => {
    const { absorb, app, collections, collectionsDone, event, inside, owner } = await sentEvent(1)
    await app.deleteEvent(event)
    await absorb()
    expect(await collections()).toEqual({ create: [], delete: [event] })
    expect(await collectionsDone([{ event_id: event, result: 'deleted' }])).toEqual({
      [event]: 'closing_again',
    })
    expect(await collections()).toEqual({ create: [], delete: [] })
    await owner.query("update indexing.event_runs set collection_due = collection_due - interval '121 s'")
    expect(await collections()).toEqual({ create: [], delete: [event] })
    expect(await collectionsDone([{ event_id: event, result: 'deleted' }])).toEqual({ [event]: 'deleted' })
    expect((await inside.run(event)).state).toBe('completed')
  })

  it('is deleted again when a worker makes it, and the worker is told', async () => {
    const { absorb, app, collections, collectionsDone, event } = await sentEvent(1)
    await app.deleteEvent(event)
    await absorb()
    const done = (result: 'created' | 'deleted') => collectionsDone([{ event_id: event, result }])
    await collections()
    await done('deleted')
    expect(await done('created')).toEqual({ [event]: 'closing' })
    expect((await collections()).delete).toEqual([event])
    await done('deleted')
    await done('deleted')
    expect(await done('created')).toEqual({ [event]: 'closing' })
  })

  it('is deleted also when it was being made', async () => {
    const { absorb, app, claim, collections, collectionsDone } = await openLedger()
    const event = await app.event()
    await claim()
    expect((await collections()).create).toEqual([event])
    await app.deleteEvent(event)
    await absorb()
    expect(await collectionsDone([{ event_id: event, result: 'created' }])).toEqual({ [event]: 'closing' })
    expect((await collections()).delete).toEqual([event])
  })
})
