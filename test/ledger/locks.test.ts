import { describe, expect, it, onTestFinished } from 'vitest'
import {
  atOnce,
  faceOf,
  functionsOn,
  one,
  openLedger,
  resultOf,
  type Session,
  sentEvent,
} from '../support/ledger.ts'

/** Has the session give up where it would wait for a lock: nothing of ours may. */
const impatient = (session: Session) => session.query("set lock_timeout = '250ms'")

describe('a transaction of the app that is held open', () => {
  it('holds up none of our functions', async () => {
    const ledger = await sentEvent(8)
    const { app, appSession, event, fail, inside, messages, owner } = ledger
    const { processChanges, serviceSession, users, work } = ledger
    await work(messages.slice(0, 4))
    await fail(messages.slice(4, 5))
    const due = await app.event()
    const [held = ''] = await app.users(1)
    await processChanges()

    const session = await appSession()
    await session.query('begin')
    await session.query("update public.events set name = 'A talk', starts_at = now(), is_active = false")
    await session.query(
      'insert into public.event_consents (event_id, user_id, allow_recognition) values ($1, $2, true)',
      [event, held],
    )
    await session.query('update public.event_consents set allow_recognition = false where user_id = $1', [
      users[0],
    ])
    await session.query("update public.profiles set photo_path = 'photos/new'")
    await session.query('delete from auth.users where id = $1', [users[1]])

    const service = await serviceSession()
    await impatient(service)
    const ours = functionsOn(service)
    expect(await ours.claim()).toEqual([]) // it is held, and claimed by the next run
    await ours.startRun(20)
    await ours.collectionsDue()
    await ours.collectionsDone([{ event_id: event, result: 'created' }])
    await ours.fanOut()
    const batch = await ours.takeSendBatch()
    expect(batch.jobs).not.toEqual([])
    await ours.takeSendBatch({ page: 0, sent: batch.send_batch })
    const { token, tasks } = await ours.lease(batch.jobs)
    await ours.refresh(batch.jobs, 1)
    await ours.complete(
      token,
      tasks.map((task) => resultOf(task)),
    )
    await owner.query("update indexing.face_jobs set attempts = 5 where state in ('sent', 'running')")
    await inside.expireLeases()
    await inside.ageMessages(1000)
    await ours.failDeadLetters(messages.slice(6))
    await ours.rescue()
    await ours.notePhotos([`photos/${users[0]}`])
    for (const { event_id, as_of } of await ours.reconcileDue(event)) {
      await ours.reconcile(event_id, [])
      await ours.reconcileDone(event_id, as_of)
    }
    expect(await ours.replay()).toMatchObject({ held: [event] })
    await ours.processChanges()
    await ours.forecast()
    await ours.health()
    await session.query('rollback')
    expect(await ours.claim()).toEqual([due])
  })
})

describe('a call of ours that is held open before its commit', () => {
  const CALLS = [
    'claim',
    'fan out',
    'process changes',
    'take a send batch',
    'lease',
    'complete',
    'complete that settles the event',
    'fail dead letters',
    'rescue',
    'reconcile',
    'replay',
  ] as const

  it.each(CALLS)('holds up no consent, photo, attendee or account of the app: %s', async (call) => {
    const { app, appSession, event, fail, inside, lease, messages, serviceSession, users } =
      await sentEvent(6)
    const other = await app.event()
    const [stranger = ''] = await app.users(1)
    const settles = call === 'complete that settles the event'
    if (call === 'replay') await fail(messages)
    const leased = await lease(settles ? messages : messages.slice(0, 3))
    if (call === 'rescue') await inside.expireLeases()
    if (call === 'fan out') {
      const { claim, collectionsDone } = functionsOn(await serviceSession())
      await claim()
      await collectionsDone([{ event_id: other, result: 'created' }])
    }
    if (call === 'process changes') await app.consent(event, users.slice(4), false)

    const service = await serviceSession()
    const ours = functionsOn(service)
    await service.query('begin')
    if (call === 'claim') await ours.claim()
    if (call === 'fan out') await ours.fanOut()
    if (call === 'process changes') await ours.processChanges()
    if (call === 'take a send batch') await ours.takeSendBatch()
    if (call === 'lease') await ours.lease(messages.slice(3))
    if (call === 'fail dead letters') await ours.failDeadLetters(messages)
    if (call === 'rescue') await ours.rescue()
    if (call === 'reconcile') await ours.reconcile(event, [{ user_id: stranger, face_ids: ['a face'] }])
    if (call === 'replay') await ours.replay()
    if (call === 'complete' || settles)
      await ours.complete(
        leased.token,
        leased.tasks.map((task) => resultOf(task)),
      )

    const session = await appSession()
    await impatient(session)
    const consent =
      'insert into public.event_consents (event_id, user_id, allow_recognition) values ($1, $2, true)'
    await session.query('update public.event_consents set allow_recognition = false where user_id = $1', [
      users[0],
    ])
    await session.query(consent, [event, stranger])
    await session.query(consent, [other, stranger])
    await session.query("update public.profiles set photo_path = 'photos/new'")
    await session.query('delete from public.event_consents where user_id = $1', [users[2]])
    await session.query('delete from auth.users where id = $1', [users[3]])
    await service.query('commit')
    if (settles) expect(await app.status(event)).toBe('completed')
  })
})

describe('the order of locks', () => {
  it('keeps a page of changes and a worker that settles from a deadlock, whichever event each has first', async () => {
    const {
      app,
      inside,
      lease,
      owner,
      prepare,
      processChanges,
      sendAll,
      serviceSession,
      untilWaiting,
      work,
    } = await openLedger()
    const [first = '', second = ''] = (await app.events(2)).sort()
    const users = await app.users(2)
    for (const event of [first, second]) await app.consent(event, users)
    await prepare()
    const messages = await sendAll()
    await work(messages.filter(({ event_id }) => event_id === second))
    const { token, tasks } = await lease(messages.filter(({ event_id }) => event_id === first))

    // Changes of the first event itself, of an attendee of both: jobs on both sides of a run.
    await app.change(first, { starts_at: "now() + interval '1 min'" })
    await app.consent(first, users.slice(0, 1), false)
    await app.photo(users[1] ?? '', null)
    const blocker = await owner.connect()
    onTestFinished(() => blocker.release())
    await blocker.query('begin')
    await blocker.query('select from indexing.face_jobs where event_id = $1 for update', [second])
    const scheduler = await serviceSession()
    const worker = await serviceSession()
    const processing = functionsOn(scheduler).processChanges()
    await untilWaiting(scheduler)
    const completing = functionsOn(worker).complete(
      token,
      tasks.map((task) => resultOf(task)),
    )
    await untilWaiting(worker)
    await blocker.query('commit')
    await expect(Promise.all([processing, completing])).resolves.toBeDefined()
    await processChanges()
    expect(await one(owner, 'select count(*)::int from indexing.changes')).toBe(0)
    await work(await sendAll())
    expect(await inside.states(first)).toEqual({ erased: 1, skipped: 1 })
  })

  it('keeps four schedulers and eight workers of many events from a deadlock while everything changes', async () => {
    const { app, inside, owner, prepare, processSome, rescue, sendAll, serviceSession, work } =
      await openLedger()
    const events = await app.events(8)
    const users = await app.users(12)
    for (const event of events) await app.consent(event, users)
    await prepare()
    const deadlocks = () =>
      one<number>(owner, 'select deadlocks::int from pg_stat_database where datname = current_database()')
    const before = await deadlocks()
    await serviceSession()
    for (let round = 0; round < 5; round++) {
      const messages = await sendAll()
      const changing = atOnce(8, async (index) => {
        const event = events[(index * 3 + round) % 8] ?? ''
        await app.change(event, { starts_at: `now() + interval '${5 + round} min'` })
        await app.consent(event, users.slice(index, index + 3), (index + round) % 2 === 0)
        await app.photo(users[index] ?? '', `photos/${round}/${index}`)
      })
      const scheduling = atOnce(4, async (index) => {
        for (let n = 0; n < 6; n++) await processSome((index + n) % 2 === 0, 20)
        await rescue()
      })
      const working = atOnce(8, (index) => work(messages.filter((_, at) => at % 8 === index)))
      await Promise.all([changing, scheduling, working])
    }
    expect(await deadlocks()).toBe(before)
    expect((await inside.jobs(events[0] ?? '')).length).toBe(12)
  })

  it('keeps a scheduler that confirms a batch from a deadlock with workers that have leased it already', async () => {
    const { app, complete, inside, lease, prepare, takeSendBatch } = await openLedger()
    const [event = '', ...others] = await app.events(4)
    const users = await app.users(150)
    for (const each of [event, ...others]) await app.consent(each, users)
    await prepare()
    for (let round = 0; round < 6; round++) {
      const batch = await takeSendBatch({ page: 100 })
      // In no order that the ledger would choose.
      const shuffled = batch.jobs.toSorted((a, b) => (a.user_id.slice(-4) < b.user_id.slice(-4) ? -1 : 1))
      const working = atOnce(5, async (lane) => {
        const { token, tasks } = await lease(shuffled.filter((_, index) => index % 5 === lane))
        await complete(
          token,
          tasks.map((task) => resultOf(task)),
        )
      })
      await Promise.all([working, takeSendBatch({ page: 0, sent: batch.send_batch, unsent: shuffled })])
    }
    const [done] = (await inside.jobs(event)).filter(({ state }) => state === 'indexed')
    expect(done?.face_id).toBe(faceOf(`photos/${done?.user_id}`))
  })
})
