import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { Result } from '../../src/core/database.ts'
import { atOnce, faceOf, only, resultOf, sentEvent } from '../support/ledger.ts'

/** An event with one attendee whom a worker holds. */
async function heldJob() {
  const ledger = await sentEvent(1)
  const { event, messages } = ledger
  const user = only(ledger.users)
  const { token, tasks } = await ledger.begin(messages)
  const task = only(tasks)
  return {
    ...ledger,
    user,
    token,
    task,
    /** Reports, as this or another worker, what came of the task; returns what is next. */
    report: async (said: Partial<Result> = {}, as = token) =>
      only(await ledger.finish(as, [resultOf(task, said)])),
    job: () => ledger.inside.job(event, user),
  }
}

const NO_FACE = { face_id: null, calls: 1 }
const FAILED_CALL = { ...NO_FACE, certain: false, error: 'InternalServerError: try later' }

describe('what came of an attendee', () => {
  it('indexed: the job has ended with the face of its photo', async () => {
    const { job, report, user } = await heldJob()
    expect(await report()).toMatchObject({ next: 'ended', version: 1 })
    expect(await job()).toMatchObject({
      state: 'indexed',
      face_id: faceOf(`photos/${user}`),
      face_photo: `photos/${user}`,
      stray_face_ids: [],
      unconfirmed: false,
      index_calls: 1,
      lease_token: null,
      reason: null,
      error: null,
    })
    expect((await job()).ended_at).not.toBeNull()
  })

  it('skipped: with the reason that the worker found', async () => {
    const { job, report } = await heldJob()
    const error = 'InvalidImageFormatException: not a JPEG'
    expect(await report({ ...NO_FACE, outcome: 'skipped', reason: 'photo_format', error })).toMatchObject({
      next: 'ended',
    })
    expect(await job()).toMatchObject({ state: 'skipped', reason: 'photo_format', error, face_id: null })
  })

  it.each(['retry', 'later', 'unclear', 'failed'] as const)(
    '%s, with the face of an earlier photo still there: it is known as that photo’s, should that be wanted again',
    async (outcome) => {
      const { absorb, app, begin, event, finish, inside, job, report, sendAll, sweep, user } = await heldJob()
      await report()
      const face_id = faceOf(`photos/${user}`)
      await app.photo(user, 'photos/unreadable')
      await absorb()
      const { token, tasks } = await begin(await sendAll())
      expect(tasks).toMatchObject([{ photo: 'photos/unreadable', keep: null, faces: [face_id] }])
      const said = { ...NO_FACE, outcome, faces: [face_id], reason: 'photo_unreadable' }
      await finish(token, [resultOf(only(tasks), said)])
      expect(await job()).toMatchObject({ face_id, face_photo: `photos/${user}`, stray_face_ids: [] })

      await app.photo(user, `photos/${user}`)
      await absorb()
      await inside.expireLeases()
      await sweep()
      const again = await begin(await sendAll())
      expect(again.tasks).toMatchObject([{ action: 'index', keep: face_id, faces: [] }])
      await finish(again.token, [resultOf(only(again.tasks), { face_id, calls: 0 })])
      expect(await inside.states(event)).toEqual({ indexed: 1 })
    },
  )

  it('failed: with its error', async () => {
    const { app, event, job, report } = await heldJob()
    expect(await report({ ...NO_FACE, outcome: 'failed', error: 'ValidationException' })).toMatchObject({
      next: 'ended',
    })
    expect(await job()).toMatchObject({ state: 'failed', error: 'ValidationException' })
    expect(await app.status(event)).toBe('failed')
  })

  it('retry: the message comes again, with the same version', async () => {
    const { begin, job, messages, report } = await heldJob()
    expect(await report({ ...FAILED_CALL, outcome: 'retry' })).toMatchObject({ next: 'retry', version: 1 })
    expect(await job()).toMatchObject({
      state: 'sent',
      attempts: 1,
      lease_token: null,
      unconfirmed: true,
      error: FAILED_CALL.error,
    })
    expect((await begin(messages)).tasks).toMatchObject([{ action: 'index', list: true }])
    expect(await job()).toMatchObject({ attempts: 2 })
  })

  it('later: it goes through the outbox and has cost no attempt', async () => {
    const { job, report, sendAll } = await heldJob()
    expect(await report({ ...NO_FACE, calls: 0, outcome: 'later' })).toMatchObject({ next: 'later' })
    expect(await job()).toMatchObject({ state: 'queued', attempts: 0, unconfirmed: false })
    expect(await sendAll()).toMatchObject([{ version: 2 }])
  })

  it('unclear: the message comes again, and nobody may act until the call can no longer land', async () => {
    const { begin, inside, job, messages, report } = await heldJob()
    expect(await report({ ...FAILED_CALL, outcome: 'unclear' })).toMatchObject({ next: 'retry', version: 1 })
    const { lease_until, ...rest } = await job()
    expect(rest).toMatchObject({ state: 'running', unconfirmed: true })
    const quiet = Number(lease_until) - Date.now()
    expect(quiet).toBeGreaterThan(20_000)
    expect(quiet).toBeLessThan(31_000)
    expect((await begin(messages)).tasks).toMatchObject([{ action: 'none' }])
    await inside.expireLeases()
    expect((await begin(messages)).tasks).toMatchObject([{ action: 'index', list: true }])
  })

  it('erased: nothing of the attendee is in the collection', async () => {
    const { absorb, app, begin, event, finish, job, report, sendAll, user } = await heldJob()
    await report()
    await app.leave(event, [user])
    await absorb()
    const { token, tasks } = await begin(await sendAll())
    expect(tasks).toMatchObject([{ action: 'erase' }])
    await finish(
      token,
      tasks.map((task) => resultOf(task)),
    )
    expect(await job()).toMatchObject({
      state: 'erased',
      reason: 'no_consent',
      face_id: null,
      face_photo: null,
      stray_face_ids: [],
      unconfirmed: false,
      index_calls: 1,
    })
  })

  it('a face that could not be deleted stays known until it is', async () => {
    const { begin, job, messages, report, user } = await heldJob()
    expect(await report({ outcome: 'retry', faces: ['old'] })).toMatchObject({ next: 'retry' })
    expect(await job()).toMatchObject({
      state: 'sent',
      stray_face_ids: ['old'],
      face_id: faceOf(`photos/${user}`),
    })
    expect((await begin(messages)).tasks).toMatchObject([
      { action: 'index', keep: faceOf(`photos/${user}`), faces: ['old'], list: false },
    ])
  })

  it('each of a batch on its own', async () => {
    const { begin, event, finish, inside, messages } = await sentEvent(6)
    const { token, tasks } = await begin(messages)
    const outcomes: Result['outcome'][] = ['indexed', 'skipped', 'failed', 'retry', 'later', 'unclear']
    const nexts = await finish(
      token,
      tasks.map((task, index) => {
        const outcome = outcomes[index] ?? 'indexed'
        return resultOf(task, outcome === 'indexed' ? {} : { ...NO_FACE, outcome })
      }),
    )
    expect(nexts.map(({ next }) => next).sort()).toEqual([
      'ended',
      'ended',
      'ended',
      'later',
      'retry',
      'retry',
    ])
    expect(await inside.states(event)).toEqual({
      indexed: 1,
      skipped: 1,
      failed: 1,
      sent: 1,
      queued: 1,
      running: 1,
    })
  })
})

describe('a world that changed between begin and finish', () => {
  const changes: [string, (ledger: Awaited<ReturnType<typeof heldJob>>) => Promise<unknown>, object][] = [
    ['consent taken back', ({ app, event, user }) => app.consent(event, [user], false), { action: 'erase' }],
    ['attendee left', ({ app, event, user }) => app.leave(event, [user]), { action: 'erase' }],
    ['account deleted', ({ app, user }) => app.deleteAccounts([user]), { action: 'erase' }],
    [
      'photo changed',
      ({ app, user }) => app.photo(user, 'photos/new'),
      { action: 'index', photo: 'photos/new' },
    ],
    ['photo removed', ({ app, user }) => app.photo(user, null), { action: 'erase' }],
    ['event deleted', ({ app, event }) => app.deleteEvent(event), { action: 'erase' }],
  ]

  it.each(changes)('%s: looked at again at once, noted or not', async (_, change, then) => {
    for (const noted of [true, false]) {
      const ledger = await heldJob()
      await change(ledger)
      if (noted) await ledger.absorb()
      const next = await ledger.report()
      expect(next).toMatchObject({ next: 'again', version: 2 })
      expect((await ledger.begin([next])).tasks).toMatchObject([then])
    }
  })

  it('event deactivated: the face that is there may stay', async () => {
    const { app, begin, event, job, report } = await heldJob()
    await app.change(event, { is_active: 'false' })
    const next = await report()
    expect(next).toMatchObject({ next: 'again' })
    expect((await begin([next])).tasks).toMatchObject([{ action: 'none' }])
    expect(await job()).toMatchObject({ state: 'indexed', reason: 'event_inactive' })
  })

  it('changed and changed back: the collection is listed, since the app may have acted meanwhile', async () => {
    const { absorb, app, begin, event, report, user } = await heldJob()
    await app.consent(event, [user], false)
    await absorb()
    await app.consent(event, [user])
    await absorb()
    const next = await report()
    expect(next).toMatchObject({ next: 'again', version: 3 })
    expect((await begin([next])).tasks).toMatchObject([{ action: 'index', list: true }])
  })

  it.each(['later', 'unclear', 'retry'] as const)(
    'is not forgotten over an outcome of %s, although the worker knew all faces',
    async (outcome) => {
      const { absorb, app, begin, inside, job, report, user } = await heldJob()
      await app.photo(user, 'photos/new')
      await absorb()
      await report({ outcome, ...NO_FACE })
      expect(await job()).toMatchObject({ version: outcome === 'later' ? 3 : 2, unconfirmed: true })
      await inside.expireLeases()
      expect((await begin([{ ...(await job()) }])).tasks).toMatchObject([{ photo: 'photos/new', list: true }])
    },
  )

  it('the collection was lost and made anew: its face is not believed to be there', async () => {
    const { begin, collectionsDone, event, report } = await heldJob()
    await collectionsDone([{ event_id: event, result: 'created' }])
    const next = await report()
    expect(next).toMatchObject({ next: 'again' })
    expect((await begin([next])).tasks).toMatchObject([{ action: 'index', list: true }])
  })

  it('an erasure that kept a face, whose event was deleted meanwhile, does not break the batch', async () => {
    const { absorb, app, begin, event, finish, owner, report, sendAll, user } = await heldJob()
    await report()
    await app.change(event, { is_active: 'false' })
    await owner.query(
      "update indexing.face_jobs set state = 'queued', ended_at = null, stray_face_ids = '{old}'",
    )
    const { token, tasks } = await begin(await sendAll())
    expect(tasks).toMatchObject([{ action: 'erase', keep: faceOf(`photos/${user}`), faces: ['old'] }])
    await app.deleteEvent(event)
    await absorb()
    const nexts = await finish(
      token,
      tasks.map((task) => resultOf(task)),
    )
    expect(nexts).toMatchObject([{ next: 'again' }])
  })
})

describe('a worker that lost its lease', () => {
  it('is heard, and the job is queued to make sure of the collection', async () => {
    const { begin, inside, job, report, sendAll, sweep, user } = await heldJob()
    await inside.expireLeases()
    await sweep()
    expect(await report()).toMatchObject({ next: 'lost', version: 3 })
    expect(await job()).toMatchObject({
      state: 'queued',
      stray_face_ids: [faceOf(`photos/${user}`)],
      unconfirmed: true,
      index_calls: 1,
    })
    expect((await begin(await sendAll())).tasks).toMatchObject([{ action: 'index', list: true }])
  })

  it('does not take the job from the worker that holds it now, who looks again when it reports', async () => {
    const { begin, finish, inside, job, messages, report, token } = await heldJob()
    await inside.expireLeases()
    const other = await begin(messages)
    expect(await report()).toMatchObject({ next: 'lost' })
    expect(await job()).toMatchObject({ state: 'running', lease_token: other.token })
    expect(other.token).not.toBe(token)
    const nexts = await finish(
      other.token,
      other.tasks.map((task) => resultOf(task)),
    )
    expect(nexts).toMatchObject([{ next: 'again' }])
    expect(await job()).toMatchObject({ state: 'queued', unconfirmed: true })
  })

  it('does not undo what the other has reported, beyond having it looked at again', async () => {
    const { begin, finish, inside, job, messages, report, user } = await heldJob()
    await inside.expireLeases()
    const other = await begin(messages)
    await finish(
      other.token,
      other.tasks.map((task) => resultOf(task)),
    )
    await report({ ...FAILED_CALL, outcome: 'retry' })
    expect(await job()).toMatchObject({
      state: 'queued',
      face_id: faceOf(`photos/${user}`),
      stray_face_ids: [],
      unconfirmed: true,
    })
  })

  it('never held one: the token of a stranger changes no lease', async () => {
    const { job, report, token } = await heldJob()
    expect(await report({}, randomUUID())).toMatchObject({ next: 'lost' })
    expect(await job()).toMatchObject({
      state: 'running',
      lease_token: token,
      face_id: null,
      unconfirmed: true,
    })
  })
})

describe('a report that is made twice, since the answer was lost', () => {
  const SAID: [string, Partial<Result>, string, string][] = [
    ['indexed', {}, 'ended', 'ended'],
    ['skipped', { ...NO_FACE, outcome: 'skipped', reason: 'no_face' }, 'ended', 'ended'],
    ['failed', { ...NO_FACE, outcome: 'failed' }, 'ended', 'ended'],
    ['retry', { ...FAILED_CALL, outcome: 'retry' }, 'retry', 'retry'],
    ['later', { ...NO_FACE, outcome: 'later' }, 'later', 'later'],
    ['unclear', { ...FAILED_CALL, outcome: 'unclear' }, 'retry', 'retry'],
  ]

  it.each(SAID)('of %s changes nothing and is answered alike', async (_, said, first, second) => {
    const { job, report } = await heldJob()
    expect(await report(said)).toMatchObject({ next: first })
    const before = await job()
    expect(await report(said)).toMatchObject({ next: second, version: before.version })
    expect(await job()).toEqual(before)
  })

  it('of a changed world changes nothing, and the job goes through the outbox', async () => {
    const { app, event, job, report, user } = await heldJob()
    await app.leave(event, [user])
    expect(await report()).toMatchObject({ next: 'again' })
    const before = await job()
    expect(await report()).toMatchObject({ next: 'later', version: 2 })
    expect(await job()).toEqual(before)
  })

  it('of a lost lease changes nothing', async () => {
    const { inside, job, report, sweep } = await heldJob()
    await inside.expireLeases()
    await sweep()
    expect(await report()).toMatchObject({ next: 'lost' })
    const before = await job()
    expect(await report()).toMatchObject({ next: 'later' })
    expect(await job()).toEqual(before)
  })

  it('changes nothing that has happened in between', async () => {
    const { absorb, app, event, job, report, sendAll, user } = await heldJob()
    await report()
    await app.leave(event, [user])
    await absorb()
    await sendAll()
    const before = await job()
    expect(await report()).toMatchObject({ next: 'retry', version: 2 })
    expect(await job()).toEqual(before)
  })

  it('ten times at the same moment counts once', async () => {
    const { job, report } = await heldJob()
    const nexts = await atOnce(10, () => report())
    expect(nexts.map(({ next }) => next)).toEqual(Array(10).fill('ended'))
    expect(await job()).toMatchObject({ state: 'indexed', index_calls: 1 })
  })
})

describe('the order of what is queued again', () => {
  it('is that of an erasure when the consent is gone, and of the start of the event otherwise', async () => {
    const { absorb, app, event, job, report, user } = await heldJob()
    await app.consent(event, [user], false)
    await report()
    expect((await job()).due).toBe(Number.NEGATIVE_INFINITY)
    await app.consent(event, [user])
    await absorb()
    expect(Number((await job()).due)).toBeGreaterThan(Date.now())
  })
})
