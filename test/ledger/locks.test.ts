import { describe, expect, it } from 'vitest'
import { faceOf, functionsOn, one, openLedger, resultOf, type Session, sentEvent } from '../support/ledger.ts'

/** Has the session give up where it would wait for a lock: nothing of ours may. */
const impatient = (session: Session) => session.query("set lock_timeout = '250ms'")

describe('a transaction of the app that is held open', () => {
  it('holds up none of our functions', async () => {
    const { absorb, app, appSession, event, inside, messages, owner, serviceSession, users, work } =
      await sentEvent(8)
    await work(messages.slice(0, 4))
    await work(messages.slice(4, 5), { outcome: 'failed', face_id: null })
    const due = await app.event()
    const [held = ''] = await app.users(1)
    await absorb()

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
    await ours.collections()
    await ours.collectionsDone([{ event_id: event, result: 'created' }])
    await ours.expand()
    const page = await ours.nextPage()
    expect(page.jobs).not.toEqual([])
    await ours.nextPage(0, 100, page.token)
    const { token, tasks } = await ours.begin(page.jobs)
    await ours.finish(
      token,
      tasks.flatMap((task) => (task.action === 'none' ? [] : resultOf(task))),
    )
    await owner.query("update indexing.face_jobs set attempts = 5 where state in ('sent', 'running')")
    await inside.expireLeases()
    await inside.ageMessages(1000)
    await ours.bury(messages.slice(6))
    await ours.sweep()
    expect(await ours.replay()).toMatchObject({ held: [event] })
    expect(await ours.absorb()).toEqual({ changes: 0, jobs: 0, more: false })
    await session.query('rollback')
    expect(await ours.claim()).toEqual([due])
  })
})

describe('a call of ours that is held open before its commit', () => {
  const CALLS = [
    'claim',
    'expand',
    'absorb',
    'next page',
    'begin',
    'finish',
    'finish that settles the event',
    'bury',
    'sweep',
  ] as const

  it.each(CALLS)('holds up no consent, photo, attendee or account of the app: %s', async (call) => {
    const { app, appSession, begin, event, inside, messages, serviceSession, users } = await sentEvent(6)
    const other = await app.event()
    const [stranger = ''] = await app.users(1)
    const settles = call === 'finish that settles the event'
    const held = await begin(settles ? messages : messages.slice(0, 3))
    if (call === 'sweep') await inside.expireLeases()
    if (call === 'expand') {
      const { claim, collectionsDone } = functionsOn(await serviceSession())
      await claim()
      await collectionsDone([{ event_id: other, result: 'created' }])
    }
    if (call === 'absorb') await app.consent(event, users.slice(4), false)

    const service = await serviceSession()
    const ours = functionsOn(service)
    await service.query('begin')
    if (call === 'claim') await ours.claim()
    if (call === 'expand') await ours.expand()
    if (call === 'absorb') await ours.absorb()
    if (call === 'next page') await ours.nextPage()
    if (call === 'begin') await ours.begin(messages.slice(3))
    if (call === 'bury') await ours.bury(messages)
    if (call === 'sweep') await ours.sweep()
    if (call === 'finish' || settles)
      await ours.finish(
        held.token,
        held.tasks.map((task) => resultOf(task)),
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
  it('keeps a page of changes and a worker who settles from a deadlock, whichever event each has first', async () => {
    const { absorb, app, begin, inside, owner, prepare, sendAll, serviceSession, untilWaiting } =
      await openLedger()
    const [first = '', second = ''] = (await app.events(2)).sort()
    const users = await app.users(2)
    await owner.query('update public.events set starts_at = now()') // neither is more urgent
    for (const event of [first, second]) await app.consent(event, users)
    await prepare()
    const messages = await sendAll()
    const { token, tasks } = await begin(messages.filter(({ event_id }) => event_id === first))
    await absorb()

    // Changes of the first event itself, of the second, and of an attendee of the first: jobs on both sides of a run.
    await app.change(first, { starts_at: "now() + interval '1 min'" })
    await app.change(second, { starts_at: "now() + interval '2 min'" })
    await app.consent(first, users.slice(0, 1), false)
    const blocker = await serviceSession()
    await blocker.query('begin')
    await blocker.query('select public.indexing_begin($1, gen_random_uuid(), 60, 1)', [
      JSON.stringify(messages.filter(({ event_id }) => event_id === second)),
    ])
    const scheduler = await serviceSession()
    const worker = await serviceSession()
    const absorbing = functionsOn(scheduler).absorb()
    await untilWaiting(scheduler)
    const finishing = functionsOn(worker).finish(
      token,
      tasks.map((task) => resultOf(task, { outcome: 'failed', face_id: null })),
    )
    await untilWaiting(worker)
    await blocker.query('commit')
    await expect(Promise.all([absorbing, finishing])).resolves.toBeDefined()
    expect(await one(owner, 'select count(*)::int from indexing.changes')).toBe(0)
    expect(await inside.states(first)).toEqual({ queued: 1, failed: 1 })
  })

  it('keeps a scheduler who confirms a page from a deadlock with workers who have begun it already', async () => {
    const { app, begin, finish, inside, nextPage, prepare } = await openLedger()
    const [event = '', ...others] = await app.events(4)
    const users = await app.users(150)
    for (const each of [event, ...others]) await app.consent(each, users)
    await prepare()
    for (let round = 0; round < 6; round++) {
      const page = await nextPage(100)
      // In no order that the ledger would choose.
      const shuffled = page.jobs.toSorted((a, b) => (a.user_id.slice(-4) < b.user_id.slice(-4) ? -1 : 1))
      const working = Array.from({ length: 5 }, async (_, lane) => {
        const { token, tasks } = await begin(shuffled.filter((_, index) => index % 5 === lane))
        await finish(
          token,
          tasks.flatMap((task) => (task.action === 'none' ? [] : resultOf(task))),
        )
      })
      await Promise.all([...working, nextPage(0, 100_000, page.token)])
    }
    expect((await inside.states(event)).sent).toBeUndefined()
    const [done] = (await inside.jobs(event)).filter(({ state }) => state === 'indexed')
    expect(done?.face_id).toBe(faceOf(`photos/${done?.user_id}`))
  })
})
