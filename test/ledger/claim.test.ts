import { describe, expect, it } from 'vitest'
import type { Answer } from '../../src/core/contract.ts'
import { atOnce, etagOf, faceOf, one, only, openLedger, resultOf, sentEvent } from '../support/ledger.ts'

describe('claiming', () => {
  it.each([2, 10])(
    'gives each event to one of %i schedulers that come at the same moment',
    async (schedulers) => {
      const { app, claim } = await openLedger()
      const events = await app.events(60)
      const claims = await atOnce(schedulers, () => claim())
      expect(claims.flat().sort()).toEqual(events.sort())
      expect(await claim()).toEqual([])
    },
  )

  it('takes what starts within the window, the soonest first, and marks it as in progress', async () => {
    const { app, claim, inside } = await openLedger()
    const second = await app.event({ startsAt: "now() + interval '19 min'" })
    const first = await app.event({ startsAt: "now() - interval '1 hour'" })
    const third = await app.event({ startsAt: "now() + interval '21 min'" })
    expect(await claim(20)).toEqual([first, second])
    expect(await app.status(first)).toBe('in_progress')
    expect(await app.status(third)).toBe('pending')
    expect(await inside.run(first)).toMatchObject({ state: 'in_progress', collection: 'missing' })
  })

  it('takes what is over last, and not when it ended a day ago', async () => {
    const { app, claim } = await openLedger()
    const over = await app.event({ startsAt: "now() - interval '13 hours'" }) // without an end: after 12 hours
    await app.event({ startsAt: "now() - interval '36.1 hours'" })
    const ending = await app.event({ startsAt: "now() - interval '35.9 hours'" })
    const next = await app.event()
    expect(await claim()).toEqual([next, ending, over])
  })

  it('leaves an event that is cleaned up, and one whose old collection is still to be deleted', async () => {
    const { app, claim, collectionsDone, event, owner, processChanges } = await sentEvent(1)
    const cleanedUp = await app.event()
    await app.change(cleanedUp, { cleanup_status: "'in_progress'" })
    await app.change(event, { cleanup_status: "'in_progress'" })
    await processChanges()
    await app.change(event, { cleanup_status: "'pending'", indexing_status: "'pending'" })
    expect(await claim()).toEqual([])
    await owner.query("update indexing.event_runs set closed_at = closed_at - interval '1 hour'")
    await collectionsDone([{ event_id: event, result: 'deleted' }])
    expect(await claim()).toEqual([event])
  })

  it('takes what has started when the window is 0, and what starts in a week when it is 10080', async () => {
    const { app, claim } = await openLedger()
    const started = await app.event({ startsAt: "now() - interval '1 s'" })
    const inAWeek = await app.event({ startsAt: "now() + interval '167 h 59 min'" })
    await app.event({ startsAt: "now() + interval '168 h 1 min'" })
    expect(await claim(0)).toEqual([started])
    expect(await claim(10_080)).toEqual([inAWeek])
  })

  it('leaves inactive events, those without a start, and those that are no longer pending', async () => {
    const { app, claim } = await openLedger()
    await app.event({ active: false })
    await app.event({ startsAt: 'null' })
    for (const status of ['in_progress', 'completed', 'failed']) await app.event({ status })
    expect(await claim()).toEqual([])
    const unknownActivity = await app.event()
    await app.change(unknownActivity, { is_active: 'null' })
    expect(await claim()).toEqual([unknownActivity])
  })

  it('refuses a window that is no number from 0 to 10080 minutes', async () => {
    const { app, claim } = await openLedger()
    const event = await app.event()
    for (const window of [null, Number.NaN, -1, -0.001, 10_080.5, 10_081, Number.POSITIVE_INFINITY]) {
      await expect(claim(window)).rejects.toMatchObject({
        code: '22023',
        message: expect.stringContaining('window_minutes must be a number from 0 to 10080, not'),
      })
    }
    expect(await app.status(event)).toBe('pending')
  })

  it('follows a start that is moved while the event is pending', async () => {
    const { app, claim } = await openLedger()
    const event = await app.event({ startsAt: "now() + interval '10 min'" })
    await app.change(event, { starts_at: "now() + interval '3 h'" })
    expect(await claim()).toEqual([])
    await app.change(event, { starts_at: "now() + interval '5 min'" })
    expect(await claim()).toEqual([event])
  })

  it('passes over an event that the app holds locked, without waiting, and takes it the next time', async () => {
    const { app, appSession, claim, claimReport } = await openLedger()
    const [held = '', free = ''] = await app.events(2)
    const session = await appSession()
    await session.query('begin')
    await session.query("update public.events set name = 'A talk' where event_id = $1", [held])
    expect(await claimReport()).toEqual({ events: [free], locked: [held] })
    await session.query('commit')
    expect(await claim()).toEqual([held])
  })

  it('an event that is due names the transaction that holds its row, as far as that is known', async () => {
    const { app, appSession, owner } = await openLedger()
    const [held = '', shared = ''] = await app.events(3)
    const later = await app.event({ startsAt: "now() + interval '2 h'" })
    const [session, other] = [await appSession(), await appSession()]
    for (const each of [session, other]) await each.query('begin')
    await session.query("update public.events set name = 'A talk' where event_id = any ($1)", [[held, later]])
    for (const each of [session, other])
      await each.query('select from public.events where event_id = $1 for share', [shared])
    const unclaimed = await one<Answer<'unclaimed'>>(owner, 'select public.indexing_unclaimed()')
    expect(unclaimed.map(({ held_by }) => held_by)).toEqual([
      { pid: session.pid, role: 'postgres', since: expect.any(String) },
      { pid: null, role: null, since: null }, // several hold it
      null,
      null, // it is not due
    ])
  })

  it('does not take an event that is deactivated in the transaction it passed over', async () => {
    const { app, appSession, claim } = await openLedger()
    const event = await app.event()
    const session = await appSession()
    await session.query('begin')
    await session.query('update public.events set is_active = false where event_id = $1', [event])
    expect(await claim()).toEqual([])
    await session.query('commit')
    expect(await claim()).toEqual([])
  })

  it('holds up neither a consent nor a profile of the app while it is under way', async () => {
    const { app, appSession, serviceSession } = await openLedger()
    const event = await app.event()
    const users = await app.users(1)
    const scheduler = await serviceSession()
    await scheduler.query('begin')
    await scheduler.query('select public.indexing_claim(20)')
    const attendee = await appSession()
    await attendee.query("set lock_timeout = '200ms'")
    await attendee.query(
      'insert into public.event_consents (event_id, user_id, allow_recognition) values ($1, $2, true)',
      [event, users[0]],
    )
    await attendee.query("update public.profiles set photo_path = 'photos/new'")
    await scheduler.query('rollback')
    expect(await app.status(event)).toBe('pending')
  })
})

describe('claiming early', () => {
  it('takes an event of the next day when its attendees, at the pace, need longer than the window', async () => {
    const { app, claim, startRun } = await openLedger()
    const large = await app.event({ startsAt: "now() + interval '5 h'" })
    const small = await app.event({ startsAt: "now() + interval '23 h'" })
    await app.consent(large, await app.users(150))
    await app.consent(small, await app.users(10))
    await startRun(1)
    expect(await claim()).toEqual([]) // 3 minutes of work
    await startRun(0.01)
    expect(await claim()).toEqual([large]) // 5 hours of work with a fifth to spare; the small one has 5.3 h
  })

  it('counts what starts before and what is still to be done', async () => {
    const { app, claim, prepare, startRun } = await openLedger()
    const now = await app.event()
    await app.consent(now, await app.users(100))
    expect(await prepare()).toEqual([now])
    const users = await app.users(50)
    const next = await app.event({ startsAt: "now() + interval '1 h'" })
    const later = await app.event({ startsAt: "now() + interval '110 min'" })
    await app.consent(next, users)
    await app.consent(later, users)
    // At a call every 30 s, 50 jobs are 25 minutes of work, and half an hour with a fifth to spare.
    await startRun(1 / 30)
    expect(await claim()).toEqual([next, later])
  })

  it('looks no further than a day ahead', async () => {
    const { app, claim, startRun } = await openLedger()
    const event = await app.event({ startsAt: "now() + interval '25 h'" })
    await app.consent(event, await app.users(200))
    await startRun(0.001)
    expect(await claim()).toEqual([])
  })
})

describe('an event that somebody sets back to pending by hand', () => {
  it('is claimed anew and costs no second face for those who are indexed with their photo', async () => {
    const { app, complete, inside, lease, prepare, sendAll, work } = await openLedger()
    const event = await app.event()
    const [same = '', changed = '', late = ''] = await app.users(3)
    await app.consent(event, [same, changed])
    await prepare()
    await work(await sendAll())
    expect(await app.status(event)).toBe('completed')

    await app.change(event, { indexing_status: "'pending'" })
    await app.photo(changed, 'photos/new')
    await app.consent(event, [late])
    expect(await prepare()).toEqual([event])
    expect(await app.status(event)).toBe('in_progress')
    const messages = await sendAll()
    expect(messages).toHaveLength(3)

    const { tasks, token } = await lease(messages)
    const taskOf = (user: string) => tasks.find(({ user_id }) => user_id === user)
    expect(taskOf(same)).toMatchObject({
      photo_key: `photos/${same}`,
      face_id: faceOf(`photos/${same}`),
      face_etag: etagOf(`photos/${same}`),
    })
    expect(taskOf(changed)).toMatchObject({
      photo_key: 'photos/new',
      face_id: faceOf(`photos/${changed}`),
      face_key: `photos/${changed}`,
    })
    expect(taskOf(late)).toMatchObject({ photo_key: `photos/${late}`, face_id: null })
    await complete(
      token,
      tasks.map((task) => resultOf(task)),
    )
    expect(await inside.states(event)).toEqual({ indexed: 3 })
    expect(await inside.job(event, same)).toMatchObject({ index_calls: 1 })
    expect(await app.status(event)).toBe('completed')
  })

  it('ends right when it happens while the event is in progress, with messages under way', async () => {
    const { app, inside, prepare, sendAll, work } = await openLedger()
    const event = await app.event()
    await app.consent(event, await app.users(4))
    await prepare()
    const messages = await sendAll()
    await work(messages.slice(0, 2))
    await app.change(event, { indexing_status: "'pending'" })
    await work(messages.slice(2, 3)) // does not settle the new claim
    expect(await app.status(event)).toBe('pending')
    expect(await prepare()).toEqual([event])
    await work(messages.slice(3)) // its job waits for no other message
    expect(await inside.states(event)).toEqual({ indexed: 1, queued: 3 })
    await work(await sendAll())
    expect(await inside.states(event)).toEqual({ indexed: 4 })
    expect(await app.status(event)).toBe('completed')
  })

  it('has every face indexed anew when its collection was gone', async () => {
    const { app, claim, collectionsDone, collectionsDue, fanOut, inside, lease, prepare, sendAll, work } =
      await openLedger()
    const event = await app.event()
    await app.consent(event, await app.users(2))
    await prepare()
    await work(await sendAll())
    await app.change(event, { indexing_status: "'pending'" })
    await claim()
    expect((await collectionsDue()).create).toEqual([event])
    await collectionsDone([{ event_id: event, result: 'created' }])
    await fanOut()
    const { tasks } = await lease(await sendAll())
    expect(tasks.map(({ face_id, face_etag }) => [face_id, face_etag])).toEqual(Array(2).fill([null, null]))
    expect(await inside.states(event)).toEqual({ running: 2 })
  })

  it('is not claimed while a claim of it is under way, and then by one', async () => {
    const { app, claim, owner, serviceSession } = await openLedger()
    const event = await app.event()
    const scheduler = await serviceSession()
    await scheduler.query('begin')
    await scheduler.query('select public.indexing_claim(20)')
    const others = atOnce(4, () => claim()) // wait for their turn
    await scheduler.query('commit')
    expect((await others).flat()).toEqual([])
    await app.change(event, { indexing_status: "'pending'" })
    expect(only((await atOnce(4, () => claim())).flat())).toBe(event)
    expect(await one(owner, 'select count(*)::int from indexing.event_runs')).toBe(1)
  })
})
