import { describe, expect, it } from 'vitest'
import { openLedger, refusedFor, sentEvent } from '../support/ledger.ts'

/** A settled event: one attendee indexed, one without a face, two failed, each for another reason. */
async function failedEvent() {
  const ledger = await openLedger()
  const event = await ledger.app.event()
  const users = await ledger.app.users(4)
  await ledger.app.consent(event, users)
  await ledger.prepare()
  const messages = await ledger.sendAll()
  const of = (index: number) => messages.filter(({ user_id }) => user_id === users[index])
  await ledger.work(of(0))
  await ledger.work(of(1), refusedFor('no_face'))
  await ledger.fail(of(2), 'AccessDeniedException', 'denied')
  await ledger.fail(of(3), 'InvalidS3ObjectException', 'photo_unreadable')
  return { ...ledger, event, users }
}

describe('a replay', () => {
  it('queues what has failed, and the event ends anew', async () => {
    const { app, event, inside, replay, sendAll, work } = await failedEvent()
    expect(await app.status(event)).toBe('failed')
    expect(await replay()).toEqual({ jobs: 2, events: [event], held: [], last: null })
    expect(await app.status(event)).toBe('in_progress')
    expect(await inside.states(event)).toEqual({ indexed: 1, skipped: 1, queued: 2 })
    await work(await sendAll())
    expect(await inside.states(event)).toEqual({ indexed: 3, skipped: 1 })
    expect(await app.status(event)).toBe('completed')
    expect(await replay()).toEqual({ jobs: 0, events: [], held: [], last: null })
  })

  it('can be of one attendee, or of one reason, also of the skipped', async () => {
    const { event, inside, replay, users } = await failedEvent()
    const [, noFace = '', denied = '', unreadable = ''] = users
    expect(await replay({ event, why: 'photo_unreadable' })).toMatchObject({ jobs: 1 })
    expect(await inside.job(event, unreadable)).toMatchObject({ state: 'queued', error: null, version: 3 })
    expect(await replay({ event, attendee: denied })).toMatchObject({ jobs: 1 })
    expect(await inside.job(event, denied)).toMatchObject({ state: 'queued' })
    expect(await replay({ event, why: 'no_face' })).toMatchObject({ jobs: 1 })
    expect(await inside.job(event, noFace)).toMatchObject({ state: 'queued' })
    expect(await replay({ why: 'no_such_reason' })).toEqual({ jobs: 0, events: [], held: [], last: null })
  })

  it('goes page by page, each job once, though those of earlier pages have failed again', async () => {
    const { app, event, fail, inside, messages, owner, replay } = await sentEvent(5)
    await fail(messages)
    const paged = { event, page: 2 }
    const first = await replay(paged)
    expect(first).toMatchObject({ jobs: 2, events: [event], last: { event_id: event } })
    await owner.query(
      `update indexing.face_jobs set state = 'failed', ended_at = now() where state = 'queued'`,
    )
    const second = await replay({ ...paged, after: first.last })
    expect(second).toMatchObject({ jobs: 2, last: { event_id: event } })
    expect(await replay({ ...paged, after: second.last })).toEqual({
      jobs: 1,
      events: [event],
      held: [],
      last: null,
    })
    expect(await inside.states(event)).toEqual({ failed: 2, queued: 3 })
    expect(await app.status(event)).toBe('in_progress')
  })

  it('of what was refused has the photo looked at as if for the first time', async () => {
    const { event, inside, lease, replay, sendAll, users } = await failedEvent()
    await replay({ event, why: 'no_face' })
    expect((await lease(await sendAll())).tasks).toMatchObject([{ refused: null, face_etag: null }])
    expect(await inside.job(event, users[1] ?? '')).toMatchObject({ state: 'running' })
  })

  it('of a completed event leaves it completed', async () => {
    const { app, event, fail, inside, messages, replay, startRun, work } = await sentEvent(2)
    await startRun(10_000, 0.5)
    await work(messages.slice(1))
    await fail(messages.slice(0, 1))
    expect(await app.status(event)).toBe('completed')
    expect(await replay()).toMatchObject({ jobs: 1 })
    expect(await app.status(event)).toBe('completed')
    expect(await inside.states(event)).toEqual({ indexed: 1, queued: 1 })
  })

  it('leaves an event whose row the app holds locked, and returns it as held', async () => {
    const { app, appSession, event, inside, replay } = await failedEvent()
    const session = await appSession()
    await session.query('begin')
    await session.query("update public.events set name = 'A talk'")
    expect(await replay()).toEqual({ jobs: 0, events: [], held: [event], last: null })
    await session.query('commit')
    expect(await app.status(event)).toBe('failed')
    expect(await inside.states(event)).toEqual({ indexed: 1, skipped: 1, failed: 2 })
  })

  it('leaves an event that waits for a new claim to that claim', async () => {
    const { app, event, prepare, replay, sendAll, work } = await failedEvent()
    await app.change(event, { indexing_status: "'pending'" })
    await replay()
    expect(await app.status(event)).toBe('pending')
    expect(await prepare()).toEqual([event])
    await work(await sendAll())
    expect(await app.status(event)).toBe('completed')
  })

  it('tries an event anew whose collection could not be created', async () => {
    const { app, claim, collectionsDone, collectionsDue, fanOut, inside, replay, sendAll, work } =
      await openLedger()
    const event = await app.event()
    await app.consent(event, await app.users(2))
    await claim()
    for (let attempt = 0; attempt < 10; attempt++)
      await collectionsDone([{ event_id: event, result: 'failed', error: 'AccessDeniedException' }])
    expect(await replay({ event })).toEqual({ jobs: 0, events: [event], held: [], last: null })
    expect((await collectionsDue()).create).toEqual([event])
    await collectionsDone([{ event_id: event, result: 'created' }])
    while ((await fanOut()).more) {}
    await work(await sendAll())
    expect(await inside.states(event)).toEqual({ indexed: 2 })
    expect(await app.status(event)).toBe('completed')
  })
})
