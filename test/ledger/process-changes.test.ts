import { describe, expect, it } from 'vitest'
import { atOnce, faceOf, one, only, openLedger, sentEvent } from '../support/ledger.ts'

/** A completed event with one attendee whose face is indexed; and one more account. */
async function completedEvent() {
  const ledger = await sentEvent(1)
  await ledger.work(ledger.messages)
  const [user = ''] = ledger.users
  const [stranger = ''] = await ledger.app.users(1)
  await ledger.processChanges()
  /** What workers are told after the change, in the order in which the messages are sent. */
  const follow = async () => {
    await ledger.processChanges()
    return (await ledger.lease(await ledger.sendAll())).tasks
  }
  return { ...ledger, user, stranger, follow }
}

describe('after the claim', () => {
  it('a consent that is given has the face indexed', async () => {
    const { app, event, follow, stranger } = await completedEvent()
    await app.consent(event, [stranger])
    expect(await follow()).toMatchObject([
      { user_id: stranger, photo_key: `photos/${stranger}`, needs_listing: false },
    ])
  })

  it('a consent that is given by an update has the face indexed', async () => {
    const { app, event, follow, stranger } = await completedEvent()
    await app.consent(event, [stranger], false)
    expect(await follow()).toEqual([])
    await app.consent(event, [stranger])
    expect(await follow()).toMatchObject([{ user_id: stranger, photo_key: `photos/${stranger}` }])
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
      photo_key: null,
      face_id: faceOf(`photos/${user}`),
      may_stay: false,
      needs_listing: true,
    })
    expect(second).toMatchObject({ event_id: next, photo_key: expect.any(String) })
    expect(await inside.job(event, user)).toMatchObject({ priority: 0, urgent: true })
  })

  it('a photo that is changed has the new face indexed and the old one erased', async () => {
    const { app, follow, user } = await completedEvent()
    await app.photo(user, 'photos/new')
    expect(await follow()).toMatchObject([
      { photo_key: 'photos/new', face_id: faceOf(`photos/${user}`), face_key: `photos/${user}` },
    ])
  })

  it('a photo that is named again under its key is looked at: the app has replaced the object', async () => {
    const { app, follow, inside, event, user } = await completedEvent()
    await app.photo(user, `photos/${user}`)
    expect(await follow()).toMatchObject([
      { photo_key: `photos/${user}`, face_key: `photos/${user}`, face_id: faceOf(`photos/${user}`) },
    ])
    expect(await inside.job(event, user)).toMatchObject({ urgent: true, repeated: true })
  })

  it.each([
    ['a photo that is removed', 'update profiles set photo_path = null where user_id = $1'],
    ['a profile that is deleted', 'delete from profiles where user_id = $1'],
  ])('%s has the face erased', async (_, change) => {
    const { follow, owner, user } = await completedEvent()
    await owner.query(change, [user])
    expect(await follow()).toMatchObject([
      { photo_key: null, face_id: faceOf(`photos/${user}`), may_stay: false, needs_listing: true },
    ])
  })

  it.each([
    ['set', 'update profiles set photo_path = null where user_id = $1'],
    ['made with the profile', 'delete from profiles where user_id = $1'],
  ])('a photo that is %s for the first time has the face indexed', async (_, without) => {
    const { app, event, follow, inside, owner, processChanges, sendAll, stranger, work } =
      await completedEvent()
    await owner.query(without, [stranger])
    await processChanges()
    await app.consent(event, [stranger])
    await processChanges()
    await work(await sendAll(), { outcome: 'erased' })
    expect(await inside.job(event, stranger)).toMatchObject({ state: 'skipped' })
    await owner.query(
      `insert into profiles (user_id, full_name, photo_path) values ($1, 'Somebody', 'photos/first')
       on conflict (user_id) do update set photo_path = excluded.photo_path`,
      [stranger],
    )
    expect(await follow()).toMatchObject([{ user_id: stranger, photo_key: 'photos/first' }])
  })

  it('an event that is deleted takes its collection with it, and its jobs are closed', async () => {
    const { app, collectionsDue, event, follow, inside, processChanges, stranger, user } =
      await completedEvent()
    await app.consent(event, [stranger])
    await processChanges()
    await app.deleteEvent(event)
    expect(await follow()).toEqual([])
    expect((await collectionsDue()).delete).toEqual([event])
    expect(await inside.states(event)).toEqual({ erased: 2 })
    expect(await inside.job(event, user)).toMatchObject({ reason: 'event_deleted', face_id: null })
    await app.deleteAccounts([user, stranger])
    expect(await processChanges()).toBe(0)
  })

  it('an event that is deleted is not erased face by face', async () => {
    const { app, event, inside, lease, messages, processChanges, takeSendBatch } = await sentEvent(30)
    await lease(messages.slice(0, 3))
    await app.deleteEvent(event) // its consents go with it
    await processChanges(10)
    expect(await inside.states(event)).toEqual({ running: 3, erased: 27 })
    for (const job of await inside.jobs(event)) expect(job).toMatchObject({ version: 2 })
    expect((await takeSendBatch()).jobs).toEqual([])
  })

  it('an event that is cleaned up is closed, and its collection deleted when the app has had its time', async () => {
    const { app, collectionsDue, event, follow, inside, owner } = await completedEvent()
    await app.change(event, { cleanup_status: "'in_progress'" })
    expect(await follow()).toEqual([])
    expect(await inside.run(event)).toMatchObject({ collection: 'closing', reason: 'event_closed' })
    expect(await inside.states(event)).toEqual({ skipped: 1 })
    expect((await collectionsDue()).delete).toEqual([])
    await owner.query("update indexing.event_runs set collection_due = collection_due - interval '121 s'")
    expect((await collectionsDue()).delete).toEqual([event])
  })

  it('an event that is taken from the clean-up again is claimed anew', async () => {
    const { app, event, processChanges } = await completedEvent()
    await app.change(event, { cleanup_status: "'completed'" })
    await processChanges()
    await app.change(event, { cleanup_status: "'pending'", starts_at: "now() + interval '5 min'" })
    await processChanges()
    expect(await app.status(event)).toBe('pending')
  })

  it('an event whose row the app holds does not keep others from being followed', async () => {
    const { app, appSession, event, inside, processChanges, processSome, stranger, user } =
      await completedEvent()
    await app.change(event, { cleanup_status: "'completed'" })
    await processChanges()
    await app.change(event, { cleanup_status: "'pending'" })
    const session = await appSession()
    await session.query('begin')
    await session.query("update public.events set name = 'A talk' where event_id = $1", [event])
    await app.photo(user, 'photos/new')
    await app.photo(stranger, 'photos/other')
    expect(await processSome(false)).toEqual({ jobs: 0, more: true })
    expect(await processSome(false)).toEqual({ jobs: 0, more: true })
    expect(await inside.changes()).toBe(1)
    await session.query('commit')
    expect(await processSome(false)).toEqual({ jobs: 0, more: false })
    expect(await app.status(event)).toBe('pending')
  })

  it('a large event that is moved, stopped or begun again is followed page by page', async () => {
    const { app, event, inside, processChanges, sendAll, work } = await sentEvent(0)
    await app.consent(event, await app.users(25))
    await processChanges(10)
    await app.change(event, { starts_at: "'2040-01-01'" })
    await processChanges(10)
    for (const job of await inside.jobs(event)) expect(job.starts_at).toEqual(new Date('2040-01-01'))

    await app.change(event, { is_active: 'false' })
    await processChanges(10)
    await work(await sendAll(), { outcome: 'erased' })
    expect(await inside.states(event)).toEqual({ skipped: 25 })
    await app.change(event, { is_active: 'true' })
    await processChanges(10)
    expect(await inside.states(event)).toEqual({ queued: 25 })
    await work(await sendAll())
    expect(await inside.states(event)).toEqual({ indexed: 25 })
    expect(await app.status(event)).toBe('completed')
  })

  it('an event that has no start any more keeps the one it had', async () => {
    const { app, event, inside, processChanges, stranger } = await completedEvent()
    await app.consent(event, [stranger])
    await processChanges()
    const { starts_at } = await inside.run(event)
    await app.change(event, { starts_at: 'null', ends_at: 'null' })
    await processChanges()
    expect(await inside.changes()).toBe(0)
    expect(await inside.run(event)).toMatchObject({ starts_at })
    expect(await inside.job(event, stranger)).toMatchObject({ starts_at, priority: 1 })
  })

  it('what ends late does not turn the event back, and shows', async () => {
    const { app, event, fail, inside, processChanges, sendAll, stranger } = await completedEvent()
    await app.consent(event, [stranger])
    await processChanges()
    expect(await app.status(event)).toBe('completed')
    await fail(await sendAll(), 'broken')
    expect(await app.status(event)).toBe('completed')
    expect(await inside.job(event, stranger)).toMatchObject({ state: 'failed', error: 'broken' })
  })
})

describe('an object that changes in the bucket', () => {
  it('has everybody looked at whose photo it is, and nothing else', async () => {
    const { app, event, follow, inside, notePhotos, stranger, user } = await completedEvent()
    await app.consent(event, [stranger])
    await app.photo(stranger, `photos/${user}`)
    await follow()
    await inside.expireLeases()
    expect(await notePhotos([`photos/${user}`, 'photos/of-nobody', `photos/${user}`])).toBe(1)
    expect(await inside.changes()).toBe(1)
    const tasks = await follow()
    expect(tasks).toMatchObject([{ user_id: user }])
    // The other's is being worked on: its worker finds a newer version.
    expect(await inside.job(event, stranger)).toMatchObject({ state: 'running' })
  })

  it('has the photo looked at again whose worker may have seen the one before', async () => {
    const { complete, event, inside, lease, messages, notePhotos, processChanges, users } = await sentEvent(1)
    const user = only(users)
    const { tasks, token } = await lease(messages)
    await notePhotos([`photos/${user}`])
    await processChanges()
    const { photo_key } = only(tasks)
    const nexts = await complete(token, [
      {
        event_id: event,
        user_id: user,
        outcome: 'indexed',
        photo_key,
        photo_etag: 'old',
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
    expect(nexts).toMatchObject([{ next: 'again', version: 2 }])
    expect(await inside.job(event, user)).toMatchObject({ face_id: 'a face', photo_etag: 'old' })
  })

  it('has a missing photo looked at when it comes', async () => {
    const { event, inside, messages, notePhotos, processChanges, sendAll, users, work } = await sentEvent(1)
    const missing = { photo_etag: null, face_id: null, reason: 'photo_missing' }
    await work(messages, { ...missing, outcome: 'skipped' })
    expect(await inside.job(event, only(users))).toMatchObject({ state: 'skipped', reason: 'photo_missing' })
    expect(await notePhotos([`photos/${only(users)}`])).toBe(1)
    await processChanges()
    await work(await sendAll())
    expect(await inside.states(event)).toEqual({ indexed: 1 })
  })
})

describe('before the claim', () => {
  it('nothing is written but what the claim will see', async () => {
    const { app, inside, prepare, processChanges, sendAll } = await openLedger()
    const event = await app.event({ startsAt: "now() + interval '3 h'" })
    const [stays = '', revokes = '', leaves = '', removes = '', deletes = ''] = await app.users(5)
    await app.consent(event, [stays, revokes, leaves, removes, deletes])
    await app.consent(event, [revokes], false)
    await app.leave(event, [leaves])
    await app.photo(stays, 'photos/new')
    await app.photo(removes, null)
    await app.deleteAccounts([deletes])
    expect(await processChanges()).toBe(0)
    expect(await inside.states(event)).toEqual({})
    expect(await inside.changes()).toBe(0)
    await app.change(event, { starts_at: "now() + interval '5 min'" })
    expect(await prepare()).toEqual([event])
    expect((await sendAll()).map(({ user_id }) => user_id).sort()).toEqual([stays, removes].sort())
  })

  it('an event that is deleted leaves nothing', async () => {
    const { app, collectionsDue, inside, processChanges } = await openLedger()
    const event = await app.event()
    await app.consent(event, await app.users(2))
    await app.deleteEvent(event)
    expect(await processChanges()).toBe(0)
    expect(await collectionsDue()).toEqual({ create: [], delete: [] })
    expect(await inside.states(event)).toEqual({})
  })
})

describe('a change', () => {
  it('that matters to nothing is not noted', async () => {
    const { event, inside, owner, user } = await completedEvent()
    for (const change of [
      "update profiles set full_name = 'Somebody else'",
      'update event_consents set allow_profile_display = true, updated_at = now()',
      'update event_consents set allow_recognition = allow_recognition',
      "update events set name = 'A talk'",
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

  it('is processed once, by whichever of ten schedulers', async () => {
    const { app, event, inside, processChanges, processSome } = await completedEvent()
    await app.consent(event, await app.users(50))
    const processed = await atOnce(10, () => processSome(false, 7))
    expect(processed.reduce((sum, { jobs }) => sum + jobs, 0)).toBe(50)
    await processChanges()
    expect(await inside.states(event)).toEqual({ indexed: 1, queued: 50 })
    expect((await inside.jobs(event)).map(({ version }) => version)).toEqual(Array(51).fill(1))
  })

  it('of an attendee of many events is followed page by page, each job once', async () => {
    const { app, inside, prepare, processSome, sendAll, work } = await openLedger()
    const events = await app.events(12)
    const [user = '', other = ''] = await app.users(2)
    for (const event of events) await app.consent(event, [user, other])
    await prepare()
    await work(await sendAll())
    await app.photo(user, 'photos/new')
    await app.photo(other, 'photos/other')
    const pages: number[] = []
    for (let more = true; more; ) {
      const page = await processSome(false, 5)
      pages.push(page.jobs)
      more = page.more
    }
    expect(pages.reduce((sum, jobs) => sum + jobs, 0)).toBe(24)
    expect(Math.max(...pages)).toBe(5)
    for (const event of events)
      for (const job of await inside.jobs(event)) expect(job).toMatchObject({ state: 'queued', version: 2 })
  })

  it('of one event among several concerns that one alone', async () => {
    const { app, inside, prepare, processChanges, sendAll, work } = await openLedger()
    const [first = '', second = ''] = await app.events(2)
    const users = await app.users(2)
    for (const event of [first, second]) await app.consent(event, users)
    await prepare()
    await work(await sendAll())
    await app.leave(first, users.slice(0, 1))
    await processChanges()
    expect(await inside.states(first)).toEqual({ indexed: 1, queued: 1 })
    expect(await inside.states(second)).toEqual({ indexed: 2 })
    await app.photo(users[1] ?? '', 'photos/new')
    await processChanges()
    expect(await inside.states(first)).toEqual({ queued: 2 })
    expect(await inside.states(second)).toEqual({ indexed: 1, queued: 1 })
  })

  it('and its contrary, before either was processed, have the collection listed: the app may have acted by itself', async () => {
    const { app, event, follow, stranger, user } = await completedEvent()
    await app.consent(event, [user], false)
    await app.consent(event, [user])
    expect(await follow()).toMatchObject([
      {
        user_id: user,
        photo_key: `photos/${user}`,
        face_id: faceOf(`photos/${user}`),
        needs_listing: true,
      },
    ])
    await app.consent(event, [stranger])
    await app.leave(event, [stranger])
    expect(await follow()).toMatchObject([{ user_id: stranger, photo_key: null, needs_listing: true }])
  })

  it('of a job that is queued or sent costs no second message: its worker reads the desired state', async () => {
    const { app, event, inside, lease, messages, processChanges, sendAll, users } = await sentEvent(1)
    await app.photo(only(users), 'photos/new')
    expect(await processChanges()).toBe(0)
    expect(await inside.job(event, only(users))).toMatchObject({ state: 'sent', version: 1 })
    expect(await sendAll()).toEqual([])
    expect((await lease(messages)).tasks).toMatchObject([{ photo_key: 'photos/new' }])
  })

  it('of a job that waits for another try is another job: its backoff may be long', async () => {
    const { app, event, inside, messages, processChanges, users, work } = await sentEvent(1)
    await work(messages, {
      outcome: 'retry',
      photo_etag: null,
      face_id: null,
      error: 'AccessDeniedException',
    })
    await app.photo(only(users), 'photos/new')
    await processChanges()
    expect(await inside.job(event, only(users))).toMatchObject({
      state: 'queued',
      version: 2,
      error: null,
      urgent: true,
    })
  })

  it('of a running job leaves it to its worker, who looks again', async () => {
    const { app, event, inside, lease, messages, processChanges, users } = await sentEvent(1)
    await lease(messages)
    await app.photo(only(users), 'photos/new')
    await processChanges()
    expect(await inside.job(event, only(users))).toMatchObject({ state: 'running', version: 2 })
  })

  it('of an attendee who had failed is another chance', async () => {
    const { app, event, fail, inside, messages, processChanges, users } = await sentEvent(1)
    await fail(messages)
    await app.photo(only(users), 'photos/new')
    await processChanges()
    expect(await inside.job(event, only(users))).toMatchObject({ state: 'queued', attempts: 0, error: null })
  })

  it('has its event reconciled a minute later, for what the app did to the collection by itself', async () => {
    const { app, event, inside, processChanges, owner, stranger } = await completedEvent()
    const soon = async () =>
      one<boolean>(
        owner,
        "select reconcile_due <= now() + interval '1 minute' from indexing.event_runs where event_id = $1",
        [event],
      )
    for (const change of [
      () => app.consent(event, [stranger]),
      () => app.leave(event, [stranger]),
      () => app.photo(stranger, 'photos/new'),
      () => app.change(event, { is_active: 'false' }),
    ]) {
      await owner.query("update indexing.event_runs set reconcile_due = now() + interval '15 minutes'")
      await change()
      await processChanges()
      expect(await soon()).toBe(true)
    }
    expect((await inside.run(event)).collection).toBe('ready')
  })
})

describe('a transaction of the app that is held open over the claim', () => {
  /** Everything a scheduler does to an event, in the order it does it, more than once. */
  const STEPS = ['process', 'claim', 'make', 'process', 'fan out', 'process', 'send', 'process'] as const

  it.each(['given', 'taken back', 'deleted'])(
    'is not forgotten, whenever it commits: a consent that is %s',
    async (what) => {
      const { app, appSession, claim, collectionsDone, fanOut, inside, processChanges, sendAll, work } =
        await openLedger()
      const [user = ''] = await app.users(1)
      for (let commitAt = 0; commitAt <= STEPS.length; commitAt++) {
        const event = await app.event()
        await app.consent(event, await app.users(1))
        await app.consent(event, [user], what !== 'given')
        await processChanges()
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
          if (step === 'process') await processChanges()
          if (step === 'claim') expect(await claim()).toEqual([event])
          if (step === 'make') await collectionsDone([{ event_id: event, result: 'created' }])
          if (step === 'fan out') while ((await fanOut()).more) {}
          if (step === 'send') await work(await sendAll())
        }
        if (commitAt === STEPS.length) await session.query('commit')
        await processChanges()
        await work(await sendAll())
        const job = await inside.job(event, user).catch(() => undefined)
        if (what === 'given') expect([commitAt, job?.state]).toEqual([commitAt, 'indexed'])
        else
          expect([commitAt, job?.state ?? 'erased', job?.face_id ?? null]).toEqual([commitAt, 'erased', null])
        expect([commitAt, await app.status(event)]).toEqual([commitAt, 'completed'])
      }
    },
  )
})
