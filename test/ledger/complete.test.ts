import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { LeasedJob, Result } from '../../src/core/contract.ts'
import {
  atOnce,
  etagOf,
  faceOf,
  failedWith,
  only,
  refusedFor,
  resultOf,
  sentEvent,
} from '../support/ledger.ts'

/** An event with one attendee whose job a worker has leased. */
async function leasedJob() {
  const ledger = await sentEvent(1)
  const { event, messages } = ledger
  const user = only(ledger.users)
  const { token, tasks } = await ledger.lease(messages)
  const task = only(tasks)
  return {
    ...ledger,
    user,
    token,
    task,
    /** Completes the job, as this or another worker; returns what is next. */
    report: async (said: Partial<Result> = {}, as = token) =>
      only(await ledger.complete(as, [resultOf(task, said)])),
    job: () => ledger.inside.job(event, user),
  }
}

/** Nothing was learnt of the photo, and the earlier face is where it was. */
const untouched = ({ face_id }: LeasedJob): Partial<Result> => ({
  photo_etag: null,
  face_id,
  index_calls: 0,
})

/** A call of IndexFaces that may have landed. */
const FAILED_CALL: Partial<Result> = {
  ...failedWith('InternalServerError: try later'),
  needs_listing: true,
  index_calls: 1,
}

/** The object is not in the bucket. */
const MISSING: Partial<Result> = {
  ...failedWith('the object is not in the bucket', 'photo_missing'),
  outcome: 'photo_missing',
  index_calls: 0,
}

describe('an outcome', () => {
  it('indexed: the job has ended with the face of its photo', async () => {
    const { job, report, user } = await leasedJob()
    expect(await report()).toMatchObject({ next: 'done', version: 1 })
    expect(await job()).toMatchObject({
      state: 'indexed',
      face_id: faceOf(`photos/${user}`),
      photo_key: `photos/${user}`,
      photo_etag: etagOf(`photos/${user}`),
      obsolete_face_ids: [],
      needs_listing: false,
      index_calls: 1,
      lease_token: null,
      reason: null,
      error: null,
      history: [{ at: expect.any(String), outcome: 'indexed' }],
    })
    expect((await job()).ended_at).not.toBeNull()
  })

  it('skipped: with the reason that the worker found, which holds for that photo', async () => {
    const { app, job, lease, processChanges, report, sendAll, user } = await leasedJob()
    const error = 'InvalidImageFormatException: not a JPEG'
    expect(await report({ ...refusedFor('photo_format'), error })).toMatchObject({ next: 'done' })
    expect(await job()).toMatchObject({
      state: 'skipped',
      reason: 'photo_format',
      refused: 'photo_format',
      photo_etag: etagOf(`photos/${user}`),
      error,
      face_id: null,
    })
    await app.photo(user, `photos/${user}`)
    await processChanges()
    const [task] = (await lease(await sendAll())).tasks
    expect(task).toMatchObject({ refused: 'photo_format', face_etag: etagOf(`photos/${user}`) })
    await app.photo(user, 'photos/new')
    await processChanges()
    expect(await job()).toMatchObject({ state: 'running' })
  })

  it.each(['retry', 'later', 'unclear'] as const)(
    '%s, with the face of an earlier photo still there: it is known as that photo’s, should that be wanted again',
    async (outcome) => {
      const { app, complete, event, inside, job, lease, processChanges, report, rescue, sendAll, user } =
        await leasedJob()
      await report()
      const face_id = faceOf(`photos/${user}`)
      await app.photo(user, 'photos/unreadable')
      await processChanges()
      const { token, tasks } = await lease(await sendAll())
      expect(tasks).toMatchObject([{ photo_key: 'photos/unreadable', face_id, face_key: `photos/${user}` }])
      const task = only(tasks)
      const said = { ...untouched(task), outcome, reason: 'photo_unreadable', error: 'denied' }
      await complete(token, [resultOf(task, said)])
      expect(await job()).toMatchObject({ face_id, photo_key: `photos/${user}`, obsolete_face_ids: [] })

      await app.photo(user, `photos/${user}`)
      await processChanges()
      await inside.expireLeases()
      await rescue()
      const again = await lease(await sendAll())
      expect(again.tasks).toMatchObject([
        {
          photo_key: `photos/${user}`,
          face_id,
          face_key: `photos/${user}`,
          face_etag: etagOf(`photos/${user}`),
        },
      ])
      await complete(again.token, [resultOf(only(again.tasks))])
      expect(await inside.states(event)).toEqual({ indexed: 1 })
      expect(await job()).toMatchObject({ face_id, index_calls: 1 })
    },
  )

  it('retry: the message comes again, with the same version', async () => {
    const { job, lease, messages, report } = await leasedJob()
    expect(await report(FAILED_CALL)).toMatchObject({ next: 'retry', version: 1 })
    expect(await job()).toMatchObject({
      state: 'sent',
      attempts: 1,
      lease_token: null,
      needs_listing: true,
      reason: 'unavailable',
      error: FAILED_CALL.error,
      history: [{ outcome: 'retry', reason: 'unavailable', error: FAILED_CALL.error }],
    })
    expect((await lease(messages)).tasks).toMatchObject([{ needs_listing: true }])
    expect(await job()).toMatchObject({ attempts: 2 })
  })

  it('later: it goes through the outbox and has cost no attempt', async () => {
    const { job, report, sendAll, task } = await leasedJob()
    expect(await report({ ...untouched(task), outcome: 'later' })).toMatchObject({ next: 'done' })
    expect(await job()).toMatchObject({ state: 'queued', attempts: 0, needs_listing: false, history: [] })
    expect(await sendAll()).toMatchObject([{ version: 2 }])
  })

  it('unclear: the message comes again, and nobody may act until the call can no longer land', async () => {
    const { inside, job, lease, messages, report } = await leasedJob()
    expect(await report({ ...FAILED_CALL, outcome: 'unclear' })).toMatchObject({ next: 'retry', version: 1 })
    const { lease_until, ...rest } = await job()
    expect(rest).toMatchObject({ state: 'running', needs_listing: true, unanswered: 1 })
    const quiet = Number(lease_until) - Date.now()
    expect(quiet).toBeGreaterThan(20_000)
    expect(quiet).toBeLessThan(31_000)
    expect((await lease(messages)).jobs).toMatchObject([{ action: 'wait' }])
    await inside.expireLeases()
    expect((await lease(messages)).tasks).toMatchObject([{ needs_listing: true, unanswered: 1 }])
  })

  it('erased: nothing of the attendee is in the collection', async () => {
    const { app, event, job, processChanges, report, sendAll, user, work } = await leasedJob()
    await report()
    await app.leave(event, [user])
    await processChanges()
    await work(await sendAll())
    expect(await job()).toMatchObject({
      state: 'erased',
      reason: 'no_consent',
      face_id: null,
      obsolete_face_ids: [],
      needs_listing: false,
      index_calls: 1,
    })
  })

  it('a face that could not be deleted stays known until it is', async () => {
    const { job, lease, messages, report, user } = await leasedJob()
    expect(await report({ outcome: 'retry', obsolete_face_ids: ['old'] })).toMatchObject({ next: 'retry' })
    expect(await job()).toMatchObject({
      state: 'sent',
      obsolete_face_ids: ['old'],
      face_id: faceOf(`photos/${user}`),
    })
    expect((await lease(messages)).tasks).toMatchObject([
      { face_id: faceOf(`photos/${user}`), obsolete_face_ids: ['old'], needs_listing: false },
    ])
  })

  it('a face that may not stay and could not be deleted is still to be deleted', async () => {
    const { app, complete, event, job, lease, processChanges, report, sendAll, user } = await leasedJob()
    await report()
    await app.leave(event, [user])
    await processChanges()
    const { tasks, token } = await lease(await sendAll())
    const face_id = faceOf(`photos/${user}`)
    const said: Partial<Result> = {
      outcome: 'retry',
      face_id: null,
      obsolete_face_ids: [face_id],
      error: 'away',
    }
    const nexts = await complete(token, [resultOf(only(tasks), said)])
    expect(nexts).toMatchObject([{ next: 'retry' }])
    expect(await job()).toMatchObject({ state: 'sent', priority: 0 })
    const again = only((await lease(nexts)).tasks)
    expect([again.face_id, ...again.obsolete_face_ids]).toContain(face_id)
  })

  it('each of a batch on its own', async () => {
    const { complete, event, inside, lease, messages } = await sentEvent(6)
    const { token, tasks } = await lease(messages)
    const said: Partial<Result>[] = [
      {},
      refusedFor('no_face'),
      FAILED_CALL,
      { ...failedWith('no time'), outcome: 'later' },
      { ...FAILED_CALL, outcome: 'unclear' },
      MISSING,
    ]
    const nexts = await complete(
      token,
      tasks.map((task, index) => resultOf(task, said[index])),
    )
    const nextOf = new Map(nexts.map(({ user_id, next }) => [user_id, next]))
    expect(tasks.map(({ user_id }) => nextOf.get(user_id))).toEqual([
      'done',
      'done',
      'retry',
      'done',
      'retry',
      'retry',
    ])
    expect(await inside.states(event)).toEqual({ indexed: 1, skipped: 1, sent: 2, queued: 1, running: 1 })
  })

  it('is kept with the nine before it', async () => {
    const { job, report, work, messages } = await leasedJob()
    await report(FAILED_CALL)
    for (let attempt = 1; attempt <= 12; attempt++) await work(messages, failedWith(`attempt ${attempt}`))
    const { history } = await job()
    expect(history.map(({ error }) => error)).toEqual(
      Array.from({ length: 10 }, (_, index) => `attempt ${index + 3}`),
    )
  })
})

describe('calls of IndexFaces for a photo that were not answered', () => {
  it('are not those of ListFaces or DeleteFaces', async () => {
    const { job, report } = await leasedJob()
    await report({ ...FAILED_CALL, outcome: 'unclear', index_calls: 0 })
    expect(await job()).toMatchObject({ state: 'running', unanswered: 0 })
  })

  it('are forgotten when the photo may have changed: a face that appears may be of the app itself', async () => {
    const { app, job, processChanges, report, user } = await leasedJob()
    await report({ ...FAILED_CALL, outcome: 'unclear' })
    expect(await job()).toMatchObject({ unanswered: 1 })
    await app.photo(user, 'photos/another')
    await app.photo(user, `photos/${user}`)
    await processChanges()
    expect(await job()).toMatchObject({ state: 'running', unanswered: 0 })
  })
})

describe('a photo whose object is missing', () => {
  it('is looked for again, and then skipped when nobody had a face before', async () => {
    const { app, event, job, lease, messages, report, work } = await leasedJob()
    expect(await report(MISSING)).toMatchObject({ next: 'retry', version: 1 })
    expect(await job()).toMatchObject({ state: 'sent', reason: 'photo_missing' })
    const { jobs } = await lease(messages)
    expect(only(jobs).missing_seconds).toBeGreaterThanOrEqual(0)
    expect(only(jobs).missing_seconds).toBeLessThan(30)
    await report({ ...MISSING, outcome: 'skipped' }, (await job()).lease_token ?? '')
    expect(await job()).toMatchObject({ state: 'skipped', reason: 'photo_missing', face_id: null })
    expect(await app.status(event)).toBe('completed')
    expect(await work(messages)).toEqual([])
  })

  it('keeps the earlier face for ten minutes: the app replaces photos through such a gap', async () => {
    const { complete, job, lease, notePhotos, owner, processChanges, report, rescue, sendAll, user } =
      await leasedJob()
    await report()
    const photo = `photos/${user}`
    await notePhotos([photo])
    await processChanges()
    const { tasks, token } = await lease(await sendAll())
    const gap = { ...MISSING, face_id: faceOf(photo) }
    expect(await complete(token, [resultOf(only(tasks), gap)])).toMatchObject([{ next: 'done' }])
    const { look_again_at, missing_since, ...kept } = await job()
    expect(kept).toMatchObject({ state: 'indexed', face_id: faceOf(photo), reason: 'photo_missing' })
    expect(Number(look_again_at) - Number(missing_since)).toBe(600_000)

    expect(await rescue()).toMatchObject({ looked_again: 0 })
    await owner.query(`update indexing.face_jobs
      set look_again_at = look_again_at - interval '10 min', missing_since = missing_since - interval '10 min'`)
    expect(await rescue()).toMatchObject({ looked_again: 1 })
    const last = await lease(await sendAll())
    expect(only(last.tasks).missing_seconds).toBeGreaterThanOrEqual(600)
    const gone = { ...MISSING, outcome: 'skipped' } as const
    await complete(last.token, [resultOf(only(last.tasks), gone)])
    expect(await job()).toMatchObject({ state: 'skipped', face_id: null, look_again_at: null })
  })

  it('is expected to be missing by reconcile, which does not queue it anew each time', async () => {
    const { complete, event, lease, notePhotos, processChanges, reconcile, report, sendAll, user } =
      await leasedJob()
    await report()
    const photo = `photos/${user}`
    const faces = [{ user_id: user, face_ids: [faceOf(photo)] }]
    expect(await reconcile(event, faces)).toMatchObject({
      photos: [{ user_id: user, photo_key: photo, photo_etag: etagOf(photo) }],
    })
    await notePhotos([photo])
    await processChanges()
    const { tasks, token } = await lease(await sendAll())
    await complete(token, [resultOf(only(tasks), { ...MISSING, face_id: faceOf(photo) })])
    expect(await reconcile(event, faces)).toMatchObject({
      missing: 0,
      unnoticed: 0,
      photos: [{ user_id: user, photo_key: photo, photo_etag: null }],
    })
  })
})

describe('the app changes something between lease and complete', () => {
  const changes: [string, (ledger: Awaited<ReturnType<typeof leasedJob>>) => Promise<unknown>, object][] = [
    ['consent taken back', ({ app, event, user }) => app.consent(event, [user], false), { photo_key: null }],
    ['attendee left', ({ app, event, user }) => app.leave(event, [user]), { photo_key: null }],
    ['account deleted', ({ app, user }) => app.deleteAccounts([user]), { photo_key: null }],
    ['photo changed', ({ app, user }) => app.photo(user, 'photos/new'), { photo_key: 'photos/new' }],
    ['photo removed', ({ app, user }) => app.photo(user, null), { photo_key: null }],
    [
      'event cleaned up',
      ({ app, event }) => app.change(event, { cleanup_status: "'completed'" }),
      { photo_key: null },
    ],
    ['event deleted', ({ app, event }) => app.deleteEvent(event), { photo_key: null }],
  ]

  it.each(changes)('%s: looked at again at once, noted or not', async (_, change, then) => {
    for (const noted of [true, false]) {
      const ledger = await leasedJob()
      await change(ledger)
      if (noted) await ledger.processChanges()
      const next = await ledger.report()
      expect(next).toMatchObject({ next: 'again' })
      expect(next.version).toBeGreaterThan(1)
      expect((await ledger.lease([next])).tasks).toMatchObject([
        { ...then, may_stay: false, face_id: faceOf(`photos/${ledger.user}`) },
      ])
    }
  })

  it('event deactivated: the face that is there may stay', async () => {
    const { app, event, inside, job, lease, report, user, work } = await leasedJob()
    await app.change(event, { is_active: 'false' })
    const next = await report()
    expect(next).toMatchObject({ next: 'again' })
    expect((await lease([next])).tasks).toMatchObject([{ photo_key: null, may_stay: true }])
    await inside.expireLeases()
    await work([next])
    expect(await job()).toMatchObject({
      state: 'indexed',
      reason: 'event_inactive',
      face_id: faceOf(`photos/${user}`),
    })
  })

  it('changed and changed back: the collection is listed, since the app may have acted meanwhile', async () => {
    const { app, event, lease, processChanges, report, user } = await leasedJob()
    await app.consent(event, [user], false)
    await processChanges()
    await app.consent(event, [user])
    await processChanges()
    const next = await report()
    expect(next).toMatchObject({ next: 'again', version: 3 })
    expect((await lease([next])).tasks).toMatchObject([{ photo_key: `photos/${user}`, needs_listing: true }])
  })

  it.each(['later', 'unclear', 'retry'] as const)(
    'is not forgotten over an outcome of %s, although the worker knew all faces',
    async (outcome) => {
      const { app, inside, job, lease, processChanges, report, task, user } = await leasedJob()
      await app.photo(user, 'photos/new')
      await processChanges()
      await report({ ...untouched(task), outcome })
      expect(await job()).toMatchObject({ version: 2, needs_listing: true })
      await inside.expireLeases()
      expect((await lease([await job()])).tasks).toMatchObject([
        { photo_key: 'photos/new', needs_listing: true },
      ])
    },
  )

  it('the collection was lost and created anew: its face is not believed to be there', async () => {
    const { collectionsDone, event, lease, report } = await leasedJob()
    await collectionsDone([{ event_id: event, result: 'created' }])
    const next = await report()
    expect(next).toMatchObject({ next: 'again' })
    expect((await lease([next])).tasks).toMatchObject([{ face_etag: null, needs_listing: true }])
  })

  it('an erasure that kept a face, whose event was deleted meanwhile, does not break the batch', async () => {
    const { app, complete, event, lease, owner, processChanges, report, sendAll, user } = await leasedJob()
    await report()
    await app.change(event, { is_active: 'false' })
    await owner.query(
      "update indexing.face_jobs set state = 'queued', ended_at = null, obsolete_face_ids = '{old}'",
    )
    const { token, tasks } = await lease(await sendAll())
    expect(tasks).toMatchObject([
      { photo_key: null, may_stay: true, face_id: faceOf(`photos/${user}`), obsolete_face_ids: ['old'] },
    ])
    await app.deleteEvent(event)
    await processChanges()
    expect(
      await complete(
        token,
        tasks.map((task) => resultOf(task)),
      ),
    ).toMatchObject([{ next: 'again' }])
  })
})

describe('a worker that lost its lease', () => {
  it('is heard, and the job is queued to make sure of the collection', async () => {
    const { inside, job, lease, report, rescue, sendAll, user } = await leasedJob()
    await inside.expireLeases()
    await rescue()
    expect(await report()).toMatchObject({ next: 'done', version: 3 })
    expect(await job()).toMatchObject({
      state: 'queued',
      obsolete_face_ids: [faceOf(`photos/${user}`)],
      needs_listing: true,
      index_calls: 1,
    })
    expect((await lease(await sendAll())).tasks).toMatchObject([{ needs_listing: true }])
  })

  it('does not take the job from the worker that holds it now, who looks again when it completes', async () => {
    const { complete, inside, job, lease, messages, report, token } = await leasedJob()
    await inside.expireLeases()
    const other = await lease(messages)
    expect(await report()).toMatchObject({ next: 'done' })
    expect(await job()).toMatchObject({ state: 'running', lease_token: other.token })
    expect(other.token).not.toBe(token)
    const nexts = await complete(
      other.token,
      other.tasks.map((task) => resultOf(task)),
    )
    expect(nexts).toMatchObject([{ next: 'again' }])
    expect(await job()).toMatchObject({ state: 'queued', needs_listing: true })
  })

  it('does not undo the result of the other, beyond having it looked at again', async () => {
    const { inside, job, messages, report, user, work } = await leasedJob()
    await inside.expireLeases()
    await work(messages)
    await report(FAILED_CALL)
    expect(await job()).toMatchObject({
      state: 'queued',
      face_id: faceOf(`photos/${user}`),
      obsolete_face_ids: [],
      needs_listing: true,
    })
  })

  it('never held one: the token of a stranger changes no lease', async () => {
    const { job, report, token } = await leasedJob()
    expect(await report({}, randomUUID())).toMatchObject({ next: 'done' })
    expect(await job()).toMatchObject({
      state: 'running',
      lease_token: token,
      face_id: null,
      needs_listing: true,
    })
  })
})

describe('a result that is reported twice, since the answer was lost', () => {
  const SAID: [string, Partial<Result>, string][] = [
    ['indexed', {}, 'done'],
    ['skipped', refusedFor('no_face'), 'done'],
    ['retry', FAILED_CALL, 'retry'],
    ['later', { ...failedWith('no time'), outcome: 'later' }, 'done'],
    ['unclear', { ...FAILED_CALL, outcome: 'unclear' }, 'retry'],
    ['photo_missing', MISSING, 'retry'],
  ]

  it.each(SAID)('of %s changes nothing and is answered alike', async (_, said, next) => {
    const { job, report } = await leasedJob()
    expect(await report(said)).toMatchObject({ next })
    const before = await job()
    expect(await report(said)).toMatchObject({ next, version: before.version })
    expect(await job()).toEqual(before)
  })

  it('of a changed desired state changes nothing, and the job goes through the outbox', async () => {
    const { app, event, job, report, user } = await leasedJob()
    await app.leave(event, [user])
    expect(await report()).toMatchObject({ next: 'again' })
    const before = await job()
    expect(await report()).toMatchObject({ next: 'done', version: 2 })
    expect(await job()).toEqual(before)
  })

  it('of a lost lease changes nothing', async () => {
    const { inside, job, report, rescue } = await leasedJob()
    await inside.expireLeases()
    await rescue()
    expect(await report()).toMatchObject({ next: 'done' })
    const before = await job()
    expect(await report()).toMatchObject({ next: 'done' })
    expect(await job()).toEqual(before)
  })

  it('changes nothing that has happened in between', async () => {
    const { app, event, job, processChanges, report, sendAll, user } = await leasedJob()
    await report()
    await app.leave(event, [user])
    await processChanges()
    await sendAll()
    const before = await job()
    expect(await report()).toMatchObject({ next: 'retry', version: 2 })
    expect(await job()).toEqual(before)
  })

  it('ten times at the same moment counts once', async () => {
    const { job, report } = await leasedJob()
    const nexts = await atOnce(10, () => report())
    expect(nexts.map(({ next }) => next)).toEqual(Array(10).fill('done'))
    expect(await job()).toMatchObject({ state: 'indexed', index_calls: 1 })
  })
})

describe('the order of a job that is queued again', () => {
  it('is that of an erasure when the consent is gone', async () => {
    const { app, event, job, report, user } = await leasedJob()
    await app.consent(event, [user], false)
    await report()
    expect(await job()).toMatchObject({ state: 'queued', priority: 0, urgent: true })
  })

  it('is that of its event otherwise', async () => {
    const { app, job, report, user } = await leasedJob()
    await app.photo(user, 'photos/new')
    await report()
    expect(await job()).toMatchObject({ state: 'queued', priority: 1 })
  })
})
