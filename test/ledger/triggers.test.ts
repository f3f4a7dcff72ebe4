import type pg from 'pg'
import { describe, expect, it } from 'vitest'
import { appOn, atOnce, one, openLedger, type Session, sentEvent } from '../support/ledger.ts'

/** Has nudges go somewhere: they queue up in pg_net's table, where nobody sends them. */
const configureNudge = (owner: pg.Pool) =>
  owner.query("select indexing.configure_nudge('https://scheduler.example/', 'a secret of length')")

const nudges = (owner: pg.Pool) => one<number>(owner, 'select count(*)::int from net.http_request_queue')

/** Takes and forgets what has been noted so far. */
const forget = (owner: pg.Pool) => owner.query('truncate indexing.changes, net.http_request_queue')

/** Acts for a signed-in attendee, as the API does: their role, their id, row-level security. */
async function signIn(session: Session, user: string) {
  await session.query('set role authenticated')
  await session.query("select set_config('request.jwt.claims', $1, false)", [JSON.stringify({ sub: user })])
}

describe('a bulk change of 50,000 rows', () => {
  it('is one statement of ours, and one nudge', async () => {
    const { app, owner } = await openLedger()
    await configureNudge(owner)
    const event = await app.event()
    const users = await one<string[]>(
      owner,
      `with made as (insert into auth.users select from generate_series(1, 50000) returning id)
       select array_agg(id) from made`,
    )
    await owner.query(
      "insert into indexing.event_runs (event_id, starts_at, ends_at, collection) values ($1, now(), now(), 'ready')",
      [event],
    )
    const noted = async () => {
      const { rows } = await owner.query(
        'select count(*)::int as rows, count(distinct cmin::text)::int as statements from indexing.changes',
      )
      const answer = { ...rows[0], nudges: await nudges(owner) }
      await forget(owner)
      return answer
    }
    await forget(owner)
    await app.consent(event, users)
    expect(await noted()).toEqual({ rows: 50_000, statements: 1, nudges: 1 })
    await app.consent(event, users, false)
    expect(await noted()).toEqual({ rows: 50_000, statements: 1, nudges: 1 })
    await owner.query('update public.event_consents set updated_at = now()')
    expect(await noted()).toEqual({ rows: 0, statements: 0, nudges: 0 })
    await app.leave(event, users)
    expect(await noted()).toEqual({ rows: 0, statements: 0, nudges: 0 })
  })
})

const FAILING_NET = `
  create or replace function net.http_post(
    url text, body jsonb default '{}', params jsonb default '{}', headers jsonb default '{}',
    timeout_milliseconds integer default 5000
  ) returns bigint language plpgsql as $$ begin raise exception 'no more' using errcode = 'disk_full'; end $$`

describe('the nudge', () => {
  it('carries the secret and nothing else', async () => {
    const { app, event, owner } = await sentEvent(1)
    await configureNudge(owner)
    await app.consent(event, await app.users(1))
    const { rows } = await owner.query(
      'select url, headers, body, timeout_milliseconds as timeout from net.http_request_queue',
    )
    expect(rows).toEqual([
      {
        url: 'https://scheduler.example/',
        headers: { 'content-type': 'application/json', 'x-nudge-secret': 'a secret of length' },
        body: {},
        timeout: 2000,
      },
    ])
  })

  it('is one for each transaction that concerns a claimed event, and none for another', async () => {
    const { app, event, owner, users } = await sentEvent(3)
    await configureNudge(owner)
    const [user = '', other = ''] = users
    const [stranger = ''] = await app.users(1)
    const unclaimed = await app.event({ startsAt: "now() + interval '1 day'" })
    const counted: Record<string, number> = {}
    for (const [what, act] of Object.entries({
      'consent to a claimed event': () => app.consent(event, [stranger]),
      'consent to another': () => app.consent(unclaimed, [stranger]),
      'its withdrawal': () => app.consent(unclaimed, [stranger], false),
      'photo of an attendee': () => app.photo(user, 'photos/new'),
      'photo of another': () => app.photo(stranger, 'photos/other'),
      'start of a claimed event': () => app.change(event, { starts_at: 'now()' }),
      'start of another': () => app.change(unclaimed, { starts_at: 'now()' }),
      'name of a claimed event': () => app.change(event, { name: "'A talk'" }),
      'account of an attendee': () => app.deleteAccounts([other]),
      'end of another event': () => app.deleteEvent(unclaimed),
    })) {
      await forget(owner)
      await act()
      counted[what] = await nudges(owner)
    }
    expect(counted).toEqual({
      'consent to a claimed event': 1,
      'consent to another': 0,
      'its withdrawal': 0,
      'photo of an attendee': 1,
      'photo of another': 0,
      'start of a claimed event': 1,
      'start of another': 0,
      'name of a claimed event': 0,
      'account of an attendee': 1,
      'end of another event': 0,
    })
  })

  it.each([
    ['fails', FAILING_NET],
    ['is missing', 'drop schema net cascade'],
    ['has no address', 'select indexing.configure_nudge(null, null)'],
  ])('is not missed by the app when it %s', async (_, breakIt) => {
    const { app, event, inside, owner, processChanges, users } = await sentEvent(2, { ofItsOwn: true })
    await configureNudge(owner)
    await owner.query(breakIt)
    await app.consent(event, await app.users(2))
    await app.consent(event, users.slice(0, 1), false)
    await app.photo(users[1] ?? '', 'photos/new')
    await app.deleteAccounts(users.slice(1))
    await processChanges()
    expect(await inside.states(event)).toEqual({ queued: 4 })
  })
})

describe('the app under its row-level security', () => {
  it('fires the triggers as an attendee who can see nothing of ours', async () => {
    const { app, appSession, event, inside, owner, processChanges } = await sentEvent(1)
    await configureNudge(owner)
    const [user = ''] = await app.users(1)
    await forget(owner)
    const attendee = await appSession()
    await signIn(attendee, user)
    await attendee.query(
      'insert into public.event_consents (event_id, user_id, allow_recognition) values ($1, $2, true)',
      [event, user],
    )
    await attendee.query("update public.profiles set photo_path = 'photos/new'")
    expect(await inside.changes()).toBe(2)
    await processChanges()
    expect(await inside.job(event, user)).toMatchObject({ state: 'queued' })
    await attendee.query('update public.event_consents set allow_recognition = false')
    await attendee.query('delete from public.event_consents')
    await attendee.query('delete from public.profiles')
    expect(await inside.changes()).toBe(2) // the consent was no longer one when it was deleted
    expect(await nudges(owner)).toBe(1) // the first waits to be sent
    await expect(attendee.query('select * from indexing.changes')).rejects.toMatchObject({ code: '42501' })
  })

  it('notes nothing of what its policies forbid', async () => {
    const { app, appSession, event, inside, processChanges, users } = await sentEvent(2)
    const attendee = await appSession()
    await signIn(attendee, (await app.users(1))[0] ?? '')
    await processChanges()
    await attendee.query('update public.event_consents set allow_recognition = false')
    await attendee.query('delete from public.event_consents')
    await expect(
      attendee.query(
        'insert into public.event_consents (event_id, user_id, allow_recognition) values ($1, $2, true)',
        [event, users[0]],
      ),
    ).rejects.toThrow()
    expect(await inside.changes()).toBe(0)
  })
})

describe('a write of the app', () => {
  it('does not wait when our tables are locked: its change is found by reconcile', async () => {
    const { app, appSession, event, inside, users } = await sentEvent(2)
    const migration = await appSession()
    await migration.query('begin')
    await migration.query('lock table indexing.changes in access exclusive mode')
    const began = performance.now()
    await app.consent(event, users.slice(0, 1), false)
    await app.photo(users[1] ?? '', 'photos/new')
    expect(performance.now() - began).toBeLessThan(2000)
    await migration.query('rollback')
    expect(await inside.changes()).toBe(0)
    await app.leave(event, users.slice(1))
    expect(await inside.changes()).toBe(1)
  })

  it.each(['event_runs', 'face_jobs', 'nudging'])(
    'is noted, and waits for a moment alone, while %s is locked',
    async (table) => {
      const { app, appSession, event, inside, owner, users } = await sentEvent(2)
      await configureNudge(owner)
      const migration = await appSession()
      await migration.query(`begin; lock table indexing.${table} in access exclusive mode`)
      const began = performance.now()
      const session = await appSession()
      await session.query('begin')
      const changes = appOn(session)
      await changes.consent(event, users.slice(0, 1), false)
      await changes.photo(users[1] ?? '', 'photos/new')
      await changes.change(event, { starts_at: 'now()' })
      await session.query('commit')
      expect(performance.now() - began).toBeLessThan(1500)
      await migration.query('rollback')
      expect(await inside.changes()).toBe(3)
      await app.photo(users[0] ?? '', 'photos/new')
      expect(await nudges(owner)).toBe(1)
    },
  )

  it('keeps the lock timeout that it had', async () => {
    const { appSession, event, users } = await sentEvent(1)
    const session = await appSession()
    await session.query("begin; set local lock_timeout = '7s'")
    await session.query('update public.event_consents set allow_recognition = false where event_id = $1', [
      event,
    ])
    expect(users).toHaveLength(1)
    expect(await one(session, 'show lock_timeout')).toBe('7s')
    await session.query('rollback')
  })

  it('works when a column that we read is gone', async () => {
    const { app, event, inside, owner, users } = await sentEvent(2, { ofItsOwn: true })
    await owner.query('alter table public.profiles drop column photo_path cascade')
    await owner.query('alter table public.events drop column cleanup_status cascade')
    await owner.query("update public.profiles set full_name = 'Somebody else'")
    await app.change(event, { starts_at: 'now()' })
    await app.leave(event, users.slice(0, 1))
    await app.deleteAccounts(users.slice(1))
    expect(await inside.changes()).toBeGreaterThan(2)
  })

  it.each([
    ['event_consents', 'allow_recognition', 'text', "'yes'", 'everything'], // no condition any more
    ['profiles', 'photo_path', 'text[]', "array['photos/new']", 'profiles'],
    ['events', 'cleanup_status', 'text', "'done'", 'events'],
  ])('is noted when a column of %s is of another type', async (table, column, type, value, source) => {
    const { owner } = await sentEvent(2, { ofItsOwn: true })
    await owner.query(
      `alter table public.${table} drop column ${column} cascade, add column ${column} ${type}`,
    )
    await forget(owner)
    await owner.query(`update public.${table} set ${column} = ${value}`)
    expect(await one(owner, 'select array_agg(distinct source::text) from indexing.changes')).toEqual([
      source,
    ])
  })

  it('that names photo_path in a CTE, a merge or an upsert is noted, with an equal value too', async () => {
    const { inside, owner, users } = await sentEvent(1)
    const [user = ''] = users
    for (const write of [
      `with named as (update public.profiles set photo_path = photo_path where user_id = $1 returning 1) select from named`,
      `insert into public.profiles (user_id, full_name, photo_path) values ($1, 'Somebody', 'photos/1')
       on conflict (user_id) do update set photo_path = public.profiles.photo_path`,
      `merge into public.profiles p using (values ($1::uuid)) v (id) on p.user_id = v.id
       when matched then update set photo_path = p.photo_path`,
    ]) {
      await forget(owner)
      await owner.query(write, [user])
      expect(await inside.changes(), write).toBe(1)
    }
    await forget(owner)
    await owner.query("update public.profiles set full_name = 'Somebody else'")
    expect(await inside.changes()).toBe(0)
  })

  it('that empties a table with TRUNCATE has every event reconciled', async () => {
    const { event, inside, owner, processChanges, reconcileDue } = await sentEvent(2)
    await owner.query("update indexing.event_runs set reconcile_due = now() + interval '15 minutes'")
    await owner.query('truncate public.event_consents')
    expect(await inside.changes()).toBe(1)
    await processChanges()
    expect(await reconcileDue()).toMatchObject([{ event_id: event }])
  })
})

describe('the app and its own transactions', () => {
  it('do not deadlock because of us when they touch the same attendees in opposite orders', async () => {
    const { appSession, event, inside, messages, processChanges, users, work } = await sentEvent(2)
    await work(messages)
    const [first = '', second = ''] = users
    const there = await appSession()
    const back = await appSession()
    const photo = "update public.profiles set photo_path = photo_path || '.new' where user_id = $1"
    const consent =
      'update public.event_consents set allow_recognition = false where event_id = $1 and user_id = $2'
    await there.query('begin')
    await back.query('begin')
    // Of each attendee the one changes the photo and the other the consent: no row of the app's in common, one job of ours.
    await there.query(photo, [first])
    await back.query(photo, [second])
    await there.query(consent, [event, second])
    await back.query(consent, [event, first])
    await there.query('commit')
    await back.query('commit')
    await processChanges()
    expect(await inside.states(event)).toEqual({ queued: 2 })
  })

  it('does not fail when the sequence of our ids is behind its rows, as after a logical restore', async () => {
    const { app, event, inside, owner, users } = await sentEvent(3)
    await forget(owner)
    await app.consent(event, users, false)
    const next = await one<number>(owner, `select max(id)::int + 1 from indexing.changes`)
    await owner.query(`alter table indexing.changes alter column id restart with ${next - 3}`)
    await app.leave(event, users) // took back already: nothing to note
    await app.consent(event, users.slice(0, 2), false)
    expect(await inside.changes()).toBe(3)
    await app.consent(event, users, true)
    await owner.query(`alter table indexing.changes alter column id restart with ${next - 3}`)
    await app.consent(event, users, false)
    expect(await inside.changes()).toBe(6)
    await app.consent(event, users.slice(0, 1), true)
    await app.consent(event, users.slice(0, 1), false)
    expect(await inside.changes()).toBe(8)
  })

  it('that is rolled back leaves no trace', async () => {
    const { appSession, event, inside, owner, users } = await sentEvent(1)
    await configureNudge(owner)
    const session = await appSession()
    await session.query('begin')
    await session.query('delete from auth.users where id = any ($1)', [users])
    await session.query('delete from public.events where event_id = $1', [event])
    await session.query('rollback')
    expect(await inside.changes()).toBe(0)
    expect(await nudges(owner)).toBe(0)
  })

  it('delete accounts and events with all that hangs on them, without an error and in any order', async () => {
    const { app, collectionsDue, event, inside, lease, messages, processChanges, processSome, users, work } =
      await sentEvent(60)
    await work(messages.slice(0, 20))
    await lease(messages.slice(20, 40))
    await Promise.all([
      app.deleteAccounts(users.slice(0, 10)),
      ...users.slice(10, 30).map((user) => app.deleteAccounts([user])),
      atOnce(5, () => processSome(true, 7)),
    ])
    await app.deleteEvent(event)
    await app.deleteAccounts(users.slice(30))
    await processChanges(50)
    expect((await collectionsDue()).delete).toEqual([event])
    expect(await inside.states(event)).toEqual({ erased: 40, running: 20 })
    for (const job of await inside.jobs(event))
      expect(job).toMatchObject({ face_id: null, obsolete_face_ids: [] })
  })
})
