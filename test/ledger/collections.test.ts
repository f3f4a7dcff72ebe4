import { describe, expect, it } from 'vitest'
import type { CollectionResult } from '../../src/core/contract.ts'
import { atOnce, faceOf, one, openLedger, sentEvent } from '../support/ledger.ts'

describe('the collections of claimed events', () => {
  it('are each handed to one scheduler, and again after 90 s when it did not report', async () => {
    const { app, claim, collectionsDue, owner } = await openLedger()
    const events = await app.events(40)
    await claim()
    const handed = await atOnce(8, () => collectionsDue())
    expect(handed.flatMap(({ create }) => create).sort()).toEqual(events.sort())
    expect(await collectionsDue()).toEqual({ create: [], delete: [] })
    await owner.query("update indexing.event_runs set collection_due = collection_due - interval '91 s'")
    expect((await collectionsDue()).create.sort()).toEqual(events)
  })

  it('are handed out page by page, the event that starts soonest first', async () => {
    const { app, claim, collectionsDue } = await openLedger()
    const events = await app.events(5)
    await claim()
    expect((await collectionsDue(2)).create.sort()).toEqual(events.slice(0, 2).sort())
    expect((await collectionsDue(2)).create.sort()).toEqual(events.slice(2, 4).sort())
    expect((await collectionsDue(2)).create).toEqual(events.slice(4))
  })

  it('are tried again after 1, 2, 4 … 300 s when they could not be created', async () => {
    const { app, claim, collectionsDone, owner } = await openLedger()
    const event = await app.event()
    await claim()
    const waits: number[] = []
    for (let attempt = 0; attempt < 11; attempt++) {
      await collectionsDone([{ event_id: event, result: 'failed', error: 'ThrottlingException' }])
      const wait = 'select round(extract(epoch from collection_due - now()))::int from indexing.event_runs'
      waits.push(await one<number>(owner, wait))
    }
    expect(waits).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300])
  })

  it('are known to be there, however often and by how many that is reported', async () => {
    const { app, claim, collectionsDone, collectionsDue, inside } = await openLedger()
    const event = await app.event()
    await claim()
    await collectionsDue()
    await atOnce(5, () => collectionsDone([{ event_id: event, result: 'exists' }]))
    expect(await collectionsDone([{ event_id: event, result: 'created' }])).toEqual({ [event]: 'ready' })
    expect(await inside.run(event)).toMatchObject({ collection: 'ready', collection_attempts: 0 })
    expect(await collectionsDone([])).toEqual({})
  })

  it('are reconciled at once when they existed before: the app may have put faces there', async () => {
    const { app, claim, collectionsDone, reconcileDue } = await openLedger()
    const [existed = '', created = ''] = await app.events(2)
    await claim()
    await collectionsDone([
      { event_id: existed, result: 'exists' },
      { event_id: created, result: 'created' },
    ])
    expect((await reconcileDue()).map(({ event_id }) => event_id)).toEqual([existed])
  })
})

describe('a collection that is created anew while its event is indexed', () => {
  it('has every face of it indexed again, and running jobs looked at again', async () => {
    const { app, collectionsDone, event, inside, lease, messages, sendAll, work } = await sentEvent(3)
    await work(messages.slice(0, 2))
    await lease(messages.slice(2))
    expect(await collectionsDone([{ event_id: event, result: 'created' }])).toEqual({ [event]: 'ready' })
    expect(await inside.states(event)).toEqual({ queued: 2, running: 1 })
    const again = await lease(await sendAll())
    expect(again.tasks.map(({ face_id, face_etag }) => [face_id, face_etag])).toEqual(
      Array(2).fill([null, null]),
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

  it('may be created by a worker while the event is open, and not after', async () => {
    const { app, event, mayCreateCollection, processChanges } = await sentEvent(1)
    const unclaimed = await app.event({ startsAt: "now() + interval '1 day'" })
    expect(await mayCreateCollection(event)).toBe(true)
    expect(await mayCreateCollection(unclaimed)).toBe(false)
    await app.change(event, { cleanup_status: "'in_progress'" })
    expect(await mayCreateCollection(event)).toBe(false) // before the change is processed
    await app.change(event, { cleanup_status: "'pending'" })
    expect(await mayCreateCollection(event)).toBe(true)
    await app.deleteEvent(event)
    expect(await mayCreateCollection(event)).toBe(false)
    await processChanges()
    expect(await mayCreateCollection(event)).toBe(false)
  })
})

describe('the collection of a deleted event', () => {
  it('is deleted at once, and once more when nothing that was under way can still land in it', async () => {
    const { app, collectionsDone, collectionsDue, event, inside, owner, processChanges } = await sentEvent(1)
    await app.deleteEvent(event)
    await processChanges()
    expect(await collectionsDue()).toEqual({ create: [], delete: [event] })
    expect(await collectionsDone([{ event_id: event, result: 'deleted' }])).toEqual({ [event]: 'closing' })
    expect(await collectionsDue()).toEqual({ create: [], delete: [] })
    await owner.query(`update indexing.event_runs
      set collection_due = collection_due - interval '121 s', closed_at = closed_at - interval '121 s'`)
    expect(await collectionsDue()).toEqual({ create: [], delete: [event] })
    expect(await collectionsDone([{ event_id: event, result: 'deleted' }])).toEqual({ [event]: 'deleted' })
    expect((await inside.run(event)).state).toBe('completed')
  })

  it('is deleted again when a worker creates it, and the worker is told', async () => {
    const { app, collectionsDone, collectionsDue, event, processChanges } = await sentEvent(1)
    await app.deleteEvent(event)
    await processChanges()
    const done = (result: 'created' | 'deleted', quiet?: number) =>
      collectionsDone([{ event_id: event, result }], quiet)
    await collectionsDue()
    await done('deleted')
    expect(await done('created')).toEqual({ [event]: 'closing' })
    expect((await collectionsDue()).delete).toEqual([event])
    expect(await done('deleted', 0)).toEqual({ [event]: 'deleted' })
    expect(await done('created')).toEqual({ [event]: 'closing' })
  })

  it('is deleted also when it was being created', async () => {
    const { app, claim, collectionsDone, collectionsDue, processChanges } = await openLedger()
    const event = await app.event()
    await claim()
    expect((await collectionsDue()).create).toEqual([event])
    await app.deleteEvent(event)
    await processChanges()
    expect(await collectionsDone([{ event_id: event, result: 'created' }])).toEqual({ [event]: 'closing' })
    expect((await collectionsDue()).delete).toEqual([event])
  })

  it('is tried again when it could not be deleted, however often', async () => {
    const { app, collectionsDone, event, inside, processChanges } = await sentEvent(1)
    await app.deleteEvent(event)
    await processChanges()
    for (let attempt = 0; attempt < 12; attempt++)
      await collectionsDone([{ event_id: event, result: 'failed', error: 'AccessDeniedException' }])
    expect(await inside.run(event)).toMatchObject({
      collection: 'closing',
      collection_attempts: 12,
      collection_error: 'AccessDeniedException',
      state: 'completed',
    })
  })
})

describe('an event whose collection cannot be created', () => {
  /** A claimed event whose collection could not be created so many times. */
  async function stuckEvent(attempts: number) {
    const ledger = await openLedger()
    const event = await ledger.app.event()
    const users = await ledger.app.users(2)
    await ledger.app.consent(event, users)
    await ledger.claim()
    const failed: CollectionResult = { event_id: event, result: 'failed', error: 'AccessDeniedException' }
    for (let attempt = 0; attempt < attempts; attempt++) await ledger.collectionsDone([failed])
    return { ...ledger, event, failed, users }
  }

  const dueNow = 'update indexing.event_runs set collection_due = now()'

  it('goes on after nine attempts', async () => {
    const { app, event, inside, rescue } = await stuckEvent(9)
    await rescue()
    expect(await app.status(event)).toBe('in_progress')
    expect(await inside.run(event)).toMatchObject({ state: 'in_progress', collection_attempts: 9 })
  })

  it('has failed after ten, and is tried on', async () => {
    const { app, collectionsDue, event, inside, owner } = await stuckEvent(10)
    expect(await app.status(event)).toBe('failed')
    expect(await inside.run(event)).toMatchObject({
      state: 'failed',
      reason: 'collection_failed',
      collection_error: 'AccessDeniedException',
    })
    expect(await collectionsDue()).toEqual({ create: [], delete: [] })
    await owner.query(dueNow)
    expect(await collectionsDue()).toEqual({ create: [event], delete: [] })
  })

  it('is not tried on when it is over', async () => {
    const { app, collectionsDue, event, owner, processChanges } = await stuckEvent(10)
    await app.change(event, { ends_at: "now() - interval '1 s'" })
    await processChanges()
    await owner.query(dueNow)
    expect(await collectionsDue()).toEqual({ create: [], delete: [] })
  })

  it('heals by itself when the collection can be created at last', async () => {
    const { app, collectionsDone, event, inside, prepare, processChanges, rescue, sendAll, work } =
      await stuckEvent(10)
    const late = await app.users(1)
    await app.consent(event, late)
    await processChanges()
    await rescue()
    expect((await inside.states(event)).failed).toBeGreaterThan(0)
    await collectionsDone([{ event_id: event, result: 'created' }])
    expect(await app.status(event)).toBe('in_progress')
    await prepare()
    await work(await sendAll())
    expect(await inside.states(event)).toEqual({ indexed: 3 })
    expect(await app.status(event)).toBe('completed')
  })

  it('fails attendees who consent before and after that, with the error', async () => {
    const { app, collectionsDone, event, failed, inside, processChanges, rescue } = await stuckEvent(9)
    const [before = '', after = ''] = await app.users(2)
    await app.consent(event, [before])
    await processChanges()
    await collectionsDone([failed])
    await rescue()
    await app.consent(event, [after])
    await processChanges()
    await rescue()
    for (const user of [before, after])
      expect(await inside.job(event, user)).toMatchObject({
        state: 'failed',
        reason: 'collection_failed',
        error: 'AccessDeniedException',
      })
  })

  it('is failed by the next attempt when the app holds its row', async () => {
    const { app, appSession, collectionsDone, event, failed, inside } = await stuckEvent(9)
    const session = await appSession()
    await session.query('begin')
    await session.query("update public.events set name = 'A talk'")
    await collectionsDone([failed])
    expect(await inside.run(event)).toMatchObject({ state: 'in_progress' })
    await session.query('commit')
    await collectionsDone([failed])
    expect(await app.status(event)).toBe('failed')
  })

  it('ends right when it is set back to pending by hand', async () => {
    const { app, event, inside, prepare, sendAll, work } = await stuckEvent(10)
    await app.change(event, { indexing_status: "'pending'" })
    expect(await prepare()).toEqual([event])
    await work(await sendAll())
    expect(await inside.states(event)).toEqual({ indexed: 2 })
    expect(await app.status(event)).toBe('completed')
  })
})
