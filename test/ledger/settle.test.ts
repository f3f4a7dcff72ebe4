import type pg from 'pg'
import { describe, expect, it } from 'vitest'
import type { Task } from '../../src/core/database.ts'
import { atOnce, openLedger, resultOf, sentEvent } from '../support/ledger.ts'

/** Has the database write down every change of an event's status; returns a look at those of one event. */
async function watchStatus(owner: pg.Pool) {
  await owner.query(`
    create table public.status_changes (id serial, event_id uuid, status text);
    create function public.note_status() returns trigger language plpgsql security definer as $$
      begin insert into public.status_changes (event_id, status) values (new.event_id, new.indexing_status); return null; end
    $$;
    create trigger note_status after update on public.events for each row
      when (old.indexing_status is distinct from new.indexing_status) execute function public.note_status()`)
  return async (event: string) =>
    (
      await owner.query<{ status: string }>(
        'select status from public.status_changes where event_id = $1 order by id',
        [event],
      )
    ).rows.map(({ status }) => status)
}

/** An event with so many attendees, whose jobs one worker holds. */
async function heldEvent(attendees: number, options?: Parameters<typeof sentEvent>[1]) {
  const ledger = await sentEvent(attendees, options)
  const { token, tasks } = await ledger.begin(ledger.messages)
  const report = (some: Task[], said = {}) =>
    ledger.finish(
      token,
      some.map((task) => resultOf(task, said)),
    )
  return { ...ledger, tasks, report }
}

const FAILED = { outcome: 'failed', face_id: null, error: 'broken' } as const
const SKIPPED = { outcome: 'skipped', face_id: null, reason: 'no_face' } as const

describe('an event is settled', () => {
  it('once and right when twenty workers finish its last jobs at the same moment, 200 times over', async () => {
    const { app, begin, finish, inside, owner, prepare, sendAll } = await openLedger({ ofItsOwn: true })
    const statusesOf = await watchStatus(owner)
    const events = await app.events(200)
    const users = await app.users(20)
    // None is more urgent than another: each worker is given what its messages name.
    await owner.query("update public.events set starts_at = date_trunc('hour', now())")
    await owner.query(
      `insert into public.event_consents (event_id, user_id, allow_recognition)
       select e, u, true from unnest($1::uuid[]) e, unnest($2::uuid[]) u`,
      [events, users],
    )
    await prepare()
    const messages = await sendAll()
    const workers = await atOnce(20, (index) =>
      begin(messages.filter(({ user_id }) => user_id === users[index])),
    )

    const failing = new Set(events.filter((_, index) => index % 3 === 0))
    const size = 5 // events that each of the workers finishes in one call, in an order of its own
    for (let start = 0; start < events.length; start += size) {
      const round = new Set(events.slice(start, start + size))
      await atOnce(20, (index) => {
        const { token, tasks } = workers[index] ?? { token: '', tasks: [] }
        const mine = tasks.filter(({ event_id }) => round.has(event_id))
        const fails = ({ event_id }: Task) => failing.has(event_id) && index === start % 20
        return finish(
          token,
          (index % 2 ? mine : mine.toReversed()).map((task) => resultOf(task, fails(task) ? FAILED : {})),
        )
      })
    }
    for (const event of events) {
      const expected = failing.has(event) ? 'failed' : 'completed'
      expect([await statusesOf(event), (await inside.run(event)).state]).toEqual([
        ['in_progress', expected],
        expected,
      ])
    }
  })

  it('as completed when every job ended and none failed, and not before', async () => {
    const { app, event, inside, report, tasks } = await heldEvent(3)
    await report(tasks.slice(0, 1))
    await report(tasks.slice(1, 2), SKIPPED)
    expect(await app.status(event)).toBe('in_progress')
    await report(tasks.slice(2))
    expect(await app.status(event)).toBe('completed')
    expect(await inside.run(event)).toMatchObject({ state: 'completed', reason: null })
  })

  it('as failed when one job failed, whichever came last', async () => {
    const { app, event, report, tasks } = await heldEvent(2)
    await report(tasks.slice(0, 1), FAILED)
    expect(await app.status(event)).toBe('in_progress')
    await report(tasks.slice(1))
    expect(await app.status(event)).toBe('failed')
  })

  it('not before all its jobs are written', async () => {
    const { app, begin, claim, collectionsDone, expand, finish, nextPage } = await openLedger()
    const event = await app.event()
    await app.consent(event, await app.users(4))
    await claim()
    await collectionsDone([{ event_id: event, result: 'created' }])
    for (const expected of ['in_progress', 'in_progress', 'completed']) {
      await expand(2)
      const { token, tasks } = await begin((await nextPage()).jobs)
      await finish(
        token,
        tasks.map((task) => resultOf(task)),
      )
      expect(await app.status(event)).toBe(expected)
    }
  })

  it('not twice: a late job does not turn it back', async () => {
    const { absorb, app, event, inside, owner, report, sendAll, tasks, work } = await heldEvent(2, {
      ofItsOwn: true,
    })
    const statusesOf = await watchStatus(owner)
    await report(tasks)
    const late = await app.users(1)
    await app.consent(event, late)
    await absorb()
    expect(await app.status(event)).toBe('completed')
    await work(await sendAll(), FAILED)
    expect(await inside.states(event)).toEqual({ indexed: 2, failed: 1 })
    expect(await statusesOf(event)).toEqual(['completed'])
  })
})

describe('settling and the app', () => {
  it('does not wait for an event that the app holds: the next sweep settles it', async () => {
    const { app, appSession, event, inside, report, sweep, tasks } = await heldEvent(1)
    const session = await appSession()
    await session.query('begin')
    await session.query("update public.events set name = 'A talk' where event_id = $1", [event])
    await report(tasks)
    expect(await inside.states(event)).toEqual({ indexed: 1 })
    await sweep()
    expect(await inside.run(event)).toMatchObject({ state: 'in_progress' })
    await session.query('commit')
    expect(await app.status(event)).toBe('in_progress')
    await sweep()
    expect(await app.status(event)).toBe('completed')
    expect(await inside.run(event)).toMatchObject({ state: 'completed' })
  })

  it('does not hold up a consent that is being given in an open transaction', async () => {
    const { app, appSession, event, report, tasks } = await heldEvent(1)
    const session = await appSession()
    await session.query('begin')
    await session.query(
      'insert into public.event_consents (event_id, user_id, allow_recognition) values ($1, $2, true)',
      [event, (await app.users(1))[0]],
    )
    await report(tasks)
    expect(await app.status(event)).toBe('completed') // a row that is only referenced is no row held
    await session.query('commit')
  })

  it('never overwrites a pending that somebody set by hand', async () => {
    const { app, event, inside, prepare, report, tasks } = await heldEvent(1)
    await app.change(event, { indexing_status: "'pending'" })
    await report(tasks)
    expect(await app.status(event)).toBe('pending')
    expect(await prepare()).toEqual([event])
    expect(await inside.run(event)).toMatchObject({ state: 'in_progress' })
  })

  it('never overwrites a pending that is committed while it settles', async () => {
    const { app, appSession, event, report, sweep, tasks } = await heldEvent(1)
    const session = await appSession()
    await session.query('begin')
    await session.query("update public.events set indexing_status = 'pending' where event_id = $1", [event])
    await report(tasks)
    await session.query('commit')
    await sweep()
    expect(await app.status(event)).toBe('pending')
  })
})

describe('an event that is deactivated while it is being indexed', () => {
  /** One attendee is indexed, the other's message is under way when it happens. */
  async function deactivatedEvent() {
    const ledger = await sentEvent(2)
    await ledger.work(ledger.messages.slice(0, 1))
    await ledger.app.change(ledger.event, { is_active: 'false' })
    return ledger
  }

  it('is failed for that reason when not all could be indexed', async () => {
    const { absorb, app, begin, event, inside, messages } = await deactivatedEvent()
    await absorb()
    const { tasks } = await begin(messages)
    expect(tasks.map(({ action }) => action)).toEqual(['none', 'none'])
    expect(await inside.states(event)).toEqual({ indexed: 1, skipped: 1 })
    expect(await app.status(event)).toBe('failed')
    expect(await inside.run(event)).toMatchObject({ state: 'failed', reason: 'event_inactive' })
  })

  it('is completed when all had been indexed', async () => {
    const { app, begin, event, inside, report, tasks } = await heldEvent(2)
    await report(tasks.slice(0, 1))
    await app.change(event, { is_active: 'false' })
    const again = await report(tasks.slice(1))
    expect(again).toMatchObject([{ next: 'again' }])
    await begin(again)
    expect(await inside.states(event)).toEqual({ indexed: 2 })
    expect(await app.status(event)).toBe('completed')
  })

  it('is claimed anew when it is activated again, and costs no second call', async () => {
    const { absorb, app, begin, event, inside, messages, prepare, sendAll, work } = await deactivatedEvent()
    await begin(messages)
    await app.change(event, { is_active: 'true' })
    await absorb()
    expect(await app.status(event)).toBe('pending')
    expect(await prepare()).toEqual([event])
    await work(await sendAll())
    expect((await inside.jobs(event)).map((job) => [job.state, job.index_calls])).toEqual([
      ['indexed', 1],
      ['indexed', 1],
    ])
    expect(await app.status(event)).toBe('completed')
  })

  it('is claimed anew at the next look when the app holds it at the first', async () => {
    const { absorb, app, appSession, begin, event, messages } = await deactivatedEvent()
    await begin(messages)
    await app.change(event, { is_active: 'true' })
    const session = await appSession()
    await session.query('begin')
    await session.query("update public.events set name = 'A talk' where event_id = $1", [event])
    await absorb()
    expect(await app.status(event)).toBe('failed')
    await session.query('commit')
    await absorb()
    expect(await app.status(event)).toBe('pending')
  })

  it('forgets nobody when it is activated while a worker, who has seen it inactive, commits', async () => {
    const { absorb, app, event, inside, messages, sendAll, serviceSession, untilWaiting, work } =
      await deactivatedEvent()
    await app.consent(event, await app.users(1)) // one more, so that the worker does not settle the event
    await absorb()
    const worker = await serviceSession()
    const scheduler = await serviceSession()
    await worker.query('begin')
    await worker.query('select public.indexing_begin($1, gen_random_uuid(), 60, 1)', [
      JSON.stringify(messages.slice(1)),
    ])
    await app.change(event, { is_active: 'true' })
    const absorbing = scheduler.query('select public.indexing_absorb()')
    await untilWaiting(scheduler)
    await worker.query('commit')
    await absorbing
    expect(await inside.states(event)).toEqual({ indexed: 1, queued: 2 })
    await work(await sendAll())
    expect(await inside.states(event)).toEqual({ indexed: 3 })
    expect(await app.status(event)).toBe('completed')
  })
})
