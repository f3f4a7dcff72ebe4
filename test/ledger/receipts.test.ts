import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { failedWith, one, only, openLedger, resultOf, sentEvent } from '../support/ledger.ts'

/** An event with indexed attendees. */
async function indexedEvent(attendees: number) {
  const ledger = await sentEvent(attendees)
  await ledger.work(ledger.messages)
  const { event, owner, processChanges, reconcile, reconcileDone, sendAll, work } = ledger
  const age = (seconds: number) =>
    owner.query(
      'update indexing.erasures set deleted_at = deleted_at - make_interval(secs => $1) where verified_at is null',
      [seconds],
    )
  return {
    ...ledger,
    age,
    /** The faces of the whole collection are listed, so many seconds after the last one was deleted. */
    list: async (users: string[], seconds: number) => {
      await age(seconds)
      const asOf = new Date().toISOString()
      await reconcile(
        event,
        users.map((user_id) => ({ user_id, face_ids: [`face of photos/${user_id}`] })),
        { asOf },
      )
      await reconcileDone(event, asOf)
    },
    /** The worker does every erasure that is queued. */
    erase: async (said = {}) => {
      await processChanges()
      await work(await sendAll(), { faces_deleted: 1, ...said })
    },
  }
}

describe('a revocation', () => {
  it('has a receipt: when it was noted, when the face was deleted, when a later listing was seen without it', async () => {
    const { app, erase, event, list, owner, receipts, sealReceipts, users } = await indexedEvent(2)
    const [user = '', other = ''] = users
    await app.consent(event, [user], false)
    const noted = await one<Date>(owner, 'select noted_at from indexing.changes')
    await erase()
    await list([other], 31)
    const { sealed, seconds } = await sealReceipts()
    expect({ sealed, seconds }).toEqual({ sealed: 1, seconds: [expect.any(Number)] })
    const found = await receipts({ attendee: user })
    expect(found.open).toEqual([])
    const receipt = only(found.receipts)
    expect(receipt).toMatchObject({
      position: 1,
      event_id: event,
      user_id: user,
      reason: 'consent',
      faces: 1,
      wanted_again_at: null,
    })
    expect(new Date(receipt.noted_at)).toEqual(noted)
    const { deleted_at, noted_at, verified_at } = receipt
    expect(Date.parse(verified_at ?? '')).toBeGreaterThan(Date.parse(deleted_at ?? ''))
    expect(Date.parse(verified_at ?? '')).toBeGreaterThan(Date.parse(noted_at))
  })

  it('is open from the moment of the change on, before it is processed', async () => {
    const { app, event, processChanges, receipts, users } = await indexedEvent(1)
    const user = only(users)
    await app.consent(event, users, false)
    expect((await receipts({ attendee: user })).open).toMatchObject([
      { event_id: event, user_id: user, reason: 'consent', state: 'indexed', deleted_at: null },
    ])
    await processChanges()
    expect((await receipts({ attendee: user })).open).toMatchObject([
      { event_id: event, user_id: user, reason: 'consent', state: 'queued', deleted_at: null },
    ])
  })

  it.each([
    ['a profile that is deleted', 'delete from public.profiles where user_id = $1', 'profile'],
    ['a photo that is removed', 'update public.profiles set photo_path = null where user_id = $1', 'profile'],
    ['an account that is deleted', 'delete from auth.users where id = $1', 'profile'], // whose row goes first
    ['a consent that is deleted', 'delete from public.event_consents where user_id = $1', 'consent'],
  ])('is %s, too', async (_, statement, reason) => {
    const { erase, list, owner, receipts, sealReceipts, users } = await indexedEvent(1)
    await owner.query(statement, [only(users)])
    await erase()
    await list([], 31)
    await sealReceipts()
    expect((await receipts({ attendee: only(users) })).receipts).toMatchObject([{ reason, faces: 1 }])
  })

  it('is what reconcile finds where no trigger told of it', async () => {
    const { event, list, owner, receipts, users } = await indexedEvent(1)
    await owner.query(
      `alter table public.event_consents disable trigger user; update public.event_consents set allow_recognition = false;
       alter table public.event_consents enable trigger user`,
    )
    expect((await receipts({ event })).open).toEqual([])
    await list(users, 0)
    expect((await receipts({ event })).open).toMatchObject([{ reason: 'found', user_id: only(users) }])
  })

  it('is what a worker sees before the change is processed; its receipt goes by the change', async () => {
    const { app, event, lease, complete, owner, processChanges, receipts, sendAll, users } =
      await indexedEvent(1)
    await app.photo(only(users), 'photos/new')
    await processChanges()
    const messages = await sendAll()
    await app.consent(event, users, false)
    const noted = await one<Date>(owner, 'select noted_at from indexing.changes')
    const { tasks, token } = await lease(messages)
    await complete(token, [resultOf(only(tasks), { faces_deleted: 1 })])
    const [first, ...others] = (await receipts({ event })).open.filter(({ reason }) => reason === 'found')
    expect(first).toMatchObject({ faces: 1, deleted_at: expect.any(String) })
    expect(others).toEqual([])
    await processChanges()
    const erasure = only((await receipts({ event })).open)
    expect(erasure).toMatchObject({ reason: 'consent', faces: 1, deleted_at: null })
    expect(new Date(erasure.noted_at)).toEqual(noted)
  })

  it('is what a worker finds done already: no trigger told of it, and somebody had deleted the collection', async () => {
    const { collectionsDone, event, list, owner, receipts, sealReceipts, sendAll, users, work } =
      await indexedEvent(1)
    await owner.query(
      `alter table public.event_consents disable trigger user; update public.event_consents set allow_recognition = false;
       alter table public.event_consents enable trigger user`,
    )
    await collectionsDone([{ event_id: event, result: 'created' }])
    await work(await sendAll(), { faces_deleted: 0 })
    await list([], 31)
    await sealReceipts()
    const found = await receipts({ attendee: only(users) })
    expect(found).toMatchObject({ open: [], receipts: [{ reason: 'found', faces: 0 }] })
    await collectionsDone([{ event_id: event, result: 'created' }])
    await sendAll().then((again) => work(again))
    expect((await receipts({ attendee: only(users) })).open).toEqual([])
  })

  it('is no photo that another one replaces', async () => {
    const { app, erase, receipts, users } = await indexedEvent(1)
    await app.photo(only(users), 'photos/new')
    await erase()
    expect(await receipts({ attendee: only(users) })).toEqual({ open: [], receipts: [] })
  })

  it('is not proven by a listing that may lag behind, nor by one that was asked for before the deletion', async () => {
    const { age, app, erase, event, list, receipts, reconcile, sealReceipts, users } = await indexedEvent(1)
    await app.consent(event, users, false)
    const early = new Date().toISOString()
    await erase()
    await list([], 29)
    expect((await sealReceipts()).sealed).toBe(0)
    await reconcile(event, [], { asOf: early })
    expect((await sealReceipts()).sealed).toBe(0)
    expect((await receipts({ event })).open).toMatchObject([
      { deleted_at: expect.any(String), verified_at: null },
    ])
    await age(2)
    await list([], 0)
    expect((await sealReceipts()).sealed).toBe(1)
  })

  it('is not proven by a reconcile that repairs nothing', async () => {
    const { age, app, erase, event, receipts, reconcile, users } = await indexedEvent(1)
    await app.consent(event, users, false)
    await erase()
    await age(60)
    await reconcile(event, [], { repair: false })
    expect((await receipts({ event })).open).toMatchObject([{ verified_at: null }])
  })

  it('is open again when a listing shows the face all the same', async () => {
    const { app, erase, event, list, receipts, sealReceipts, users } = await indexedEvent(1)
    await app.consent(event, users, false)
    await erase()
    await list(users, 31)
    expect((await receipts({ event })).open).toMatchObject([{ reason: 'consent', deleted_at: null }])
    expect((await sealReceipts()).sealed).toBe(0)
    await erase()
    await list([], 31)
    await sealReceipts()
    expect((await receipts({ event })).receipts).toMatchObject([{ faces: 2, reason: 'consent' }])
  })

  it('that is withdrawn before it is proven ends as wanted again, and is in no measurement', async () => {
    const { app, erase, event, receipts, sealReceipts, users } = await indexedEvent(1)
    await app.consent(event, users, false)
    await erase()
    await app.consent(event, users)
    await erase({ faces_deleted: 0 })
    expect(await sealReceipts()).toMatchObject({ sealed: 1, seconds: [] })
    expect((await receipts({ event })).receipts).toMatchObject([
      { verified_at: null, wanted_again_at: expect.any(String) },
    ])
  })

  it('that comes twice has one receipt, which is not older than the second', async () => {
    const { app, erase, event, list, receipts, sealReceipts, users } = await indexedEvent(1)
    await app.consent(event, users, false)
    await erase()
    await app.consent(event, users)
    await app.consent(event, users, false)
    await erase({ faces_deleted: 0 })
    const { deleted_at } = only((await receipts({ event })).open)
    expect(deleted_at).not.toBeNull()
    await list([], 31)
    expect((await sealReceipts()).sealed).toBe(1)
    // And a later one has another.
    await app.consent(event, users)
    await erase({ faces_deleted: 0 })
    await app.consent(event, users, false)
    await erase()
    await list([], 31)
    expect((await sealReceipts()).sealed).toBe(1)
    expect((await receipts({ event })).receipts.map(({ position }) => position)).toEqual([2, 1])
  })

  it('whose erasure has failed is tried again every hour, also after the end of the event', async () => {
    const { app, event, fail, inside, owner, processChanges, receipts, sealReceipts, sendAll, users } =
      await indexedEvent(1)
    const user = only(users)
    await app.consent(event, users, false)
    await processChanges()
    await fail(await sendAll())
    await app.change(event, { starts_at: "now() - interval '2 d'", ends_at: "now() - interval '1 d'" })
    await processChanges()
    expect((await receipts({ event })).open).toMatchObject([
      { state: 'failed', error: 'AccessDeniedException' },
    ])
    await owner.query("update indexing.face_jobs set ended_at = now() - interval '59 min'")
    await owner.query("update indexing.erasures set noted_at = now() - interval '2 h'")
    await sealReceipts()
    expect(await inside.job(event, user)).toMatchObject({ state: 'failed' })
    await owner.query("update indexing.face_jobs set ended_at = now() - interval '61 min'")
    await sealReceipts()
    expect(await inside.job(event, user)).toMatchObject({ state: 'queued', urgent: true, priority: 0 })
  })

  it('whose listing has not come is reconciled, also after the end of the event', async () => {
    const { age, app, erase, event, inside, owner, sealReceipts, users } = await indexedEvent(1)
    await app.consent(event, users, false)
    await erase()
    await owner.query("update indexing.event_runs set reconcile_due = 'infinity', changed_at = null")
    await sealReceipts()
    expect((await inside.run(event)).reconcile_due).toBe(Number.POSITIVE_INFINITY)
    await age(181)
    await sealReceipts()
    expect((await inside.run(event)).reconcile_due).toBeInstanceOf(Date)
  })

  it('is measured while it is not proven', async () => {
    const { app, event, health, owner, processChanges, users } = await indexedEvent(1)
    expect((await health()).unproven_age).toBe(0)
    await app.consent(event, users, false)
    await processChanges()
    await owner.query("update indexing.erasures set noted_at = now() - interval '1 h'")
    expect((await health()).unproven_age).toBeGreaterThan(3599)
  })
})

describe('the closing of an event', () => {
  it('has one receipt, and proves the erasures that were open', async () => {
    const { app, collectionsDone, event, owner, processChanges, receipts, sealReceipts, users } =
      await indexedEvent(3)
    const [user = '', other = ''] = users
    await app.consent(event, [user], false)
    await processChanges()
    await app.deleteEvent(event)
    await processChanges()
    await collectionsDone([{ event_id: event, result: 'deleted' }])
    expect((await sealReceipts()).sealed).toBe(0)
    expect((await receipts({ event })).open).toMatchObject([
      { user_id: user, verified_at: null },
      { user_id: null, reason: 'event', deleted_at: expect.any(String), verified_at: null },
    ])
    await owner.query("update indexing.event_runs set closed_at = closed_at - interval '1 h'")
    await collectionsDone([{ event_id: event, result: 'deleted' }])
    expect((await sealReceipts()).sealed).toBe(2)
    expect((await receipts({ event })).receipts).toMatchObject([
      { user_id: null, reason: 'event', verified_at: expect.any(String) },
      { user_id: user, reason: 'consent', verified_at: expect.any(String) },
    ])
    // It is among those of an attendee who did not revoke, as long as the ledger knows of them.
    expect((await receipts({ attendee: other })).receipts).toMatchObject([{ user_id: null, event_id: event }])
  })
})

/** A ledger with so many receipts. */
async function withReceipts(count: number) {
  const ledger = await openLedger()
  await ledger.owner.query(
    `insert into indexing.erasures (event_id, user_id, reason, noted_at, deleted_at, verified_at)
     select gen_random_uuid(), gen_random_uuid(), 'consent', now(), now(), now() from generate_series(1, $1)`,
    [count],
  )
  let more = true
  while (more) more = (await ledger.sealReceipts(50)).more
  /** Verifies the chain in pages of seven. */
  const brokenAt = async () => {
    let page = await ledger.verifyReceipts(7)
    while (page.more) page = await ledger.verifyReceipts(7, page.through, page.hash)
    return page.broken_at
  }
  /** Does what only the owner of the database can do. */
  const tamper = (statement: string) =>
    ledger.owner.query(
      `alter table indexing.receipts disable trigger user; ${statement}; alter table indexing.receipts enable trigger user`,
    )
  return { ...ledger, brokenAt, tamper }
}

describe('the chain of receipts', () => {
  it('can be followed by anybody: each hash is of the one before and of the text', async () => {
    const { brokenAt, receipts } = await withReceipts(20)
    expect(await brokenAt()).toBeNull()
    const found = []
    for (let before: number | undefined; ; ) {
      const { receipts: page } = await receipts({ before, page: 6 })
      found.push(...page)
      before = page.at(-1)?.position
      if (page.length === 0) break
    }
    expect(found.map(({ position }) => position)).toEqual(Array.from({ length: 20 }, (_, n) => 20 - n))
    let previous = ''
    for (const receipt of found.toReversed()) {
      expect(receipt.previous).toBe(previous)
      const hash = createHash('sha256')
        .update(Buffer.from(previous, 'hex'))
        .update(receipt.text)
        .digest('hex')
      expect(receipt.hash).toBe(hash)
      expect(receipt.text).toContain(`|${receipt.event_id}|${receipt.user_id}|consent|`)
      previous = receipt.hash
    }
  })

  it('is whole while it is empty', async () => {
    const { brokenAt } = await withReceipts(0)
    expect(await brokenAt()).toBeNull()
  })

  it('has no gap and no fork when several write at once', async () => {
    const { brokenAt, owner, sealReceipts } = await withReceipts(3)
    await owner.query(
      `insert into indexing.erasures (event_id, user_id, reason, noted_at, deleted_at, verified_at)
       select gen_random_uuid(), gen_random_uuid(), 'consent', now(), now(), now() from generate_series(1, 40)`,
    )
    const sealed = await Promise.all(Array.from({ length: 8 }, () => sealReceipts(10)))
    expect(sealed.reduce((sum, each) => sum + each.sealed, 0)).toBe(40)
    expect(await one(owner, 'select max(position)::int from indexing.receipts')).toBe(43)
    expect(await brokenAt()).toBeNull()
  })

  it.each([
    [
      'changed',
      "update indexing.receipts set verified_at = verified_at - interval '1 h' where position = 9",
      9,
    ],
    ['given another hash', "update indexing.receipts set hash = 'x' where position = 9", 9],
    ['deleted in the middle', 'delete from indexing.receipts where position = 9', 9],
    ['deleted at the beginning', 'delete from indexing.receipts where position = 1', 1],
    ['deleted at the end', 'delete from indexing.receipts where position = 20', 20],
    ['all deleted', 'truncate indexing.receipts', 1],
    [
      'added',
      'insert into indexing.receipts select 21, event_id, user_id, reason, noted_at, faces, deleted_at, verified_at, wanted_again_at, sealed_at, hash from indexing.receipts where position = 20',
      21,
    ],
  ])('shows where a receipt was %s', async (_, statement, at) => {
    const { brokenAt, tamper } = await withReceipts(20)
    await tamper(statement)
    expect(await brokenAt()).toBe(at)
  })

  it('is not changed by anybody, nor deleted before its time', async () => {
    const { owner, service } = await withReceipts(1)
    await expect(owner.query('update indexing.receipts set faces = 0')).rejects.toMatchObject({
      code: '23001',
    })
    await expect(owner.query('delete from indexing.receipts')).rejects.toMatchObject({ code: '23001' })
    for (const statement of [
      'update indexing.receipts set faces = 0',
      'delete from indexing.receipts',
      'truncate indexing.receipts',
    ])
      await expect(service.query(statement)).rejects.toMatchObject({ code: '42501' })
  })

  it('begins later when the oldest are pruned, and is whole', async () => {
    const { brokenAt, owner, prune, receipts, tamper } = await withReceipts(20)
    await tamper("update indexing.receipts set sealed_at = now() - interval '1096 d' where position <= 8")
    // Their hashes are made anew, as if they had been written then.
    await tamper(`do $do$ declare h bytea := ''; r indexing.receipts; begin
      for r in select * from indexing.receipts order by position loop
        h := indexing.receipt_hash(h, r); update indexing.receipts set hash = h where position = r.position;
      end loop; update indexing.receipt_chain set hash = h; end $do$`)
    expect(await brokenAt()).toBeNull()
    expect(await prune({ page: 5 })).toMatchObject({ receipts: 5, more: true })
    expect(await brokenAt()).toBeNull()
    expect(await prune({ page: 5 })).toMatchObject({ receipts: 3, more: false })
    expect(await brokenAt()).toBeNull()
    expect(await one(owner, 'select min(position)::int from indexing.receipts')).toBe(9)
    expect((await receipts()).receipts.at(-1)?.previous).toMatch(/^[0-9a-f]{64}$/)
  })
})

describe('the worker', () => {
  it('does not wait for a transaction that writes receipts', async () => {
    const { app, erase, event, list, receipts, serviceSession, users } = await indexedEvent(2)
    const [first = '', second = ''] = users
    await app.consent(event, [first], false)
    await erase()
    await list([second], 31)
    const writer = await serviceSession()
    await writer.query('begin; select public.indexing_seal_receipts(10)')
    await app.consent(event, [second], false)
    await erase()
    await list([], 31)
    expect((await receipts({ attendee: second })).open).toMatchObject([{ verified_at: expect.any(String) }])
    await writer.query('commit')
  })

  it('is counted with the faces of each of its attempts', async () => {
    const { app, event, list, processChanges, receipts, sealReceipts, sendAll, users, work } =
      await indexedEvent(1)
    await app.consent(event, users, false)
    await processChanges()
    const messages = await sendAll()
    await work(messages, { ...failedWith('InternalServerError'), faces_deleted: 2 })
    await work(messages, { faces_deleted: 1 })
    await list([], 31)
    await sealReceipts()
    expect((await receipts({ event })).receipts).toMatchObject([{ faces: 3 }])
  })
})
