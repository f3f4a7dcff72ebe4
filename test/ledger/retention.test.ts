import { describe, expect, it } from 'vitest'
import { one, only, openLedger, sentEvent } from '../support/ledger.ts'

const cleanupStatus = (owner: Parameters<typeof one>[0], event: string) =>
  one<string>(owner, 'select cleanup_status from public.events where event_id = $1', [event])

/** An event with two indexed attendees that ended so many hours ago, in a deployment that cleans up after ten. */
async function endedEvent(hours: number, cleanupAfterHours: number | null = 10) {
  const ledger = await sentEvent(2)
  await ledger.work(ledger.messages)
  await ledger.app.change(ledger.event, {
    starts_at: `now() - interval '${hours + 3} h'`,
    ends_at: `now() - interval '${hours} h'`,
  })
  await ledger.startRun(10_000, 0, cleanupAfterHours)
  await ledger.processChanges()
  const { collectionsDone, event, owner } = ledger
  return {
    ...ledger,
    /** The collection was deleted, for good. */
    deleteCollection: async () => {
      await owner.query("update indexing.event_runs set closed_at = closed_at - interval '1 h'")
      await collectionsDone([{ event_id: event, result: 'deleted' }])
    },
  }
}

const face_ids = `select count(*)::int from indexing.face_jobs where face_id is not null or obsolete_face_ids <> '{}'`

describe('the clean-up', () => {
  it('closes an event that ended long enough ago, and sets cleanup_status as the app does', async () => {
    const { cleanup, collectionsDue, deleteCollection, event, inside, owner, processChanges } =
      await endedEvent(11)
    expect(await one(owner, face_ids)).toBe(2)
    expect(await cleanup()).toMatchObject({ closing: 1, completed: 0 })
    expect(await cleanupStatus(owner, event)).toBe('in_progress')
    await processChanges()
    expect(await inside.run(event)).toMatchObject({ collection: 'closing', reason: 'event_closed' })
    expect(await one(owner, face_ids)).toBe(0)
    await owner.query('update indexing.event_runs set collection_due = now()')
    expect((await collectionsDue()).delete).toEqual([event])
    expect(await cleanup()).toMatchObject({ closing: 0, completed: 0 })
    await deleteCollection()
    expect(await cleanup()).toMatchObject({ closing: 0, completed: 1 })
    expect(await cleanupStatus(owner, event)).toBe('completed')
    expect(await cleanup()).toMatchObject({ closing: 0, completed: 0, found: 0 })
  })

  it.each([
    ['ended later', 9, 10],
    ['is not to be cleaned up, for that is off', 1000, null],
  ])('leaves an event that %s', async (_, hours, after) => {
    const { cleanup, event, inside, owner } = await endedEvent(hours, after)
    expect(await cleanup()).toEqual({ closing: 0, completed: 0, found: 0, more: false })
    expect(await cleanupStatus(owner, event)).toBe('pending')
    expect(await inside.run(event)).toMatchObject({ collection: 'ready' })
  })

  it('leaves an event whose end has been moved meanwhile, and one that the app holds', async () => {
    const { app, appSession, cleanup, event, owner } = await endedEvent(11)
    const session = await appSession()
    await session.query('begin')
    await session.query("update public.events set ends_at = now() + interval '1 h' where event_id = $1", [
      event,
    ])
    expect(await cleanup()).toMatchObject({ closing: 0 })
    await session.query('commit')
    expect(await cleanup()).toMatchObject({ closing: 0 })
    await app.change(event, { ends_at: "now() - interval '11 h'" })
    expect(await cleanup()).toMatchObject({ closing: 1 })
    expect(await cleanupStatus(owner, event)).toBe('in_progress')
  })

  it('of the app is left to the app: its cleanup_status is not completed for it', async () => {
    const { app, cleanup, deleteCollection, event, owner, processChanges } = await endedEvent(11, null)
    await app.change(event, { cleanup_status: "'in_progress'" })
    await processChanges()
    expect(await one(owner, face_ids)).toBe(0)
    await deleteCollection()
    expect(await cleanup()).toMatchObject({ completed: 0 })
    expect(await cleanupStatus(owner, event)).toBe('in_progress')
  })

  it('finds an event that was closed or deleted without a trigger that told of it', async () => {
    const { app, cleanup, event, inside, owner, processChanges } = await endedEvent(1, null)
    const other = await app.event()
    const deleted = await app.event()
    await owner.query(
      `insert into indexing.event_runs (event_id, starts_at, ends_at, collection) select event_id, starts_at, starts_at + interval '12 h', 'ready'
       from public.events where event_id = any ($1)`,
      [[other, deleted]],
    )
    await owner.query(
      `alter table public.events disable trigger user; update public.events set cleanup_status = 'completed' where event_id = '${event}';
       delete from public.events where event_id = '${deleted}'; alter table public.events enable trigger user`,
    )
    expect(await cleanup()).toMatchObject({ found: 2 })
    expect(await cleanup()).toMatchObject({ found: 0 })
    await processChanges()
    expect(await inside.run(event)).toMatchObject({ collection: 'closing', reason: 'event_closed' })
    expect(await inside.run(deleted)).toMatchObject({ collection: 'closing', reason: 'event_deleted' })
    expect(await inside.run(other)).toMatchObject({ collection: 'ready' })
    expect(await one(owner, face_ids)).toBe(0)
  })

  it('finds an event that was put back after it had been deleted or closed, and has it claimed anew', async () => {
    const { app, cleanup, event, inside, owner, processChanges } = await sentEvent(1)
    const over = await app.event({ startsAt: "now() - interval '3 d'" })
    await owner.query(`
      create table kept as select * from public.events where event_id = '${event}';
      delete from public.events where event_id = '${event}';
      insert into indexing.event_runs (event_id, starts_at, ends_at, collection, closed_at) values ('${over}', now(), now(), 'deleted', now());
      update public.events set indexing_status = 'completed' where event_id = '${over}'`)
    await processChanges()
    expect(await inside.run(event)).toMatchObject({ collection: 'closing' })
    expect(await cleanup()).toMatchObject({ found: 0 })
    await owner.query('insert into public.events table kept')
    expect(await cleanup()).toMatchObject({ found: 1 })
    expect(await cleanup()).toMatchObject({ found: 0 })
    await processChanges()
    expect(await cleanup()).toMatchObject({ found: 0 })
    const statuses = 'select array_agg(indexing_status::text order by starts_at) from public.events'
    expect(await one(owner, statuses)).toEqual(['completed', 'pending'])
  })

  it('goes in pages', async () => {
    const { app, cleanup, owner, startRun } = await openLedger()
    await startRun(10_000, 0, 10)
    for (let n = 0; n < 5; n++) await app.event({ startsAt: "now() - interval '3 d'" })
    await owner.query(
      `insert into indexing.event_runs (event_id, starts_at, ends_at, collection) select event_id, starts_at, starts_at, 'ready' from public.events`,
    )
    expect(await cleanup(2)).toMatchObject({ closing: 2, more: true })
    expect(await cleanup(2)).toMatchObject({ closing: 2, more: true })
    expect(await cleanup(2)).toMatchObject({ closing: 1, more: false })
  })
})

describe('a claim', () => {
  it.each([
    [null, 24],
    [48, 48],
    [2, 2],
  ])('with a clean-up after %s hours leaves what ended %i hours ago', async (setting, hours) => {
    const { app, claim, health, startRun } = await openLedger()
    await startRun(10_000, 0, setting)
    const claimed = await app.event({ startsAt: `now() - interval '${hours + 12} h' + interval '5 min'` }) // 12 hours long
    await app.event({ startsAt: `now() - interval '${hours + 12} h' - interval '5 min'` })
    expect((await health()).overdue_events).toBe(1)
    expect(await claim()).toEqual([claimed])
  })
})

describe('pruning', () => {
  /** An event whose collection was deleted so many days ago. */
  async function goneEvent(days: number) {
    const ledger = await endedEvent(1000, 10)
    await ledger.cleanup()
    await ledger.processChanges()
    await ledger.deleteCollection()
    await ledger.cleanup()
    while ((await ledger.sealReceipts()).more) {}
    await ledger.owner.query('update indexing.event_runs set closed_at = now() - make_interval(days => $1)', [
      days,
    ])
    const rows = async () =>
      one<Record<string, number>>(
        ledger.owner,
        `select jsonb_build_object('jobs', (select count(*) from indexing.face_jobs),
           'runs', (select count(*) from indexing.event_runs), 'letters', (select count(*) from indexing.dead_letters))`,
      )
    return { ...ledger, rows }
  }

  it('deletes jobs and run when the collection has been gone for so long, in pages', async () => {
    const { prune, receipts, rows, event } = await goneEvent(31)
    expect(await prune({ page: 1 })).toMatchObject({ jobs: 1, runs: 0, more: true })
    expect(await prune({ page: 1 })).toMatchObject({ jobs: 1, runs: 1, more: true })
    expect(await prune({ page: 1 })).toMatchObject({ jobs: 0, runs: 0, more: false })
    expect(await rows()).toMatchObject({ jobs: 0, runs: 0 })
    expect((await receipts({ event })).receipts).toMatchObject([{ reason: 'event' }])
  })

  it.each([
    ['not gone for so long', "update indexing.event_runs set closed_at = now() - interval '29 d'"],
    [
      'not settled',
      "update indexing.event_runs set state = 'in_progress', settled_at = null; update indexing.face_jobs set state = 'queued', ended_at = null",
    ],
    ['not gone', "update indexing.event_runs set collection = 'closing'"],
    ['still there', "update indexing.event_runs set collection = 'ready', closed_at = null"],
  ])('leaves what is %s', async (_, statement) => {
    const { owner, prune, rows } = await goneEvent(31)
    await owner.query(statement)
    expect(await prune()).toEqual({ jobs: 0, runs: 0, letters: 0, receipts: 0, more: false })
    expect(await rows()).toMatchObject({ jobs: 2, runs: 1 })
  })

  it('leaves a job that failed as long as its event is not over', async () => {
    const { owner, prune, rows, users } = await goneEvent(31)
    await owner.query("update indexing.face_jobs set state = 'failed' where user_id = $1", [users[0]])
    await owner.query("update indexing.event_runs set ends_at = now() + interval '1 d'")
    expect(await prune()).toMatchObject({ jobs: 1, runs: 0 })
    expect(await rows()).toMatchObject({ jobs: 1, runs: 1 })
    await owner.query("update indexing.event_runs set ends_at = now() - interval '1 s'")
    expect(await prune()).toMatchObject({ jobs: 1, runs: 1 })
  })

  it('deletes the rows of erased attendees of an event that is over and not cleaned up, and leaves the others', async () => {
    const { app, event, inside, owner, processChanges, prune, sealReceipts, sendAll, users, work } =
      await endedEvent(1000, null)
    const [user = '', other = ''] = users
    await app.consent(event, [user], false)
    await processChanges()
    await work(await sendAll())
    await owner.query("update indexing.face_jobs set ended_at = now() - interval '31 d'")
    expect(await prune()).toMatchObject({ jobs: 0 }) // it is not proven
    await owner.query('update indexing.erasures set verified_at = now()')
    await sealReceipts()
    expect(await prune()).toMatchObject({ jobs: 1, runs: 0 })
    expect((await inside.jobs(event)).map(({ user_id }) => user_id)).toEqual([other])
  })

  it('keeps the rows of erased attendees of an event that is not over', async () => {
    const { app, event, owner, processChanges, prune, sendAll, users, work } = await sentEvent(1)
    await app.consent(event, users, false)
    await processChanges()
    await work(await sendAll())
    await owner.query(
      "update indexing.face_jobs set ended_at = now() - interval '31 d'; truncate indexing.erasures",
    )
    expect(await prune()).toMatchObject({ jobs: 0 })
  })

  it('deletes messages that were kept for so long', async () => {
    const { keepDeadLetters, owner, prune } = await openLedger()
    const letter = { body: 'b', attributes: {}, problem: 'p' }
    await keepDeadLetters(['1', '2', '3'].map((message_id) => ({ ...letter, message_id })))
    await owner.query(
      "update indexing.dead_letters set received_at = now() - interval '31 d' where message_id < '3'",
    )
    expect(await prune({ page: 1 })).toMatchObject({ letters: 1, more: true })
    expect(await prune({ page: 2 })).toMatchObject({ letters: 1, more: false })
    expect(await one(owner, 'select string_agg(message_id, $1) from indexing.dead_letters', [','])).toBe('3')
  })
})

describe('an erasure by request', () => {
  it('of an attendee is refused as long as the app wants a face of theirs, at one of their events', async () => {
    const { app, eraseAttendee, event, inside, prepare, sendAll, users, work, messages } = await sentEvent(1)
    await work(messages)
    const user = only(users)
    const other = await app.event()
    await app.consent(other, users)
    await prepare()
    await work(await sendAll())
    await app.consent(event, users, false)
    expect(await eraseAttendee(user)).toEqual({
      queued: 0,
      events: [event, other]
        .sort()
        .map((event_id) => ({ event_id, state: 'indexed', face: true, wanted: event_id === other })),
    })
    expect(await inside.states(event)).toEqual({ indexed: 1 })
    expect(await eraseAttendee(user, event)).toMatchObject({ queued: 1 })
    expect(await inside.states(event)).toEqual({ queued: 1 })
    expect(await inside.states(other)).toEqual({ indexed: 1 })
  })

  it('of an attendee lists the collection, goes first, and is noted', async () => {
    const {
      app,
      eraseAttendee,
      event,
      inside,
      owner,
      processChanges,
      receipts,
      sendAll,
      users,
      work,
      messages,
    } = await sentEvent(1)
    const user = only(users)
    await work(messages)
    await app.consent(event, users, false)
    await processChanges()
    await work(await sendAll())
    await owner.query('truncate indexing.erasures')
    expect(await eraseAttendee(user, undefined, false)).toEqual({
      queued: 0,
      events: [{ event_id: event, state: 'erased', face: false, wanted: false }],
    })
    expect(await eraseAttendee(user)).toMatchObject({ queued: 1 })
    expect(await inside.job(event, user)).toMatchObject({
      state: 'queued',
      needs_listing: true,
      urgent: true,
      priority: 0,
    })
    expect((await receipts({ attendee: user })).open).toMatchObject([{ reason: 'request', event_id: event }])
  })

  it('of an event closes it at once, and moves cleanup_status along', async () => {
    const { cleanup, collectionsDue, eraseEvent, event, inside, owner, processChanges, startRun } =
      await endedEvent(1, null)
    await startRun()
    expect(await eraseEvent(event, false)).toEqual({
      collection: 'ready',
      attendees: 2,
      faces: 2,
      held: false,
      more: false,
    })
    expect(await inside.run(event)).toMatchObject({ collection: 'ready' })
    expect(await eraseEvent(event)).toMatchObject({ faces: 2, held: false, more: false })
    expect(await cleanupStatus(owner, event)).toBe('in_progress')
    expect((await collectionsDue()).delete).toEqual([event])
    await processChanges()
    expect(await inside.run(event)).toMatchObject({ collection: 'closing' })
    await owner.query("update indexing.event_runs set collection = 'deleted'")
    await cleanup()
    expect(await cleanupStatus(owner, event)).toBe('completed')
  })

  it('of an event does nothing while the app holds its row, and nothing to one that was never claimed', async () => {
    const { app, appSession, eraseEvent, event, inside } = await endedEvent(1, null)
    const session = await appSession()
    await session.query('begin')
    await session.query("update public.events set name = 'x' where event_id = $1", [event])
    expect(await eraseEvent(event)).toMatchObject({ held: true })
    expect(await inside.run(event)).toMatchObject({ collection: 'ready' })
    expect(await eraseEvent(await app.event())).toBeNull()
  })

  it('of an event that the app has deleted closes it, too', async () => {
    const { eraseEvent, event, inside, owner } = await endedEvent(1, null)
    await owner.query(
      'alter table public.events disable trigger user; delete from public.events; alter table public.events enable trigger user',
    )
    expect(await eraseEvent(event)).toMatchObject({ held: false })
    expect(await inside.run(event)).toMatchObject({ collection: 'closing', reason: 'event_deleted' })
  })
})
