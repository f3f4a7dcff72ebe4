import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { JobRef } from '../../src/core/message.ts'
import { atOnce, one, openLedger } from '../support/ledger.ts'

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
const eventsOf = (jobs: JobRef[]) => jobs.map((job) => job.event_id)

describe('the order of the outbox', () => {
  it('is erasures first, then the event that starts soonest', async () => {
    const { app, prepare, processChanges, sendAll, takeSendBatch, work } = await openLedger()
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
    await processChanges()
    const { jobs } = await takeSendBatch()
    expect(eventsOf(jobs)).toEqual([done, done, sooner, sooner, later, later])
    expect(usersOf(jobs)).toEqual([...users, ...users, ...users])
  })

  it('is, within an event, attendees who were never indexed before others', async () => {
    const { app, event, prepare, sendAll, takeSendBatch, users, work } = await queuedEvent(4)
    await work(await sendAll())
    await app.change(event, { indexing_status: "'pending'" })
    const late = await app.users(2)
    await app.consent(event, late)
    await prepare()
    const { jobs } = await takeSendBatch()
    expect(usersOf(jobs).slice(0, 2).sort()).toEqual(late.sort())
    expect(usersOf(jobs).slice(2).sort()).toEqual(users.sort())
  })

  it('has events that are over last', async () => {
    const { app, prepare, takeSendBatch } = await openLedger()
    const users = await app.users(1)
    const over = await app.event({ startsAt: "now() - interval '13 h'" })
    const next = await app.event()
    for (const event of [over, next]) await app.consent(event, users)
    await prepare()
    expect(eventsOf((await takeSendBatch()).jobs)).toEqual([next, over])
  })

  it('follows a start that is moved after the claim', async () => {
    const { app, prepare, processChanges, takeSendBatch } = await openLedger()
    const users = await app.users(1)
    const [first = '', second = ''] = await app.events(2)
    for (const event of [first, second]) await app.consent(event, users)
    await prepare()
    await app.change(first, { starts_at: "now() + interval '1 h'" })
    await processChanges()
    expect(eventsOf((await takeSendBatch()).jobs)).toEqual([second, first])
  })

  it('leaves out the jobs of an event whose collection is not there', async () => {
    const { app, claim, inside, prepare, takeSendBatch } = await openLedger()
    const event = await app.event()
    await app.consent(event, await app.users(2))
    await prepare()
    await app.change(event, { indexing_status: "'pending'" })
    await claim()
    expect(await inside.states(event)).toEqual({ queued: 2 })
    expect(await takeSendBatch()).toMatchObject({ jobs: [], left: 2 })
  })
})

describe('handing out send batches', () => {
  it('gives no job to two of ten schedulers that ask at the same moment', async () => {
    const { event, inside, takeSendBatch } = await queuedEvent(500)
    const batches = await atOnce(10, () => takeSendBatch({ page: 40 }))
    const handed = batches.flatMap((batch) => usersOf(batch.jobs))
    expect(new Set(handed).size).toBe(handed.length)
    expect(handed).toHaveLength(400)
    expect((await takeSendBatch({ page: 1000 })).jobs).toHaveLength(100)
    expect(await inside.states(event)).toEqual({ sent: 500 })
  })

  it('sends all, each once, when five schedulers empty it batch by batch', async () => {
    const { event, inside, owner, takeSendBatch } = await queuedEvent(600)
    const sent = await atOnce(5, async () => {
      const messages: JobRef[] = []
      for (let batch = await takeSendBatch({ page: 25 }); batch.jobs.length > 0; ) {
        messages.push(...batch.jobs)
        batch = await takeSendBatch({ page: 25, sent: batch.send_batch })
      }
      return messages
    })
    expect(new Set(usersOf(sent.flat())).size).toBe(600)
    expect(sent.flat()).toHaveLength(600)
    expect(await inside.states(event)).toEqual({ sent: 600 })
    expect(await one(owner, 'select count(*)::int from indexing.send_batches')).toBe(0)
  })

  it('has a batch sent again whose scheduler died, when its time is over and not before', async () => {
    const { inside, rescue, takeSendBatch, users } = await queuedEvent(3)
    expect(usersOf((await takeSendBatch()).jobs)).toEqual(users)
    await rescue()
    expect(await takeSendBatch()).toMatchObject({ jobs: [], left: 0 })
    await inside.expireSendBatches()
    await rescue()
    const { jobs } = await takeSendBatch()
    expect(usersOf(jobs)).toEqual(users)
    expect(jobs).toMatchObject([{ version: 2 }, { version: 2 }, { version: 2 }])
  })

  it('is not told that a batch was sent by a scheduler whose batch has passed to another', async () => {
    const { event, inside, rescue, takeSendBatch } = await queuedEvent(3)
    const slow = await takeSendBatch()
    await inside.expireSendBatches()
    await rescue()
    const other = await takeSendBatch()
    expect(usersOf(other.jobs)).toEqual(usersOf(slow.jobs))
    await takeSendBatch({ page: 0, sent: slow.send_batch })
    await inside.expireSendBatches() // the other died, too
    await rescue()
    expect(usersOf((await takeSendBatch()).jobs)).toEqual(usersOf(slow.jobs))
    expect(await inside.states(event)).toEqual({ sent: 3 })
  })

  it('gives jobs that SQS did not take again, alone and with a new version', async () => {
    const { takeSendBatch, users } = await queuedEvent(3)
    const batch = await takeSendBatch()
    const again = await takeSendBatch({ sent: batch.send_batch, unsent: batch.jobs.slice(1, 2) })
    expect(again.jobs).toMatchObject([{ user_id: users[1], version: 2 }])
    expect(await takeSendBatch({ sent: again.send_batch })).toMatchObject({ jobs: [], left: 0 })
  })

  it('takes the same confirmation twice', async () => {
    const { event, inside, rescue, takeSendBatch } = await queuedEvent(3)
    const batch = await takeSendBatch()
    const unsent = batch.jobs.slice(0, 1)
    await atOnce(2, () => takeSendBatch({ page: 0, sent: batch.send_batch, unsent }))
    await inside.expireSendBatches()
    await rescue()
    expect((await takeSendBatch()).jobs).toMatchObject([{ version: 2 }])
    expect(await inside.states(event)).toEqual({ sent: 3 })
  })
})

describe('a job whose batch is being sent', () => {
  const erased = 'an erasure'
  const lost = 'the result of a worker that had lost its lease'
  const created = 'a collection that was created anew'

  it.each([erased, lost, created])('is sent again with its new version after %s', async (what) => {
    const {
      app,
      collectionsDone,
      complete,
      event,
      inside,
      owner,
      processChanges,
      sendAll,
      takeSendBatch,
      users,
    } = await queuedEvent(1)
    const batch = await takeSendBatch()
    const [user = ''] = users
    if (what === erased) {
      await app.leave(event, users)
      await processChanges()
    } else if (what === lost) {
      await complete(randomUUID(), [
        {
          event_id: event,
          user_id: user,
          outcome: 'indexed',
          photo_key: 'photos/old',
          photo_etag: 'etag',
          face_id: 'a face',
          obsolete_face_ids: [],
          needs_listing: false,
          refused: null,
          reason: null,
          error: null,
          index_calls: 1,
          faces_deleted: 0,
        },
      ])
    } else {
      await owner.query("update indexing.face_jobs set obsolete_face_ids = '{a}'")
      await collectionsDone([{ event_id: event, result: 'created' }])
    }
    await takeSendBatch({ page: 0, sent: batch.send_batch })
    expect(await inside.states(event)).toEqual({ queued: 1 })
    expect(await sendAll()).toMatchObject([{ version: 2 }])
  })

  it.each(['another photo', 'a new claim of its event'])('waits for that message after %s', async (what) => {
    const { app, event, inside, prepare, processChanges, sendAll, takeSendBatch, users, work } =
      await queuedEvent(1)
    const batch = await takeSendBatch()
    if (what === 'another photo') await app.photo(users[0] ?? '', 'photos/new')
    else await app.change(event, { indexing_status: "'pending'" })
    await processChanges()
    await prepare()
    await takeSendBatch({ page: 0, sent: batch.send_batch })
    expect(await sendAll()).toEqual([])
    await work(batch.jobs)
    const photo = what === 'another photo' ? 'photos/new' : `photos/${users[0]}`
    expect(await inside.job(event, users[0] ?? '')).toMatchObject({ state: 'indexed', photo_key: photo })
    expect(await app.status(event)).toBe('completed')
  })

  it('stays with a worker that leases it before the batch is confirmed', async () => {
    const { event, inside, lease, rescue, takeSendBatch } = await queuedEvent(2)
    const batch = await takeSendBatch()
    await lease(batch.jobs.slice(0, 1))
    await inside.expireSendBatches()
    await rescue()
    expect(await inside.states(event)).toEqual({ running: 1, queued: 1 })
  })
})

describe('how much lies in the work queue', () => {
  it('is bounded, and more is sent as workers take it', async () => {
    const { event, inside, lease, takeSendBatch } = await queuedEvent(30)
    const batch = await takeSendBatch({ page: 20, workCap: 12 })
    expect(batch.jobs).toHaveLength(12)
    expect(await takeSendBatch({ page: 20, workCap: 12, sent: batch.send_batch })).toMatchObject({
      jobs: [],
      left: 18,
    })
    await lease(batch.jobs.slice(0, 5))
    expect((await takeSendBatch({ page: 20, workCap: 12 })).jobs).toHaveLength(5)
    expect(await inside.states(event)).toEqual({ queued: 13, running: 5, sent: 12 })
  })

  it('stays below its bound with four schedulers at once', async () => {
    const { event, inside, lease, takeSendBatch } = await queuedEvent(200)
    const sent = new Map<string, JobRef>()
    for (let round = 0; round < 4; round++) {
      const batches = await atOnce(4, () => takeSendBatch({ page: 10, workCap: 25 }))
      for (const job of batches.flatMap(({ jobs }) => jobs)) sent.set(job.user_id, job)
      expect(await inside.states(event)).toMatchObject({ sent: 25 })
      const taken = [...sent.values()].slice(0, 9)
      await lease(taken)
      for (const job of taken) sent.delete(job.user_id)
    }
    expect(await inside.states(event)).toEqual({ running: 36, sent: 16, queued: 148 })
  })

  it('does not hold up erasures', async () => {
    const { app, event, processChanges, takeSendBatch, users } = await queuedEvent(10)
    const batch = await takeSendBatch({ page: 5, workCap: 5, urgentCap: 0 })
    await takeSendBatch({ page: 0, sent: batch.send_batch })
    const leaving = users.slice(7, 9)
    await app.leave(event, leaving)
    await processChanges()
    const { jobs } = await takeSendBatch({ page: 20, workCap: 5, urgentCap: 0 })
    expect(usersOf(jobs)).toEqual(leaving)
  })
})
