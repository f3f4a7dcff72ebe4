import type pg from 'pg'
import { describe, expect, it } from 'vitest'
import type { LeasedJob } from '../../src/core/contract.ts'
import {
  atOnce,
  failedWith,
  functionsOn,
  openLedger,
  refusedFor,
  resultOf,
  sentEvent,
} from '../support/ledger.ts'

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

/** An event with so many attendees, whose jobs one worker has leased. */
async function leasedEvent(attendees: number, options?: Parameters<typeof sentEvent>[1]) {
  const ledger = await sentEvent(attendees, options)
  const { token, tasks } = await ledger.lease(ledger.messages)
  const report = (some: LeasedJob[], said = {}) =>
    ledger.complete(
      token,
      some.map((task) => resultOf(task, said)),
    )
  /** Every attempt goes wrong, until the last message is a dead letter. */
  const fail = async (some: LeasedJob[]) => {
    await report(some, failedWith('broken'))
    await ledger.failDeadLetters(some)
  }
  return { ...ledger, tasks, report, fail, ledgerFail: ledger.fail }
}

describe('an event is settled', () => {
  it('once and right when twenty workers complete its last jobs at the same moment, 200 times over', async () => {
    const { app, complete, failDeadLetters, inside, lease, owner, prepare, sendAll } = await openLedger({
      ofItsOwn: true,
    })
    const statusesOf = await watchStatus(owner)
    const events = await app.events(200)
    const users = await app.users(20)
    await owner.query(
      `insert into public.event_consents (event_id, user_id, allow_recognition)
       select e, u, true from unnest($1::uuid[]) e, unnest($2::uuid[]) u`,
      [events, users],
    )
    await prepare()
    const messages = await sendAll()
    const workers = await atOnce(20, (index) =>
      lease(messages.filter(({ user_id }) => user_id === users[index])),
    )

    const failing = new Set(events.filter((_, index) => index % 3 === 0))
    const size = 5 // events that each of the workers completes in one call, in an order of its own
    for (let start = 0; start < events.length; start += size) {
      const round = new Set(events.slice(start, start + size))
      await atOnce(20, async (index) => {
        const { token, tasks } = workers[index] ?? { token: '', tasks: [] }
        const mine = tasks.filter(({ event_id }) => round.has(event_id))
        const fails = ({ event_id }: LeasedJob) => failing.has(event_id) && index === start % 20
        await complete(
          token,
          (index % 2 ? mine : mine.toReversed()).map((task) =>
            resultOf(task, fails(task) ? failedWith('broken') : {}),
          ),
        )
        await failDeadLetters(mine.filter(fails))
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
    const { app, event, inside, report, tasks } = await leasedEvent(3)
    await report(tasks.slice(0, 1))
    await report(tasks.slice(1, 2), refusedFor('no_face'))
    expect(await app.status(event)).toBe('in_progress')
    await report(tasks.slice(2))
    expect(await app.status(event)).toBe('completed')
    expect(await inside.run(event)).toMatchObject({ state: 'completed', reason: null })
  })

  it('as completed when every photo was refused or is missing: one attendee’s photo switches nothing off', async () => {
    const { app, event, report, tasks } = await leasedEvent(2)
    await report(tasks.slice(0, 1), refusedFor('several_faces'))
    await report(tasks.slice(1), { ...failedWith('gone', 'photo_missing'), outcome: 'skipped' })
    expect(await app.status(event)).toBe('completed')
  })

  it('as failed when one job failed, whichever came last', async () => {
    const { app, event, fail, report, tasks } = await leasedEvent(2)
    await fail(tasks.slice(0, 1))
    expect(await app.status(event)).toBe('in_progress')
    await report(tasks.slice(1))
    expect(await app.status(event)).toBe('failed')
  })

  it('as completed with the share of failed jobs that the deployment allows, and no more', async () => {
    for (const [failures, status] of [
      [1, 'completed'],
      [2, 'failed'],
    ] as const) {
      const { app, event, fail, report, startRun, tasks } = await leasedEvent(5)
      await startRun(10_000, 0.2)
      await fail(tasks.slice(0, failures))
      await report(tasks.slice(failures))
      expect(await app.status(event)).toBe(status)
    }
  })

  it('not before all its jobs are written', async () => {
    const { app, claim, collectionsDone, fanOut, takeSendBatch, work } = await openLedger()
    const event = await app.event()
    await app.consent(event, await app.users(4))
    await claim()
    await collectionsDone([{ event_id: event, result: 'created' }])
    for (const expected of ['in_progress', 'in_progress', 'completed']) {
      await fanOut(2)
      await work((await takeSendBatch()).jobs)
      expect(await app.status(event)).toBe(expected)
    }
  })

  it('not twice: a late job does not turn it back', async () => {
    const { app, event, inside, ledgerFail, owner, processChanges, report, sendAll, tasks } =
      await leasedEvent(2, { ofItsOwn: true })
    const statusesOf = await watchStatus(owner)
    await report(tasks)
    await app.consent(event, await app.users(1))
    await processChanges()
    expect(await app.status(event)).toBe('completed')
    await ledgerFail(await sendAll())
    expect(await inside.states(event)).toEqual({ indexed: 2, failed: 1 })
    expect(await statusesOf(event)).toEqual(['completed'])
  })

  it('as completed after all when its failed jobs are mended', async () => {
    const { app, event, fail, inside, owner, rescue, report, sendAll, tasks, work } = await leasedEvent(3, {
      ofItsOwn: true,
    })
    const statusesOf = await watchStatus(owner)
    await report(tasks.slice(2))
    await fail(tasks.slice(0, 2))
    expect(await app.status(event)).toBe('failed')
    await owner.query('update indexing.face_jobs set look_again_at = now() where look_again_at is not null')
    await rescue()
    const [first, ...others] = await sendAll()
    await work(first ? [first] : [])
    expect(await app.status(event)).toBe('failed')
    await work(others)
    expect(await inside.run(event)).toMatchObject({ state: 'completed' })
    expect(await statusesOf(event)).toEqual(['failed', 'completed'])
  })
})

describe('settling and the app', () => {
  it('does not wait for an event that the app holds: the next rescue settles it', async () => {
    const { app, appSession, event, inside, report, rescue, tasks } = await leasedEvent(1)
    const session = await appSession()
    await session.query('begin')
    await session.query("update public.events set name = 'A talk' where event_id = $1", [event])
    await report(tasks)
    expect(await inside.states(event)).toEqual({ indexed: 1 })
    await rescue()
    expect(await inside.run(event)).toMatchObject({ state: 'in_progress' })
    await session.query('commit')
    expect(await app.status(event)).toBe('in_progress')
    await rescue()
    expect(await app.status(event)).toBe('completed')
    expect(await inside.run(event)).toMatchObject({ state: 'completed' })
  })

  it('does not hold up a consent that is being given in an open transaction', async () => {
    const { app, appSession, event, report, tasks } = await leasedEvent(1)
    const session = await appSession()
    await session.query('begin')
    await session.query(
      'insert into public.event_consents (event_id, user_id, allow_recognition) values ($1, $2, true)',
      [event, (await app.users(1))[0]],
    )
    await report(tasks)
    expect(await app.status(event)).toBe('completed') // a row that is only referenced is not locked against us
    await session.query('commit')
  })

  it.each(['in_progress', 'failed'])(
    'for good: a row of the app that is put back as %s becomes completed with the next reconcile',
    async (status) => {
      const { app, event, tasks, report, reconcileDone } = await leasedEvent(1)
      await report(tasks)
      await app.change(event, { indexing_status: `'${status}'` })
      await reconcileDone(event, new Date().toISOString())
      expect(await app.status(event)).toBe('completed')
    },
  )

  it('for good, unless the app has its row set to pending or completed', async () => {
    const { app, event, tasks, fail, reconcileDone } = await leasedEvent(1)
    await fail(tasks)
    for (const status of ['completed', 'pending']) {
      await app.change(event, { indexing_status: `'${status}'` })
      await reconcileDone(event, new Date().toISOString())
      expect(await app.status(event)).toBe(status)
    }
  })

  it('never overwrites a pending that somebody set by hand', async () => {
    const { app, event, inside, prepare, report, tasks } = await leasedEvent(1)
    await app.change(event, { indexing_status: "'pending'" })
    await report(tasks)
    expect(await app.status(event)).toBe('pending')
    expect(await prepare()).toEqual([event])
    expect(await inside.run(event)).toMatchObject({ state: 'in_progress' })
  })

  it('never overwrites a pending that is committed while it settles', async () => {
    const { app, appSession, event, report, rescue, tasks } = await leasedEvent(1)
    const session = await appSession()
    await session.query('begin')
    await session.query("update public.events set indexing_status = 'pending' where event_id = $1", [event])
    await report(tasks)
    await session.query('commit')
    await rescue()
    expect(await app.status(event)).toBe('pending')
  })
})

describe('an event that is deactivated while it is being indexed', () => {
  const SKIPPED = { outcome: 'erased' } as const

  /** One attendee is indexed, the other's message is under way when it happens. */
  async function deactivatedEvent() {
    const ledger = await sentEvent(2)
    await ledger.work(ledger.messages.slice(0, 1))
    await ledger.app.change(ledger.event, { is_active: 'false' })
    return ledger
  }

  it('is completed, and attendees who could not be indexed are skipped for that reason', async () => {
    const { app, event, inside, messages, processChanges, users, work } = await deactivatedEvent()
    await processChanges()
    await work(messages, SKIPPED)
    expect(await inside.states(event)).toEqual({ indexed: 1, skipped: 1 })
    expect(await inside.job(event, users[1] ?? '')).toMatchObject({ reason: 'event_inactive' })
    expect(await app.status(event)).toBe('completed')
  })

  it('has the others indexed when it is activated again, and costs no second call', async () => {
    const { app, event, inside, messages, processChanges, sendAll, work } = await deactivatedEvent()
    await work(messages, SKIPPED)
    await app.change(event, { is_active: 'true' })
    await processChanges()
    expect(await inside.states(event)).toEqual({ indexed: 1, queued: 1 })
    await work(await sendAll())
    expect((await inside.jobs(event)).map((job) => [job.state, job.index_calls])).toEqual([
      ['indexed', 1],
      ['indexed', 1],
    ])
    expect(await app.status(event)).toBe('completed')
  })

  it('forgets nobody when it is activated while a worker, who has seen it inactive, commits', async () => {
    const {
      app,
      event,
      inside,
      lease,
      messages,
      owner,
      processChanges,
      reconcile,
      serviceSession,
      untilWaiting,
    } = await deactivatedEvent()
    await app.consent(event, await app.users(1)) // whose job stays open, so that the event is not settled yet
    await processChanges()
    await owner.query(
      "update indexing.event_runs set reconcile_due = now() + interval '15 minutes', changed_at = null",
    )
    const { tasks, token } = await lease(messages.slice(1))
    const worker = await serviceSession()
    await worker.query('begin')
    await functionsOn(worker).complete(
      token,
      tasks.map((task) => resultOf(task, SKIPPED)),
    )
    await app.change(event, { is_active: 'true' })
    const scheduler = await serviceSession()
    const processing = functionsOn(scheduler).processChanges()
    await untilWaiting(scheduler)
    await worker.query('commit')
    await processing
    expect(await inside.states(event)).toEqual({ indexed: 1, skipped: 1, queued: 1 })
    const { reconcile_due } = await inside.run(event)
    expect(Number(reconcile_due)).toBeLessThan(Date.now() + 61_000)
    const faces = (await inside.jobs(event)).flatMap(({ user_id, face_id }) =>
      face_id === null ? [] : { user_id, face_ids: [face_id] },
    )
    expect(await reconcile(event, faces)).toMatchObject({ unnoticed: 1, missing: 0, extra: 0 })
    expect(await inside.states(event)).toEqual({ indexed: 1, queued: 2 })
  })
})
