import { IndexFacesCommand } from '@aws-sdk/client-rekognition'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { WorkerParts } from '../../src/worker/worker.ts'
import { openStage, type Stage } from '../support/stage.ts'

// Who comes first, and how old a consent may be, while the quota is short and the world goes on changing.

let stage: Stage
beforeEach(async () => {
  stage = await openStage()
})
afterEach(() => stage.close())

function setQuota(tps: number): void {
  stage.parts.settings = { ...stage.parts.settings, indexFacesTps: tps }
  stage.rekognition.setQuota({ IndexFaces: tps })
}

/** Attendees of one event, with ids of this beginning, so that they sort before or after others. */
async function createAttendees(event: string, count: number, beginning: string): Promise<string[]> {
  const users: string[] = []
  for (let n = 0; n < count; n++) {
    const user = `${beginning}-0000-4000-8000-${String(n).padStart(12, '0')}`
    await stage.sql('insert into auth.users (id) values ($1)', [user])
    await stage.sql("insert into profiles (user_id, full_name, photo_path) values ($1, 'Somebody', $2)", [
      user,
      await stage.upload(),
    ])
    await stage.sql(
      'insert into event_consents (event_id, user_id, allow_recognition, consented_at) values ($1, $2, true, now())',
      [event, user],
    )
    users.push(user)
  }
  return users
}

/** Told of each call of IndexFaces: for whom, and when. */
function watchCalls(onCall: (user: string) => void): WorkerParts {
  const { rekognition, ...rest } = stage.parts
  const send = (...call: Parameters<typeof rekognition.send>) => {
    if (call[0] instanceof IndexFacesCommand) onCall(call[0].input.ExternalImageId ?? '')
    return rekognition.send(...call)
  }
  return { ...rest, rekognition: Object.assign(Object.create(rekognition), { send }) }
}

describe('the first deployment', () => {
  it('claims and sends what is to come, and of the past only what ended a short while ago, as the last and as not late', async () => {
    setQuota(5)
    const pasts: string[] = []
    for (let days = 2; days <= 31; days++) {
      const event = await stage.createEvent(-days * 24 * 60)
      await createAttendees(event, 2, `0000${String(days).padStart(4, '0')}`)
      pasts.push(event)
    }
    const justOver = await stage.createEvent(-13 * 60)
    await createAttendees(justOver, 2, '00009998')
    const tonight = await stage.createEvent(10)
    await createAttendees(tonight, 2, 'ffff9999')

    const report = await stage.runScheduler()
    const messages = await stage.receive()
    expect(
      messages.map(({ Body = '' }) => [justOver, tonight].find((event) => Body.includes(event))),
    ).toEqual([tonight, tonight, justOver, justOver])
    expect(report).toMatchObject({ events_claimed: 2, late_events: 0, messages_sent: 4 })
    for (const event of pasts) expect(await stage.statusOf(event)).toBe('pending')
  })
})

describe('a few who change their photos all the time', () => {
  it('do not keep those out who were never indexed', async () => {
    setQuota(20)
    const event = await stage.createEvent()
    const waiting = await createAttendees(event, 60, 'ffffffff')
    const restless = await createAttendees(event, 12, '00000000')
    let over = false
    const change = async () => {
      while (!over) {
        for (const user of restless)
          await stage.sql('update profiles set photo_path = $2 where user_id = $1', [
            user,
            await stage.upload(),
          ])
        await new Promise((resolve) => setTimeout(resolve, 300))
      }
    }
    const indexed = () => stage.facesOf(event)?.filter(({ user = '' }) => waiting.includes(user)).length ?? 0
    const changing = change()
    const began = performance.now()
    while (indexed() < waiting.length && performance.now() - began < 30_000) {
      await stage.runScheduler()
      const messages = await stage.receive()
      for (let start = 0; start < messages.length; start += 10)
        await stage.runWorker(messages.slice(start, start + 10))
    }
    over = true
    await changing
    expect(indexed()).toBe(60)
  }, 60_000)
})

describe('a consent that is taken back while calls wait for their slots', () => {
  it('is known to the worker at each call within two seconds and the time of one request', async () => {
    setQuota(5)
    const event = await stage.createEvent()
    const users = await createAttendees(event, 30, 'abcdabcd')
    await stage.runScheduler()
    const messages = await stage.receive()
    const called = new Map<string, number>()
    const revoked = new Map<string, number>()
    const parts = watchCalls((user) => called.set(user, performance.now()))
    const revoke = async () => {
      for (const user of users.toReversed().slice(0, 20)) {
        await stage.sql('update event_consents set allow_recognition = false where user_id = $1', [user])
        revoked.set(user, performance.now())
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
    }
    await Promise.all([stage.runWorker(messages, parts), revoke()])
    const late = [...revoked].flatMap(([user, at]) => {
      const call = called.get(user)
      return call !== undefined && call > at ? [call - at] : []
    })
    expect(revoked.size).toBe(20)
    expect(called.size).toBeGreaterThan(5)
    expect(called.size).toBeLessThan(30)
    expect(Math.max(0, ...late)).toBeLessThan(2_500)
    await stage.comeToRest()
    expect(stage.facesOf(event)).toHaveLength(10)
  }, 60_000)

  it('is never followed by a call while Rekognition throttles for longer than that', async () => {
    const event = await stage.createEvent()
    const users = await createAttendees(event, 19, 'abcdabcd')
    await stage.runScheduler()
    const messages = await stage.receive()
    stage.rekognition.setFaults(({ operation }) =>
      operation === 'IndexFaces'
        ? { type: 'error', strikes: 'before', error: 'ThrottlingException' }
        : undefined,
    )
    const calls: { user: string; at: number }[] = []
    const parts = watchCalls((user) => calls.push({ user, at: performance.now() }))
    let revokedAt = 0
    const revoke = async () => {
      await new Promise((resolve) => setTimeout(resolve, 1_000))
      await stage.sql('update event_consents set allow_recognition = false where user_id = any ($1)', [
        users.slice(0, 16),
      ])
      revokedAt = performance.now()
    }
    await Promise.all([stage.runWorker(messages, parts, 25_000), revoke()])
    const after = calls.filter(({ user, at }) => users.indexOf(user) < 16 && at > revokedAt + 2_500)
    expect(calls.some(({ at }) => at > revokedAt + 2_500)).toBe(true)
    expect(after).toEqual([])
  }, 60_000)
})

describe('a listing that lags behind', () => {
  it('does not have an erasure forget the face that the ledger knows', async () => {
    const event = await stage.createEvent()
    const user = await stage.createAttendee(event)
    const bystander = await stage.createAttendee(event)
    await stage.comeToRest()
    // Taken back, given, and taken back again before anybody looks: the collection is listed.
    for (const allow of [false, true, false])
      await stage.sql(
        'update event_consents set allow_recognition = $3 where (event_id, user_id) = ($1, $2)',
        [event, user, allow],
      )
    const { rekognition, ...rest } = stage.parts
    let listings = 0
    const send = async (...call: Parameters<typeof rekognition.send>) => {
      if (call[0].constructor.name !== 'ListFacesCommand') return rekognition.send(...call)
      listings++
      return { Faces: [] }
    }
    const lagging = { ...rest, rekognition: Object.assign(Object.create(rekognition), { send }) }
    await stage.runScheduler()
    await stage.runWorker(await stage.receive(), lagging)
    expect(listings).toBe(1)
    expect(stage.facesOf(event)?.map((face) => face.user)).toEqual([bystander])
    const [job] = await stage.sql(
      'select state, face_id from indexing.face_jobs where (event_id, user_id) = ($1, $2)',
      [event, user],
    )
    expect(job).toEqual({ state: 'erased', face_id: null })
  })

  it('has a face that it hid found by the next reconcile', async () => {
    const event = await stage.createEvent()
    const user = await stage.createAttendee(event)
    await stage.comeToRest()
    const [face] = stage.rekognition.collection(stage.parts.settings.collectionPrefix + event) ?? []
    // The ledger has never heard of the face: its worker died after the call.
    await stage.sql(
      `update indexing.face_jobs set face_id = null, photo_etag = null, needs_listing = true, state = 'queued', ended_at = null
       where event_id = $1`,
      [event],
    )
    await stage.sql('update event_consents set allow_recognition = false where user_id = $1', [user])
    const { rekognition, ...rest } = stage.parts
    const send = async (...call: Parameters<typeof rekognition.send>) =>
      call[0].constructor.name === 'ListFacesCommand' ? { Faces: [] } : rekognition.send(...call)
    await stage.runScheduler()
    await stage.runWorker(await stage.receive(), {
      ...rest,
      rekognition: Object.assign(Object.create(rekognition), { send }),
    })
    expect(face && stage.facesOf(event)).toHaveLength(1)
    await stage.comeToRest()
    expect(stage.facesOf(event)).toEqual([])
  })
})

describe('a message that Postgres refuses', () => {
  const huge = (event: string, version: number) =>
    JSON.stringify({ format: 1, event_id: event, user_id: event, version })

  it('with a version past Postgres’s integers fails alone in its batch, and takes no good message with it', async () => {
    const event = await stage.createEvent()
    const users = await createAttendees(event, 3, 'abcdabcd')
    await stage.runScheduler()
    await stage.send(huge(event, 2_147_483_648))
    await stage.send(huge(event, Number.MAX_SAFE_INTEGER))
    const messages = await stage.receive()
    const outcomes = await stage.runWorker(messages)
    const failed = messages.filter((_, index) => outcomes[index]?.status === 'rejected')
    expect(messages).toHaveLength(5)
    expect(failed.map(({ Body = '' }) => JSON.parse(Body).version).toSorted()).toEqual(
      [2_147_483_648, Number.MAX_SAFE_INTEGER].toSorted(),
    )
    expect(stage.facesOf(event)).toHaveLength(users.length)
  })

  it('refused for its data is tried alone, and the other jobs of its batch are done', async () => {
    const event = await stage.createEvent()
    const [bad = '', ...good] = await createAttendees(event, 3, 'abcdabcd')
    await stage.runScheduler()
    const { database, ...rest } = stage.parts
    const refusing: WorkerParts = {
      ...rest,
      database: {
        ...database,
        lease: async (args, persist) =>
          database.lease(
            // In the place of that attendee's id something that Postgres refuses.
            {
              ...args,
              messages: args.messages.map((m) => (m.user_id === bad ? { ...m, user_id: 'no id' } : m)),
            },
            persist,
          ),
      },
    }
    const messages = await stage.receive()
    const outcomes = await stage.runWorker(messages, refusing)
    const failed = messages.filter((_, index) => outcomes[index]?.status === 'rejected')
    expect(failed.map(({ Body = '' }) => JSON.parse(Body).user_id)).toEqual([bad])
    expect(
      stage
        .facesOf(event)
        ?.map(({ user }) => user)
        .toSorted(),
    ).toEqual(good.toSorted())
  })
})
