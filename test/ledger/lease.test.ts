import type pg from 'pg'
import { describe, expect, it } from 'vitest'
import { atOnce, etagOf, faceOf, only, resultOf, sentEvent } from '../support/ledger.ts'

/** Queues every job again as it is. */
const lookAgain = (owner: pg.Pool) =>
  owner.query("update indexing.face_jobs set state = 'queued', ended_at = null, version = version + 1")

/** The same, with every face indexed and the jobs sent again. */
async function indexedEvent(attendees: number) {
  const sent = await sentEvent(attendees)
  await sent.work(sent.messages)
  await lookAgain(sent.owner)
  return { ...sent, messages: await sent.sendAll() }
}

describe('the first lease of a job', () => {
  it('says which photo to index, without a listing of the collection', async () => {
    const { event, inside, lease, messages, users } = await sentEvent(1)
    const user = only(users)
    const { jobs, token } = await lease(messages)
    expect(jobs).toEqual([
      {
        event_id: event,
        user_id: user,
        version: 1,
        action: 'act',
        wait_seconds: null,
        photo_key: `photos/${user}`,
        reason: null,
        face_id: null,
        face_key: `photos/${user}`,
        face_etag: null,
        may_stay: false,
        refused: null,
        obsolete_face_ids: [],
        needs_listing: false,
        missing_seconds: null,
        unanswered: 0,
      },
    ])
    expect(await inside.job(event, user)).toMatchObject({
      state: 'running',
      lease_token: token,
      attempts: 1,
    })
  })

  it('says the reason against a photo, with which the job then ends and its event is completed', async () => {
    const reasons = {
      'update event_consents set allow_recognition = false': ['erased', 'no_consent'],
      'update event_consents set allow_recognition = null': ['erased', 'no_consent'],
      'delete from event_consents': ['erased', 'no_consent'],
      'delete from auth.users': ['erased', 'no_consent'],
      'delete from profiles': ['skipped', 'no_profile'],
      'update profiles set photo_path = null': ['skipped', 'no_photo'],
      "update profiles set photo_path = ''": ['skipped', 'no_photo'],
      "update profiles set photo_path = E' \\t'": ['skipped', 'no_photo'],
      "update profiles set photo_path = 'https://old.example/me.jpg'": ['skipped', 'photo_is_url'],
      "update profiles set photo_path = 'HTTP://old.example/me.jpg'": ['skipped', 'photo_is_url'],
      "update profiles set photo_path = '//old.example/me.jpg'": ['skipped', 'photo_is_url'],
      "update profiles set photo_path = 'data:image/png;base64,AA'": ['skipped', 'photo_is_url'],
      "update profiles set photo_path = repeat('ä', 513)": ['skipped', 'photo_path_too_long'],
      'update events set is_active = false': ['skipped', 'event_inactive'],
      "update events set cleanup_status = 'in_progress'": ['skipped', 'event_closed'],
      'delete from events': ['erased', 'event_deleted'],
    }
    const found: Record<string, unknown> = {}
    for (const change of Object.keys(reasons)) {
      const { event, inside, lease, messages, owner, users, work } = await sentEvent(1)
      await owner.query(change)
      const { pace, tasks } = await lease(messages)
      const { reason } = only(tasks)
      expect(tasks).toMatchObject([{ photo_key: null, face_id: null }])
      expect(pace).toEqual({ first_ms: 0, every_ms: 0 }) // no slot for a call that is not made
      await inside.expireLeases()
      await work(messages)
      const job = await inside.job(event, only(users))
      expect(job).toMatchObject({ lease_token: null, reason, index_calls: 0 })
      expect(await inside.run(event)).toMatchObject({ state: 'completed' })
      found[change] = [job.state, reason]
    }
    expect(found).toEqual(reasons)
  })

  it('takes a photo whose key is as long as S3 allows, without white space around it', async () => {
    const { lease, messages, owner } = await sentEvent(1)
    await owner.query("update public.profiles set photo_path = ' ' || repeat('ä', 512) || E'\\n'")
    expect((await lease(messages)).tasks).toMatchObject([{ photo_key: 'ä'.repeat(512) }])
  })

  it('takes an event of which nobody said whether it is active for an active one', async () => {
    const { lease, messages, owner, users } = await sentEvent(1)
    await owner.query('update public.events set is_active = null')
    expect((await lease(messages)).tasks).toMatchObject([{ photo_key: `photos/${only(users)}` }])
  })
})

describe('a lease of a job whose face is in the collection', () => {
  it('names the face and the photo it is of, and takes no slot', async () => {
    const { event, inside, messages, users, work, lease } = await indexedEvent(1)
    const photo = `photos/${only(users)}`
    const { pace, tasks } = await lease(messages)
    expect(tasks).toMatchObject([
      {
        photo_key: photo,
        face_id: faceOf(photo),
        face_key: photo,
        face_etag: etagOf(photo),
        obsolete_face_ids: [],
        needs_listing: false,
      },
    ])
    expect(pace).toEqual({ first_ms: 0, every_ms: 0 })
    await inside.expireLeases()
    await work(messages)
    expect(await inside.job(event, only(users))).toMatchObject({ state: 'indexed', index_calls: 1 })
  })

  it('names another photo to be indexed, and the face of the one before it', async () => {
    const { app, lease, messages, users } = await indexedEvent(1)
    const user = only(users)
    await app.photo(user, 'photos/new')
    const { pace, tasks } = await lease(messages)
    expect(tasks).toMatchObject([
      {
        photo_key: 'photos/new',
        face_id: faceOf(`photos/${user}`),
        face_key: `photos/${user}`,
        needs_listing: false,
      },
    ])
    expect(pace.every_ms).toBeGreaterThan(0)
  })

  it('says that it may not stay', async () => {
    const changes = [
      'update event_consents set allow_recognition = false',
      'delete from event_consents',
      'delete from auth.users',
      'delete from profiles',
      'update profiles set photo_path = null',
      "update profiles set photo_path = 'https://old.example/me.jpg'",
      'delete from events',
      "update events set cleanup_status = 'completed'",
      'update events set is_active = false; update event_consents set allow_recognition = false',
      "update events set is_active = false; update profiles set photo_path = 'photos/new'",
    ]
    const erased: string[] = []
    for (const change of changes) {
      const { event, inside, lease, messages, owner, users, work } = await indexedEvent(1)
      await owner.query(change)
      const task = only((await lease(messages)).tasks)
      expect([change, task]).toMatchObject([
        change,
        { photo_key: null, may_stay: false, face_id: faceOf(`photos/${users[0]}`) },
      ])
      await inside.expireLeases()
      await work(messages)
      if ((await inside.job(event, only(users))).face_id === null) erased.push(change)
    }
    expect(erased).toEqual(changes)
  })

  it('lets it stay when the event is only switched off', async () => {
    const { app, event, inside, lease, messages, users, work } = await indexedEvent(1)
    await app.change(event, { is_active: 'false' })
    expect((await lease(messages)).tasks).toMatchObject([
      { photo_key: null, reason: 'event_inactive', may_stay: true },
    ])
    await inside.expireLeases()
    await work(messages)
    expect(await inside.job(event, only(users))).toMatchObject({
      state: 'indexed',
      reason: 'event_inactive',
      face_id: faceOf(`photos/${users[0]}`),
    })
  })

  it('names other faces to be deleted', async () => {
    const { lease, messages, owner, users } = await indexedEvent(1)
    await owner.query("update indexing.face_jobs set obsolete_face_ids = '{a,b}'")
    expect((await lease(messages)).tasks).toMatchObject([
      { face_id: faceOf(`photos/${users[0]}`), obsolete_face_ids: ['a', 'b'], needs_listing: false },
    ])
  })

  it('says when the collection may hold faces that the ledger does not know', async () => {
    const { app, event, lease, messages, owner, users } = await indexedEvent(2)
    await owner.query('update indexing.face_jobs set needs_listing = true')
    await app.leave(event, users.slice(0, 1))
    expect((await lease(messages)).tasks).toMatchObject([
      { photo_key: null, needs_listing: true },
      { face_id: faceOf(`photos/${users[1]}`), needs_listing: true },
    ])
  })
})

describe('a message on which nothing is done', () => {
  it('is one of an older version: the newer one comes', async () => {
    const { app, event, inside, lease, messages, processChanges, sendAll, users } = await sentEvent(1)
    await app.leave(event, users)
    await processChanges()
    expect((await lease(messages)).jobs).toMatchObject([{ action: 'none' }])
    expect(await inside.states(event)).toEqual({ queued: 1 })
    const newer = await sendAll()
    expect((await lease(messages)).jobs).toMatchObject([{ action: 'none' }])
    expect((await lease(newer)).jobs).toMatchObject([{ action: 'act', version: 2, photo_key: null }])
  })

  it('is one whose job has ended', async () => {
    const { event, inside, lease, messages, work } = await sentEvent(2)
    await work(messages.slice(0, 1))
    await work(messages.slice(1), { outcome: 'skipped', face_id: null, reason: 'no_face' })
    expect((await lease(messages)).jobs).toMatchObject([{ action: 'none' }, { action: 'none' }])
    expect(await inside.states(event)).toEqual({ indexed: 1, skipped: 1 })
  })

  it('is one whose job the ledger does not know', async () => {
    const { app, event, lease, messages } = await sentEvent(1)
    const [stranger = ''] = await app.users(1)
    const unknown = [
      { event_id: event, user_id: stranger, version: 1 },
      { event_id: stranger, user_id: stranger, version: 1 },
    ]
    const { jobs } = await lease([...unknown, ...messages])
    expect(jobs.map(({ action }) => action)).toEqual(['none', 'none', 'act'])
  })

  it('is no message at all', async () => {
    const { lease } = await sentEvent(1)
    expect(await lease([])).toMatchObject({ jobs: [], pace: { first_ms: 0, every_ms: 0 } })
  })
})

describe('one worker for each job', () => {
  it('however many ask at the same moment', async () => {
    const { event, inside, lease, messages } = await sentEvent(40)
    const answers = await atOnce(12, (worker) => lease(worker % 2 ? messages : messages.toReversed()))
    const given = answers.flatMap(({ tasks }) => tasks)
    expect(given).toHaveLength(40)
    expect(new Set(given.map((task) => task.user_id)).size).toBe(40)
    expect(await inside.states(event)).toEqual({ running: 40 })
  })

  it('a second message of a leased job is told to wait until the lease ends', async () => {
    const { event, inside, lease, messages, users } = await sentEvent(1)
    const { token } = await lease(messages)
    const { jobs, pace } = await lease(messages)
    const { wait_seconds, ...job } = only(jobs)
    expect(job).toMatchObject({ action: 'wait', photo_key: null, face_id: null })
    expect(wait_seconds).toBeGreaterThan(55)
    expect(wait_seconds).toBeLessThanOrEqual(60)
    expect(pace).toEqual({ first_ms: 0, every_ms: 0 })
    expect(await inside.job(event, only(users))).toMatchObject({ lease_token: token, attempts: 1 })
  })

  it('another one when the lease has run out, who is told to list the collection', async () => {
    const { event, inside, lease, messages, users } = await sentEvent(1)
    await lease(messages)
    await inside.expireLeases()
    const { tasks, token } = await lease(messages)
    expect(tasks).toMatchObject([{ needs_listing: true }])
    expect(await inside.job(event, only(users))).toMatchObject({ lease_token: token, attempts: 2 })
  })

  it('who asks again, since the answer was lost, is told the same and has spent one attempt', async () => {
    const { event, inside, lease, messages, users } = await sentEvent(3)
    const { jobs, token } = await lease(messages)
    const again = await lease(messages, token)
    expect(again.jobs).toEqual(jobs)
    expect(await inside.job(event, users[0] ?? '')).toMatchObject({ lease_token: token, attempts: 1 })
  })

  it('who asks again is told what the app wants by then', async () => {
    const { app, complete, event, inside, lease, messages, processChanges, users } = await sentEvent(2)
    const [changed = '', gone = ''] = users
    const { token } = await lease(messages)
    await app.photo(changed, 'photos/new')
    await app.leave(event, [gone])
    await processChanges()
    const { tasks } = await lease(messages, token)
    expect(tasks).toMatchObject([
      { photo_key: 'photos/new', version: 2 },
      { photo_key: null, version: 2 },
    ])
    await complete(
      token,
      tasks.map((task) => resultOf(task)),
    )
    expect(await inside.states(event)).toEqual({ erased: 1, indexed: 1 })
  })

  it('is answered once for a job that is named twice', async () => {
    const { lease, messages } = await sentEvent(1)
    const older = messages.map((job) => ({ ...job, version: 0 }))
    const { jobs } = await lease([...messages, ...older, ...messages])
    expect(only(jobs)).toMatchObject({ ...only(messages), action: 'act' })
  })
})

describe('a consent that was taken back', () => {
  it('and committed before the lease is never answered with a photo', async () => {
    const { app, event, lease, messages, users } = await sentEvent(60)
    const answers = await atOnce(60, async (index) => {
      await (index % 2 ? app.leave : app.consent)(event, users.slice(index, index + 1), false)
      return (await lease(messages.slice(index, index + 1))).tasks
    })
    expect(answers.flat().map((task) => task.photo_key)).toEqual(Array(60).fill(null))
  })

  it('is seen by a lease that waited for a lock meanwhile', async () => {
    const { app, event, lease, messages, serviceSession, untilWaiting, users } = await sentEvent(1)
    const holder = await serviceSession()
    const worker = await serviceSession()
    const call = 'select public.indexing_lease($1, gen_random_uuid(), 60) as answer'
    await holder.query('begin')
    await holder.query(call, [JSON.stringify(messages)])
    const waiting = worker.query(call, [JSON.stringify(messages)])
    await untilWaiting(worker)
    await app.consent(event, users, false)
    await holder.query('rollback')
    expect((await waiting).rows[0].answer.jobs).toMatchObject([
      { action: 'act', photo_key: null, reason: 'no_consent' },
    ])
    expect((await lease(messages)).jobs).toMatchObject([{ action: 'wait' }])
  })
})

describe('a worker that has waited for its slots', () => {
  it('reads the desired state again, and is given new slots', async () => {
    const { app, event, lease, messages, refresh, users } = await sentEvent(3)
    const [stays = '', gone = '', changed = ''] = users
    await lease(messages)
    await app.leave(event, [gone])
    await app.photo(changed, 'photos/new')
    const { jobs, pace } = await refresh(
      users.map((user_id) => ({ event_id: event, user_id })),
      2,
    )
    const wanted = new Map(jobs.map(({ user_id, photo_key }) => [user_id, photo_key]))
    expect(wanted.get(stays)).toBe(`photos/${stays}`)
    expect(wanted.get(gone)).toBeNull()
    expect(wanted.get(changed)).toBe('photos/new')
    expect(pace.every_ms).toBeGreaterThan(0)
    expect((await refresh([], 0)).pace).toEqual({ first_ms: 0, every_ms: 0 })
  })
})
