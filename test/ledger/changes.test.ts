import { describe, expect, it } from 'vitest'
import { atOnce, faceOf, only, openLedger, resultOf, sentEvent } from '../support/ledger.ts'

/** A completed event with one attendee whose face is indexed; and one more account. */
async function completedEvent() {
  const ledger = await sentEvent(1)
  await ledger.work(ledger.messages)
  const [user = ''] = ledger.users
  const [stranger = ''] = await ledger.app.users(1)
  await ledger.absorb()
  /** What the worker is told after the change, if there is a message at all. */
  const follow = async () => {
    await ledger.absorb()
    const messages = await ledger.sendAll()
    const { tasks } = await ledger.begin(messages)
    return tasks
  }
  return { ...ledger, user, stranger, follow }
}

describe('after the claim', () => {
  it('a consent that is given has the face indexed', async () => {
    const { app, event, follow, stranger } = await completedEvent()
    await app.consent(event, [stranger])
    expect(await follow()).toMatchObject([
      { user_id: stranger, action: 'index', photo: `photos/${stranger}`, list: false },
    ])
  })

  it('a consent that is given by an update has the face indexed', async () => {
    const { app, event, follow, stranger } = await completedEvent()
    await app.consent(event, [stranger], false)
    expect(await follow()).toEqual([])
    await app.consent(event, [stranger])
    expect(await follow()).toMatchObject([{ user_id: stranger, action: 'index' }])
  })

  it.each([
    ['is taken back', 'update event_consents set allow_recognition = false where user_id = $1'],
    ['is deleted, the attendee leaves', 'delete from event_consents where user_id = $1'],
    ['goes with the account', 'delete from auth.users where id = $1'],
  ])('a consent that %s has the face erased, first in line', async (_, change) => {
    const { app, event, follow, inside, owner, prepare, user } = await completedEvent()
    const next = await app.event({ startsAt: 'now()' })
    await app.consent(next, await app.users(1))
    await prepare()
    await owner.query(change, [user])
    const [first, second] = await follow()
    expect(first).toMatchObject({
      event_id: event,
      action: 'erase',
      faces: [faceOf(`photos/${user}`)],
      list: true,
    })
    expect(second).toMatchObject({ event_id: next, action: 'index' })
    expect(await inside.job(event, user)).toMatchObject({ due: Number.NEGATIVE_INFINITY })
  })

  it('a photo that is changed has the new face indexed and the old one erased', async () => {
    const { app, follow, user } = await completedEvent()
    await app.photo(user, 'photos/new')
    expect(await follow()).toMatchObject([
      { action: 'index', photo: 'photos/new', keep: null, faces: [faceOf(`photos/${user}`)] },
    ])
  })

  it.each([
    ['a photo that is removed', 'update profiles set photo_path = null where user_id = $1'],
    ['a profile that is deleted', 'delete from profiles where user_id = $1'],
  ])('%s has the face erased', async (_, change) => {
    const { follow, owner, user } = await completedEvent()
    await owner.query(change, [user])
    expect(await follow()).toMatchObject([{ action: 'erase', faces: [faceOf(`photos/${user}`)] }])
  })

  it.each([
    ['set', 'update profiles set photo_path = null where user_id = $1'],
    ['made with the profile', 'delete from profiles where user_id = $1'],
  ])('a photo that is %s for the first time has the face indexed', async (_, without) => {
    const { absorb, app, event, follow, inside, owner, stranger } = await completedEvent()
    await owner.query(without, [stranger])
    await absorb()
    await app.consent(event, [stranger])
    expect(await follow()).toMatchObject([{ user_id: stranger, action: 'none' }])
    expect(await inside.job(event, stranger)).toMatchObject({ state: 'skipped' })
    await owner.query(
      `insert into profiles (user_id, full_name, photo_path) values ($1, 'Somebody', 'photos/first')
       on conflict (user_id) do update set photo_path = excluded.photo_path`,
      [stranger],
    )
    expect(await follow()).toMatchObject([{ user_id: stranger, action: 'index', photo: 'photos/first' }])
  })

  it('an event that is deleted takes its collection with it, and its jobs are closed', async () => {
    const { absorb, app, collections, event, follow, inside, stranger, user } = await completedEvent()
    await app.consent(event, [stranger])
    await absorb()
    await app.deleteEvent(event)
    expect(await follow()).toEqual([])
    expect((await collections()).delete).toEqual([event])
    expect(await inside.states(event)).toEqual({ erased: 2 })
    expect(await inside.job(event, user)).toMatchObject({ reason: 'event_deleted', face_id: null })
    await app.deleteAccounts([user, stranger])
    expect(await absorb()).toMatchObject({ jobs: 0 })
  })

  it('an event that is deleted is not erased face by face', async () => {
    const { absorb, app, begin, event, inside, messages } = await sentEvent(30)
    await begin(messages.slice(0, 3))
    await app.deleteEvent(event)
    let written = 0
    for (let more = true; more; ) {
      const absorbed = await absorb(10) // its consents went with it
      written += absorbed.jobs
      more = absorbed.more
    }
    expect(written).toBe(0)
    expect(await inside.states(event)).toEqual({ running: 3, erased: 27 })
  })

  it('a large event that is moved, stopped or begun again is followed page by page', async () => {
    const { absorb, app, event, inside, prepare, sendAll, work } = await sentEvent(0)
    await app.consent(event, await app.users(25))
    const follow = async () => {
      for (let more = true; more; ) more = (await absorb(10)).more
    }
    await follow()
    await app.change(event, { starts_at: "'2040-01-01'" })
    await follow()
    for (const job of await inside.jobs(event)) expect(job.due).toEqual(new Date('2040-01-01'))

    await app.change(event, { is_active: 'false' })
    await follow()
    await work(await sendAll())
    expect(await inside.states(event)).toEqual({ skipped: 25 })
    await app.change(event, { is_active: 'true' })
    await follow()
    expect(await inside.states(event)).toEqual({ queued: 25 })
    await prepare()
    await work(await sendAll())
    expect(await inside.states(event)).toEqual({ indexed: 25 })
    expect(await app.status(event)).toBe('completed')
  })

  it('what ends late does not turn the event back, and shows', async () => {
    const { absorb, app, event, inside, sendAll, stranger, work } = await completedEvent()
    await app.consent(event, [stranger])
    await absorb()
    expect(await app.status(event)).toBe('completed')
    await work(await sendAll(), { outcome: 'failed', face_id: null, error: 'broken' })
    expect(await app.status(event)).toBe('completed')
    expect(await inside.job(event, stranger)).toMatchObject({ state: 'failed', error: 'broken' })
  })
})

describe('before the claim', () => {
  it('nothing is written but what the claim will see', async () => {
    const { absorb, app, inside, owner, prepare, sendAll } = await openLedger()
    const event = await app.event({ startsAt: "now() + interval '3 h'" })
    const [stays = '', revokes = '', leaves = '', removes = '', deletes = ''] = await app.users(5)
    await app.consent(event, [stays, revokes, leaves, removes, deletes])
    await app.consent(event, [revokes], false)
    await app.leave(event, [leaves])
    await app.photo(stays, 'photos/new')
    await app.photo(removes, null)
    await app.deleteAccounts([deletes])
    expect((await absorb()).jobs).toBe(0)
    expect(await inside.states(event)).toEqual({})
    expect(await inside.changes()).toBe(0)
    await owner.query("update indexing.recent_changes set noted_at = now() - interval '61 s'")
    await app.change(event, { starts_at: "now() + interval '5 min'" })
    expect(await prepare()).toEqual([event])
    expect((await sendAll()).map(({ user_id }) => user_id).sort()).toEqual([stays, removes].sort())
  })

  it('an event that is deleted leaves nothing', async () => {
    const { absorb, app, collections, inside } = await openLedger()
    const event = await app.event()
    await app.consent(event, await app.users(2))
    await app.deleteEvent(event)
    expect((await absorb()).jobs).toBe(0)
    expect(await collections()).toEqual({ create: [], delete: [] })
    expect(await inside.states(event)).toEqual({})
  })
})

describe('a change', () => {
  it('that matters to nothing writes nothing', async () => {
    const { event, inside, owner, user } = await completedEvent()
    for (const change of [
      "update profiles set full_name = 'Somebody else'",
      'update profiles set photo_path = photo_path',
      'update event_consents set allow_profile_display = true, updated_at = now()',
      'update event_consents set allow_recognition = allow_recognition',
      "update events set name = 'A talk', ends_at = now(), created_by = gen_random_uuid()",
      'update events set starts_at = starts_at, is_active = is_active',
      "update events set indexing_status = 'failed'",
      'update event_consents set allow_recognition = false where false',
      'delete from event_consents where false',
      "insert into profiles (user_id, full_name) select id, 'New' from auth.users where false",
      `insert into event_consents (event_id, user_id) values ('${event}', (select id from auth.users where id <> '${user}' limit 1))`,
      `delete from event_consents where user_id <> '${user}'`,
    ]) {
      await owner.query(change)
      expect([change, await inside.changes()]).toEqual([change, 0])
    }
  })

  it('is looked at once, by whichever of ten schedulers', async () => {
    const { absorb, app, event, inside } = await completedEvent()
    await app.consent(event, await app.users(50))
    const absorbed = await atOnce(10, () => absorb(7))
    expect(absorbed.reduce((sum, { changes }) => sum + changes, 0)).toBe(70)
    while ((await absorb(100)).changes > 0) {}
    expect(await inside.states(event)).toEqual({ indexed: 1, queued: 50 })
    expect((await inside.jobs(event)).map(({ version }) => version)).toEqual(Array(51).fill(1))
  })

  it('of one event among several concerns that one alone', async () => {
    const { absorb, app, inside, prepare, sendAll, work } = await openLedger()
    const [first = '', second = ''] = await app.events(2)
    const users = await app.users(2)
    for (const event of [first, second]) await app.consent(event, users)
    await prepare()
    await work(await sendAll())
    await app.leave(first, users.slice(0, 1))
    await absorb()
    expect(await inside.states(first)).toEqual({ indexed: 1, queued: 1 })
    expect(await inside.states(second)).toEqual({ indexed: 2 })
    await app.photo(users[1] ?? '', 'photos/new')
    await absorb()
    expect(await inside.states(first)).toEqual({ queued: 2 })
    expect(await inside.states(second)).toEqual({ indexed: 1, queued: 1 })
  })

  it('and its contrary, before either was looked at, have the collection listed: the app may have acted by itself', async () => {
    const { app, event, follow, stranger, user } = await completedEvent()
    await app.consent(event, [user], false)
    await app.consent(event, [user])
    expect(await follow()).toMatchObject([
      { user_id: user, action: 'index', keep: faceOf(`photos/${user}`), list: true },
    ])
    await app.consent(event, [stranger])
    await app.leave(event, [stranger])
    expect(await follow()).toMatchObject([{ user_id: stranger, action: 'erase', list: true }])
  })

  it('of a running job leaves it to its worker, who looks again', async () => {
    const { absorb, app, begin, event, inside, messages, users } = await sentEvent(1)
    await begin(messages)
    await app.photo(only(users), 'photos/new')
    await absorb()
    expect(await inside.job(event, only(users))).toMatchObject({ state: 'running', version: 2 })
  })

  it('of an attendee who had failed is another chance', async () => {
    const { absorb, app, event, inside, messages, users, work } = await sentEvent(1)
    await work(messages, { outcome: 'failed', face_id: null, error: 'broken' })
    await app.photo(only(users), 'photos/new')
    await absorb()
    expect(await inside.job(event, only(users))).toMatchObject({ state: 'queued', attempts: 0, error: null })
  })
})

describe('a transaction of the app that is held open over the claim', () => {
  /** Everything a scheduler does to an event, in the order it does it, more than once. */
  const STEPS = ['absorb', 'claim', 'make', 'absorb', 'expand', 'absorb', 'send', 'absorb'] as const

  it.each(['given', 'taken back', 'deleted'])(
    'is not forgotten, whenever it commits: a consent that is %s',
    async (what) => {
      const { absorb, app, appSession, begin, claim, collectionsDone, expand, finish, inside, sendAll } =
        await openLedger()
      const [user = ''] = await app.users(1)
      for (let commitAt = 0; commitAt <= STEPS.length; commitAt++) {
        const event = await app.event()
        await app.consent(event, await app.users(1))
        await app.consent(event, [user], what !== 'given')
        await absorb()
        const session = await appSession()
        await session.query('begin')
        await session.query(
          what === 'deleted'
            ? 'delete from event_consents where event_id = $1 and user_id = $2'
            : `update event_consents set allow_recognition = ${what === 'given'} where event_id = $1 and user_id = $2`,
          [event, user],
        )
        for (const [place, step] of STEPS.entries()) {
          if (place === commitAt) await session.query('commit')
          if (step === 'absorb') await absorb()
          if (step === 'claim') expect(await claim()).toEqual([event])
          if (step === 'make') await collectionsDone([{ event_id: event, result: 'created' }])
          if (step === 'expand') await expand()
          if (step === 'send') await workOff()
        }
        if (commitAt === STEPS.length) await session.query('commit')
        await absorb()
        await workOff()
        const job = await inside.job(event, user).catch(() => undefined)
        if (what === 'given') expect([commitAt, job?.state]).toEqual([commitAt, 'indexed'])
        else
          expect([commitAt, job?.state ?? 'erased', job?.face_id ?? null]).toEqual([commitAt, 'erased', null])
        expect([commitAt, await app.status(event)]).toEqual([commitAt, 'completed'])
      }

      async function workOff() {
        const { token, tasks } = await begin(await sendAll())
        await finish(
          token,
          tasks.flatMap((task) => (task.action === 'none' ? [] : resultOf(task))),
        )
      }
    },
  )
})
