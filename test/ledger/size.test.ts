import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { describe, expect, inject, it, onTestFinished } from 'vitest'
import type { Answer } from '../../src/core/contract.ts'
import type { Attendee } from '../../src/core/message.ts'
import { functionsOn, one, openLedger, resultOf } from '../support/ledger.ts'

describe('an event of 100,000 attendees', () => {
  it('is written, handed out, replayed and closed within the timeout of the API', async () => {
    const { app, claim, collectionsDone, fanOut, inside, owner, processSome, replay, takeSendBatch } =
      await openLedger({
        ofItsOwn: true,
      })
    const event = await app.event()
    await owner.query(`
      alter table public.event_consents disable trigger user; -- ours, and the app's checks: they only cost time here
      alter table public.event_consents drop constraint event_consents_event_id_fkey;
      alter table public.event_consents drop constraint event_consents_user_id_fkey;
      insert into public.event_consents (event_id, user_id, allow_recognition)
        select event_id, gen_random_uuid(), true from public.events, generate_series(1, 100000)`)
    expect(await claim()).toEqual([event])
    await collectionsDone([{ event_id: event, result: 'created' }])
    let written = 0
    for (let more = true; more; ) {
      const page = await fanOut(10_000)
      written += page.jobs
      more = page.more
    }
    expect(written).toBe(100_000)
    expect(await one(owner, 'select count(distinct user_id)::int from indexing.face_jobs')).toBe(100_000)
    expect((await takeSendBatch({ page: 1000 })).jobs).toHaveLength(1000)

    await owner.query(
      `update indexing.face_jobs set state = 'failed', ended_at = now(), reason = 'worker_died', send_batch = null, sent_at = null`,
    )
    let replayed = 0
    for (let last: Attendee | null = null, first = true; first || last; first = false) {
      const page: Answer<'replay'> = await replay({ event, after: last })
      replayed += page.jobs
      last = page.last
    }
    expect(replayed).toBe(100_000)

    await app.deleteEvent(event)
    while ((await processSome(true)).more) {}
    expect(await inside.states(event)).toEqual({ erased: 100_000 })
  }, 300_000)
})

describe('a ledger of 200,000 settled jobs', () => {
  it('is never read whole by a call that is made for every batch, page or run, even with wrong statistics', async () => {
    const { app, claim, collectionsDone, database, fanOut, owner } = await openLedger({ ofItsOwn: true })
    await owner.query(`
      insert into public.events (starts_at, indexing_status) select now() - n * interval '1 d', 'completed' from generate_series(1, 40) n;
      insert into indexing.event_runs (event_id, starts_at, ends_at, state, settled_at, fanned_out_at, collection)
        select event_id, starts_at, starts_at + interval '4 h', 'completed', now(), now(), 'ready' from public.events;
      insert into auth.users select from generate_series(1, 20000);
      insert into public.profiles select id, 'Somebody', 'photos/' || id from auth.users;
      truncate indexing.changes;
      insert into indexing.face_jobs (event_id, user_id, priority, starts_at, state, face_id, photo_key, photo_etag, ended_at)
        select event_id, id, 1, starts_at, 'indexed', 'a face', 'photos/' || id, 'etag', now()
        from public.events, (select id from auth.users order by id limit 5000) u`)
    await owner.query('analyze') // of a time at which every job had ended
    const event = await app.event()
    await owner.query(
      `insert into public.event_consents (event_id, user_id, allow_recognition) select $1, id, true from auth.users`,
      [event],
    )
    await owner.query('truncate indexing.changes')
    await claim()
    await collectionsDone([{ event_id: event, result: 'created' }])
    while ((await fanOut()).more) {}

    const { client, plans } = await explaining(database)
    const {
      cleanup,
      complete,
      failDeadLetters,
      lease,
      processSome,
      prune,
      rescue,
      sealReceipts,
      takeSendBatch,
    } = functionsOn(client)
    const read: Record<string, ReturnType<typeof readRows>> = {}
    const measure = async <T>(what: string, act: () => Promise<T>): Promise<T> => {
      plans.length = 0
      const answer = await act()
      expect(plans.length).toBeGreaterThan(1)
      const now = readRows(plans)
      const before = read[what]
      read[what] = {
        sequential: now.sequential || (before?.sequential ?? false),
        rows: Math.max(now.rows, before?.rows ?? 0),
      }
      return answer
    }
    // More often than Postgres takes to settle on a generic plan.
    for (let round = 0; round < 7; round++) {
      const batch = await measure('a send batch', () => takeSendBatch({ page: 100 }))
      await measure('a full queue', () => takeSendBatch({ page: 100, workCap: 1, sent: batch.send_batch }))
      const { token, tasks } = await measure('lease', () => lease(batch.jobs.slice(0, 50)))
      await measure('complete', () =>
        complete(
          token,
          tasks.map((task) => resultOf(task)),
        ),
      )
      await measure('dead letters', () => failDeadLetters(batch.jobs.slice(50, 60)))
      await app.photo(batch.jobs[0]?.user_id ?? '', `photos/${round}`)
      await app.consent(event, [batch.jobs[1]?.user_id ?? ''], false)
      await measure('process erasures', () => processSome(true))
      await measure('process changes', () => processSome(false))
      await measure('rescue', () => rescue())
      await measure('receipts', () => sealReceipts())
      await measure('clean-up', () => cleanup())
      await measure('pruning', () => prune())
    }
    for (const [what, { sequential, rows }] of Object.entries(read)) {
      expect([what, sequential]).toEqual([what, false])
      // A full queue is asked how much is left; 20,000 wait there.
      if (what !== 'a full queue') expect([what, rows < 2000]).toEqual([what, true])
    }
  })
})

describe('plans that a connection made while the ledger was empty', () => {
  it('do not read all of it when it has grown', async () => {
    const { app, claim, collectionsDone, database, fanOut, owner } = await openLedger({ ofItsOwn: true })
    await owner.query('analyze')
    const { client, plans } = await explaining(database)
    const {
      cleanup,
      complete,
      failDeadLetters,
      lease,
      processSome,
      prune,
      rescue,
      sealReceipts,
      takeSendBatch,
    } = functionsOn(client)
    const everyCall = async () => {
      const batch = await takeSendBatch({ page: 100 })
      const { token, tasks } = await lease(batch.jobs.slice(0, 50))
      const results = tasks.map((task) => resultOf(task))
      await complete(token, results)
      await failDeadLetters(batch.jobs.slice(50, 60))
      const [one, other] = batch.jobs
      if (one) await app.photo(one.user_id, `photos/${randomUUID()}`)
      if (other) await app.consent(other.event_id, [other.user_id], false)
      await processSome(true)
      await processSome(false)
      await rescue()
      await sealReceipts()
      await cleanup()
      await prune()
      return batch.jobs.length
    }
    const fill = async (attendees: number) => {
      const event = await app.event()
      await owner.query(
        `with made as (insert into auth.users select from generate_series(1, $2::integer) returning id),
         profiles as (insert into public.profiles select id, 'Somebody', 'photos/' || id from made)
         insert into public.event_consents (event_id, user_id, allow_recognition) select $1, id, true from made`,
        [event, attendees],
      )
      await owner.query('truncate indexing.changes')
      await claim()
      await collectionsDone([{ event_id: event, result: 'created' }])
      while ((await fanOut()).more) {}
    }
    for (let round = 0; round < 8; round++) {
      await fill(3)
      expect(await everyCall()).toBeGreaterThan(0)
    }
    await fill(20_000)
    plans.length = 0
    expect(await everyCall()).toBe(100)
    expect(plans.length).toBeGreaterThan(10)
    expect(plans.filter((plan) => readRows([plan]).sequential)).toEqual([])
    expect(plans.filter((plan) => readRows([plan]).rows > 2000)).toEqual([])
  })
})

/** Statements that a call of ours runs, with their plans, as Postgres reports them. */
async function explaining(database: { url: string }) {
  const client = new pg.Client({
    connectionString: database.url.replace(/\/\/[^@]+@/, `//supabase_admin:${inject('postgres').password}@`),
  })
  const plans: string[] = []
  client.on('error', () => {})
  client.on('notice', ({ message = '' }) => plans.push(message))
  await client.connect()
  onTestFinished(() => client.end())
  await client.query(`
    load 'auto_explain';
    set auto_explain.log_min_duration = 0;
    set auto_explain.log_nested_statements = on;
    set auto_explain.log_analyze = on;
    set auto_explain.log_timing = off;
    set auto_explain.log_level = notice;
    set client_min_messages = notice`)
  return { client, plans }
}

/** The rows of the ledger that the plans have read, and whether one of them read all of it. */
function readRows(plans: string[]) {
  const scans = plans.flatMap((plan) =>
    [
      ...plan.matchAll(
        /(\w[\w ]*Scan)(?: using \w+)? on (?:indexing\.)?face_jobs.*?actual rows=([\d.]+) loops=(\d+)/g,
      ),
    ].map(([, how, rows, loops]) => ({ how, rows: Number(rows) * Number(loops) })),
  )
  return {
    sequential: scans.some(({ how }) => how === 'Seq Scan'),
    rows: Math.max(0, ...scans.map(({ rows }) => rows)),
  }
}
