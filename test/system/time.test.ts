import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { SchedulerParts } from '../../src/scheduler/scheduler.ts'
import { openStage, type Stage } from '../support/stage.ts'

// Clocks that disagree, answers that come late, a project that was paused, messages that are gone.

let stage: Stage
beforeEach(async () => {
  stage = await openStage()
})
afterEach(async () => {
  stage.rekognition.setFaults(undefined)
  await stage.close()
})

const DAY = 86_400

/** An event of three attendees whose jobs have been sent, and their messages. */
async function sentEvent() {
  const event = await stage.createEvent()
  const users = [
    await stage.createAttendee(event),
    await stage.createAttendee(event),
    await stage.createAttendee(event),
  ]
  await stage.runScheduler()
  return { event, users, messages: await stage.receive() }
}

const usersIn = (event: string) =>
  stage
    .facesOf(event)
    ?.map(({ user }) => user)
    .toSorted()

const statesOf = (event: string) =>
  stage.sql<{ state: string; attempts: number }>(
    'select state, attempts from indexing.face_jobs where event_id = $1',
    [event],
  )

describe('the clock of the functions', () => {
  // Deadlines and the age of a consent are measured as time that passes; what is due is decided by the database alone.
  it.each([
    ['ten minutes ahead of', 600],
    ['ten minutes behind', -600],
    ['a day ahead of', DAY],
  ])('may be %s that of the database', async (_how, seconds) => {
    const now = Date.now
    Date.now = () => now() + seconds * 1000
    try {
      const { event, users, messages } = await sentEvent()
      await stage.runWorker(messages)
      expect(usersIn(event)).toEqual(users.toSorted())
      expect(await stage.statusOf(event)).toBe('completed')
      await stage.sql('update event_consents set allow_recognition = false where user_id = $1', [users[0]])
      await stage.follow()
      expect(usersIn(event)).toEqual(users.slice(1).toSorted())
    } finally {
      Date.now = now
    }
  })
})

describe('a clock of the database that is set back by five minutes', () => {
  /** All that the ledger has noted so far lies five minutes in the future. */
  const setBack = () => stage.secondsPass(-300)

  it('while messages are in the queue lets their jobs be done at once', async () => {
    const { event, users, messages } = await sentEvent()
    await setBack()
    await stage.runWorker(messages)
    expect(usersIn(event)).toEqual(users.toSorted())
    expect(await stage.statusOf(event)).toBe('completed')
  })

  it('delays what a dead worker held by those five minutes and its lease, and no more', async () => {
    const { event, users, messages } = await sentEvent()
    await stage.parts.database.lease({
      messages: messages.map(({ Body = '' }) => JSON.parse(Body)),
      token: crypto.randomUUID(),
      lease_seconds: 90,
    })
    await setBack()
    await stage.runScheduler()
    expect((await statesOf(event)).map(({ state }) => state)).toEqual(['running', 'running', 'running'])
    await stage.secondsPass(300 + 90 + 3)
    await stage.follow()
    expect(usersIn(event)).toEqual(users.toSorted())
    expect(await stage.statusOf(event)).toBe('completed')
  })

  it('while a scheduler sends has its batch sent again', async () => {
    const event = await stage.createEvent()
    const users = [await stage.createAttendee(event)]
    const lost: SchedulerParts = {
      ...stage.parts,
      sqs: Object.assign(Object.create(stage.parts.sqs), { send: () => new Promise(() => {}) }),
    }
    // It dies while SQS has its messages, and nobody confirms.
    await Promise.race([stage.runScheduler(lost), new Promise((resolve) => setTimeout(resolve, 2_000))])
    expect((await statesOf(event)).map(({ state }) => state)).toEqual(['sent'])
    await setBack()
    await stage.follow()
    expect(usersIn(event)).toEqual(users)
  })

  it('follows a consent that is taken back then without delay', async () => {
    const { event, users, messages } = await sentEvent()
    await stage.runWorker(messages)
    await setBack()
    await stage.sql('update event_consents set allow_recognition = false where user_id = $1', [users[0]])
    await stage.follow()
    expect(usersIn(event)).toEqual(users.slice(1).toSorted())
  })
})

describe('answers that come late', () => {
  it('of Rekognition, just within the patience, index everybody once', async () => {
    stage.rekognition.setFaults(({ operation }) =>
      operation === 'IndexFaces' ? { type: 'delay', ms: 8_000 } : undefined,
    )
    const { event, users, messages } = await sentEvent()
    await stage.runWorker(messages)
    expect(usersIn(event)).toEqual(users.toSorted())
    expect(stage.indexCalls()).toBe(3)
  }, 60_000)

  it('of the database to complete are told once more, and counted once', async () => {
    const { event, users, messages } = await sentEvent()
    const { database, ...rest } = stage.parts
    let lost = 0
    const outcomes = await stage.runWorker(messages, {
      ...rest,
      database: {
        ...database,
        complete: async (args, persist) => {
          await database.complete(args, persist) // the first answer is lost
          lost++
          return database.complete(args, persist)
        },
      },
    })
    expect(lost).toBe(1)
    expect(outcomes.every(({ status }) => status === 'fulfilled')).toBe(true)
    expect(usersIn(event)).toEqual(users.toSorted())
    expect((await statesOf(event)).map(({ attempts }) => attempts)).toEqual([1, 1, 1])
    expect(stage.indexCalls()).toBe(3)
  })
})

describe('a project that was paused for a day', () => {
  it('goes on where it was: messages past the retention of their queue are sent again, and what the app changed last is followed', async () => {
    const { event, users } = await sentEvent()
    await stage.discardMessages() // SQS has dropped them
    await stage.sql('update event_consents set allow_recognition = false where user_id = $1', [users[0]])
    await stage.secondsPass(DAY)
    await stage.follow()
    await stage.follow()
    expect(usersIn(event)).toEqual(users.slice(1).toSorted())
    expect(await stage.statusOf(event)).toBe('completed')
  })

  it('whose events are over by then leaves no face of those who took consent back, and claims no event whose clean-up is due', async () => {
    const { event, users, messages } = await sentEvent()
    await stage.runWorker(messages)
    const missed = await stage.createEvent(60)
    await stage.createAttendee(missed)
    await stage.sql('update event_consents set allow_recognition = false where user_id = $1', [users[0]])
    await stage.secondsPass(2 * DAY)
    await stage.sql(
      "update events set starts_at = starts_at - interval '2 days', ends_at = ends_at - interval '2 days'",
    )
    const report = await stage.runScheduler()
    await stage.runWorker(await stage.receive())
    expect(report).toMatchObject({ events_claimed: 0, late_events: 0, failed_steps: {} })
    expect(await stage.statusOf(missed)).toBe('pending')
    expect(usersIn(event)).toEqual(users.slice(1).toSorted())
  })

  it('has its old messages acknowledged when they come after all: the newer ones count', async () => {
    const { event, users, messages } = await sentEvent()
    await stage.secondsPass(DAY)
    await stage.follow() // sent again, and done
    const calls = stage.indexCalls()
    const outcomes = await stage.runWorker(messages)
    expect(outcomes.every(({ status }) => status === 'fulfilled')).toBe(true)
    expect(stage.indexCalls()).toBe(calls)
    expect(usersIn(event)).toEqual(users.toSorted())
  })
})

describe('a database that does not answer', () => {
  it('ends a scheduler’s run with an error that names the call, and the next one does the work', async () => {
    const event = await stage.createEvent()
    const user = await stage.createAttendee(event)
    const { database, ...rest } = stage.parts
    const start_run = () => Promise.reject(new Error('database function start_run: fetch failed'))
    await expect(stage.runScheduler({ ...rest, database: { ...database, start_run } })).rejects.toThrow(
      'start_run',
    )
    await stage.follow()
    expect(usersIn(event)).toEqual([user])
  })
})
