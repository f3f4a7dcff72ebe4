import type pg from 'pg'
import { describe, expect, it } from 'vitest'
import type { Task } from '../../src/core/database.ts'
import { atOnce, faceOf, only, resultOf, sentEvent } from '../support/ledger.ts'

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

const NOTHING = { action: 'none', photo: null, keep: null }

describe('the first look at an attendee', () => {
  it('says to index the photo, without a list of the collection, and leases the job', async () => {
    const { begin, event, inside, messages, users } = await sentEvent(1)
    const [user = ''] = users
    const { tasks, token } = await begin(messages)
    expect(tasks).toEqual([
      {
        event_id: event,
        user_id: user,
        version: 1,
        action: 'index',
        photo: `photos/${user}`,
        keep: null,
        faces: [],
        list: false,
        refused: null,
      },
    ])
    expect(await inside.job(event, user)).toMatchObject({
      state: 'running',
      lease_token: token,
      attempts: 1,
      unconfirmed: true,
    })
  })

  it('ends the job at once where there is a reason against it', async () => {
    const reasons = {
      'update event_consents set allow_recognition = false': ['erased', 'no_consent'],
      'update event_consents set allow_recognition = null': ['erased', 'no_consent'],
      'delete from event_consents': ['erased', 'no_consent'],
      'delete from auth.users': ['erased', 'no_consent'],
      'delete from profiles': ['skipped', 'no_profile'],
      'update profiles set photo_path = null': ['skipped', 'no_photo'],
      "update profiles set photo_path = ''": ['skipped', 'no_photo'],
      "update profiles set photo_path = 'https://old.example/me.jpg'": ['skipped', 'photo_is_url'],
      "update profiles set photo_path = 'HTTP://old.example/me.jpg'": ['skipped', 'photo_is_url'],
      "update profiles set photo_path = repeat('ä', 513)": ['skipped', 'photo_path_too_long'],
      'update events set is_active = false': ['skipped', 'event_inactive'],
      'update events set is_active = null': ['skipped', 'event_inactive'],
      "update events set cleanup_status = 'in_progress'": ['skipped', 'event_closed'],
      'delete from events': ['erased', 'event_deleted'],
    }
    const found: Record<string, unknown> = {}
    for (const change of Object.keys(reasons)) {
      const { begin, event, inside, messages, owner, users } = await sentEvent(1)
      await owner.query(change)
      expect((await begin(messages)).tasks).toMatchObject([NOTHING])
      const job = await inside.job(event, only(users))
      expect(job).toMatchObject({ lease_token: null, attempts: 0 })
      found[change] = [job.state, job.reason]
    }
    expect(found).toEqual(reasons)
  })

  it('takes a photo whose key is as long as S3 allows', async () => {
    const { begin, messages, owner } = await sentEvent(1)
    await owner.query("update public.profiles set photo_path = repeat('ä', 512)")
    expect((await begin(messages)).tasks).toMatchObject([{ action: 'index', photo: 'ä'.repeat(512) }])
  })

  it('settles an event of whose attendees none is to be indexed', async () => {
    const { app, begin, event, messages, users } = await sentEvent(3)
    await app.consent(event, users.slice(0, 2), false)
    await begin(messages.slice(0, 2))
    expect(await app.status(event)).toBe('in_progress')
    await app.leave(event, users.slice(2))
    await begin(messages)
    expect(await app.status(event)).toBe('completed')
  })
})

describe('a look at an attendee whose face is in the collection', () => {
  it('says nothing when it is of the photo', async () => {
    const { begin, event, inside, messages } = await indexedEvent(1)
    expect((await begin(messages)).tasks).toMatchObject([NOTHING])
    expect(await inside.states(event)).toEqual({ indexed: 1 })
  })

  it('says to index another photo, and then to erase the face', async () => {
    const { app, begin, messages, users } = await indexedEvent(1)
    await app.photo(users[0] ?? '', 'photos/new')
    expect((await begin(messages)).tasks).toMatchObject([
      {
        action: 'index',
        photo: 'photos/new',
        keep: null,
        faces: [faceOf(`photos/${users[0]}`)],
        list: false,
      },
    ])
  })

  it('says to erase it when it may not stay', async () => {
    const changes = [
      'update event_consents set allow_recognition = false',
      'delete from event_consents',
      'delete from auth.users',
      'delete from profiles',
      'update profiles set photo_path = null',
      "update profiles set photo_path = 'https://old.example/me.jpg'",
      'delete from events',
      'update events set is_active = false; update event_consents set allow_recognition = false',
      "update events set is_active = false; update profiles set photo_path = 'photos/new'",
    ]
    const erased: string[] = []
    for (const change of changes) {
      const { begin, messages, owner, users } = await indexedEvent(1)
      await owner.query(change)
      const { action, ...task } = only((await begin(messages)).tasks)
      expect(task).toMatchObject({
        photo: null,
        keep: null,
        faces: [faceOf(`photos/${users[0]}`)],
        list: false,
      })
      if (action === 'erase') erased.push(change)
    }
    expect(erased).toEqual(changes)
  })

  it('lets it stay when the event only takes no more', async () => {
    const { begin, event, inside, messages, owner, users, work } = await sentEvent(1)
    await work(messages)
    for (const [reason, change] of [
      ['event_closed', "update events set cleanup_status = 'completed'"],
      ['event_inactive', "update events set cleanup_status = 'pending', is_active = false"],
    ] as const) {
      await lookAgain(owner)
      await owner.query(change)
      const again = messages.map((message) => ({ ...message, version: 9 }))
      expect((await begin(again)).tasks).toMatchObject([NOTHING])
      expect(await inside.job(event, users[0] ?? '')).toMatchObject({ state: 'indexed', reason })
    }
  })

  it('says to erase strays and keep the face that is of the photo', async () => {
    const { begin, messages, owner, users } = await indexedEvent(1)
    await owner.query("update indexing.face_jobs set stray_face_ids = '{a,b}'")
    expect((await begin(messages)).tasks).toMatchObject([
      { action: 'index', keep: faceOf(`photos/${users[0]}`), faces: ['a', 'b'], list: false },
    ])
  })

  it('says to list the collection when there may be faces that nobody told of', async () => {
    const { app, begin, event, messages, owner, users } = await indexedEvent(2)
    await owner.query('update indexing.face_jobs set unconfirmed = true')
    await app.leave(event, users.slice(0, 1))
    expect((await begin(messages)).tasks).toMatchObject([
      { action: 'erase', photo: null, list: true },
      { action: 'index', keep: faceOf(`photos/${users[1]}`), list: true },
    ])
  })
})

describe('messages that want nothing', () => {
  it('of an older version give their places to what waits, such as the job as it is now', async () => {
    const { absorb, app, begin, messages, sendAll, users } = await sentEvent(1)
    await app.photo(users[0] ?? '', 'photos/new')
    await absorb()
    expect((await begin(messages)).tasks).toMatchObject([
      { action: 'index', photo: 'photos/new', version: 2 },
    ])
    expect(await sendAll()).toEqual([])
  })

  it('of an older version do so while the newer one is being sent, which then wants nothing', async () => {
    const { absorb, app, begin, messages, nextPage, users } = await sentEvent(1)
    await app.photo(only(users), 'photos/new')
    await absorb()
    const { jobs } = await nextPage()
    expect((await begin(messages)).tasks).toMatchObject([
      { action: 'index', photo: 'photos/new', version: 2 },
    ])
    expect((await begin(jobs)).tasks).toMatchObject([NOTHING])
  })

  it('of a job whose worker was lost bring that job back, and are the places of others, too', async () => {
    const { begin, inside, messages } = await sentEvent(3)
    await begin(messages.slice(0, 1))
    await inside.expireLeases()
    const { tasks } = await begin(messages.slice(0, 1))
    expect(tasks.map(({ action }) => action)).toEqual(['index', 'index'])
    expect(tasks.map(({ user_id }) => user_id)).toContain(messages[0]?.user_id)
  })

  it('of a job that has ended are ignored', async () => {
    const { begin, event, inside, messages, work } = await sentEvent(2)
    await work(messages.slice(0, 1))
    await work(messages.slice(1), { outcome: 'skipped', face_id: null, reason: 'no_face' })
    expect((await begin(messages)).tasks).toMatchObject([NOTHING, NOTHING])
    expect(await inside.states(event)).toEqual({ indexed: 1, skipped: 1 })
  })

  it('of a job that the ledger does not know are ignored', async () => {
    const { app, begin, event, messages } = await sentEvent(1)
    const [stranger = ''] = await app.users(1)
    const unknown = [
      { event_id: event, user_id: stranger, version: 1 },
      { event_id: stranger, user_id: stranger, version: 1 },
    ]
    const { tasks } = await begin([...unknown, ...messages])
    expect(tasks.filter(({ action }) => action === 'none')).toHaveLength(2)
    expect(tasks.filter(({ action }) => action === 'index')).toHaveLength(1)
  })

  it('are no messages at all', async () => {
    const { begin } = await sentEvent(1)
    expect((await begin([])).tasks).toEqual([])
  })
})

describe('one worker for each attendee', () => {
  it('however many ask at the same moment', async () => {
    const { begin, event, inside, messages } = await sentEvent(40)
    const answers = await atOnce(12, (worker) => begin(worker % 2 ? messages : messages.toReversed()))
    const given = answers.flatMap(({ tasks }) => tasks.filter(({ action }) => action === 'index'))
    expect(given).toHaveLength(40)
    expect(new Set(given.map((task) => task.user_id)).size).toBe(40)
    expect(await inside.states(event)).toEqual({ running: 40 })
  })

  it('and another when the lease has run out, who is told to list the collection', async () => {
    const { begin, event, inside, messages, users } = await sentEvent(1)
    await begin(messages)
    expect((await begin(messages)).tasks).toMatchObject([{ action: 'none' }])
    await inside.expireLeases()
    const { tasks, token } = await begin(messages)
    expect(tasks).toMatchObject([{ action: 'index', list: true }])
    expect(await inside.job(event, users[0] ?? '')).toMatchObject({ lease_token: token, attempts: 2 })
  })

  it('who asks again, since the answer was lost, is given the same and has spent one attempt', async () => {
    const { begin, event, inside, messages, users } = await sentEvent(3)
    const withoutList = (tasks: Task[]) => tasks.map((task) => ({ ...task, list: null }))
    const { tasks, token } = await begin(messages)
    const again = await begin(messages, token)
    expect(withoutList(again.tasks)).toEqual(withoutList(tasks))
    expect(await inside.job(event, users[0] ?? '')).toMatchObject({ lease_token: token, attempts: 1 })
  })

  it('who asks again is given what the app wants by then', async () => {
    const { absorb, app, begin, event, finish, inside, messages, users } = await sentEvent(2)
    const [changed = '', gone = ''] = users
    const { token } = await begin(messages)
    await app.photo(changed, 'photos/new')
    await app.leave(event, [gone])
    await absorb()
    const { tasks } = await begin(messages, token)
    expect(tasks).toMatchObject([
      { action: 'index', photo: 'photos/new', version: 2 },
      { action: 'erase', photo: null, version: 2 },
    ])
    await finish(
      token,
      tasks.map((task) => resultOf(task)),
    )
    expect(await inside.states(event)).toEqual({ erased: 1, indexed: 1 })
  })

  it('answers once for a job that is asked for twice', async () => {
    const { begin, messages } = await sentEvent(1)
    const [message] = messages
    const older = messages.map((job) => ({ ...job, version: 0 }))
    const { tasks } = await begin([...messages, ...older, ...messages])
    expect(only(tasks)).toMatchObject({ ...message, action: 'index' })
  })
})

describe('a consent that was taken back', () => {
  it('and committed before begin is never answered with a photo', async () => {
    const { app, begin, event, messages, users } = await sentEvent(60)
    const answers = await atOnce(60, async (index) => {
      const mine = messages.slice(index, index + 1)
      await (index % 2 ? app.leave : app.consent)(event, users.slice(index, index + 1), false)
      return (await begin(mine)).tasks
    })
    expect(answers.flat().map((task) => task.photo)).toEqual(Array(60).fill(null))
  })

  it('is seen by a begin that waited for a lock meanwhile', async () => {
    const { app, begin, event, messages, owner, serviceSession, untilWaiting, users } = await sentEvent(1)
    const holder = await serviceSession()
    const worker = await serviceSession()
    await holder.query('begin')
    await holder.query('select public.indexing_begin($1, gen_random_uuid(), 60, 1)', [
      JSON.stringify(messages),
    ])
    const waiting = worker.query('select public.indexing_begin($1, gen_random_uuid(), 60, 1) as answer', [
      JSON.stringify(messages),
    ])
    await untilWaiting(worker)
    await app.consent(event, users, false)
    await holder.query('rollback')
    expect((await waiting).rows[0].answer.jobs).toMatchObject([NOTHING])
    expect((await begin(messages)).tasks).toMatchObject([NOTHING])
    expect(await owner.query('select from indexing.face_jobs where state = $1', ['erased'])).toMatchObject({
      rowCount: 1,
    })
  })
})
