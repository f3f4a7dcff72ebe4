import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { WorkerParts } from '../src/worker/worker.ts'
import { openStage, type Stage } from './support/stage.ts'

let stage: Stage
beforeAll(async () => {
  stage = await openStage()
})
afterAll(() => stage.close())

/** The moments of a worker's pass between which the world may change. */
const MOMENTS = [
  'before begin',
  'after begin',
  'before the call lands',
  'after the call has landed',
  'before finish',
  'after finish',
] as const
type Moment = (typeof MOMENTS)[number]

/** What becomes of the worker after that moment. */
const FATES = ['lives on', 'lives on after the change is noted in its job', 'dies', 'is overtaken'] as const
type Fate = (typeof FATES)[number]

interface Scene {
  event: string
  user: string
}

const CHANGES: Record<string, (scene: Scene) => Promise<unknown>> = {
  'consent is taken back': ({ event, user }) =>
    stage.sql(
      'update event_consents set allow_recognition = false, revoked_at = now() where (event_id, user_id) = ($1, $2)',
      [event, user],
    ),
  'the attendee leaves': ({ event, user }) =>
    stage.sql('delete from event_consents where (event_id, user_id) = ($1, $2)', [event, user]),
  'the account is deleted': ({ user }) => stage.sql('delete from auth.users where id = $1', [user]),
  'the profile is deleted': ({ user }) => stage.sql('delete from profiles where user_id = $1', [user]),
  'the photo is changed': async ({ user }) =>
    stage.sql('update profiles set photo_path = $2 where user_id = $1', [user, await stage.upload()]),
  'the photo is changed and changed back': async ({ user }) => {
    const [before] = await stage.sql<{ photo_path: string }>(
      'select photo_path from profiles where user_id = $1',
      [user],
    )
    await stage.sql('update profiles set photo_path = $2 where user_id = $1', [user, await stage.upload()])
    await stage.sql('update profiles set photo_path = $2 where user_id = $1', [user, before?.photo_path])
  },
  'the photo is removed': ({ user }) =>
    stage.sql('update profiles set photo_path = null where user_id = $1', [user]),
  'consent is taken back and given again': async ({ event, user }) => {
    const set = 'update event_consents set allow_recognition = $3 where (event_id, user_id) = ($1, $2)'
    await stage.sql(set, [event, user, false])
    await stage.sql(set, [event, user, true])
  },
  'the event is deleted': ({ event }) => stage.sql('delete from events where event_id = $1', [event]),
}

/** Two attendees of an event that has been claimed, their messages in the queue. */
async function claimedEvent(): Promise<Scene & { bystander: string }> {
  const event = await stage.createEvent()
  const user = await stage.createAttendee(event)
  const bystander = await stage.createAttendee(event)
  await stage.runScheduler()
  return { event, user, bystander }
}

class Died extends Error {}

/**
 * A worker that does something at a moment of its pass and then, if that rejects, is dead: none of its calls is made or
 * answered any more.
 */
function workerWith(at: Moment, act: () => Promise<void>): { parts: WorkerParts; died: Promise<never> } {
  const { database, rekognition, ...rest } = stage.parts
  let acted = false
  let dead = false
  let die: (reason: Error) => void
  const died = new Promise<never>((_, reject) => {
    die = reject
  })
  const pass = async (moment: Moment) => {
    if (dead) await new Promise(() => {})
    if (moment !== at || acted) return
    acted = true
    try {
      await act()
    } catch (error) {
      dead = true
      die(error as Error)
      await new Promise(() => {})
    }
  }
  const send = async (...call: Parameters<typeof rekognition.send>) => {
    await pass('before the call lands')
    const answer = await rekognition.send(...call)
    await pass('after the call has landed')
    return answer
  }
  return {
    died,
    parts: {
      ...rest,
      rekognition: Object.assign(Object.create(rekognition), { send }),
      database: {
        ...database,
        begin: async (...call) => {
          await pass('before begin')
          const answer = await database.begin(...call)
          await pass('after begin')
          return answer
        },
        finish: async (...call) => {
          await pass('before finish')
          const answer = await database.finish(...call)
          await pass('after finish')
          return answer
        },
      },
    },
  }
}

/** One pass of a worker over the queue, with a change of the world at a moment of it. */
async function passWith(change: () => Promise<unknown>, moment: Moment, fate: Fate): Promise<void> {
  const messages = await stage.receive()
  const { parts, died } = workerWith(moment, async () => {
    await change()
    if (fate === 'dies') throw new Died()
    if (fate === 'lives on after the change is noted in its job') await stage.runScheduler()
    if (fate === 'is overtaken') {
      await stage.timePasses()
      await stage.runScheduler()
      await stage.runWorker(await stage.receive())
    }
  })
  await Promise.race([stage.runWorker(messages, parts), died]).catch(async (error) => {
    if (!(error instanceof Died)) throw error
    for (const message of messages) await stage.makeVisible(message)
  })
}

async function expectTheCollectionToBeRight({ event }: Scene): Promise<void> {
  const wanted = await stage.wantedFacesOf(event)
  const [exists] = await stage.sql('select from events where event_id = $1', [event])
  const faces = stage.facesOf(event)?.sort((one, other) => String(one.user).localeCompare(String(other.user)))
  expect(faces).toEqual(exists ? wanted : undefined)
}

describe.each(Object.keys(CHANGES))('when %s', (name) => {
  const change = CHANGES[name] ?? (() => Promise.reject())

  describe.each(MOMENTS)('%s of the worker that indexes the attendee', (moment) => {
    it.each(FATES)('which then %s, the collection is right in the end', async (fate) => {
      const scene = await claimedEvent()
      await passWith(() => change(scene), moment, fate)
      await stage.comeToRest()
      await expectTheCollectionToBeRight(scene)
      if ((await stage.statusOf(scene.event)) !== undefined) {
        expect(await stage.statusOf(scene.event)).toBe('completed')
      }
    })
  })

  it.each(MOMENTS)(
    '%s of the worker that erases the attendee, the collection is right in the end',
    async (moment) => {
      for (const fate of FATES) {
        const scene = await claimedEvent()
        await stage.comeToRest()
        await CHANGES['consent is taken back']?.(scene)
        await stage.runScheduler()
        await passWith(() => change(scene), moment, fate)
        await stage.comeToRest()
        await expectTheCollectionToBeRight(scene)
      }
    },
  )
})

describe('consent', () => {
  it('that was taken back and committed before a worker begins is never followed by IndexFaces', async () => {
    const { event, user } = await claimedEvent()
    await stage.sql('update event_consents set allow_recognition = false where event_id = $1', [event])
    const before = stage.indexCalls()
    await stage.runWorker(await stage.receive())
    expect(stage.indexCalls()).toBe(before)
    expect(stage.facesOf(event)).toEqual([])
    expect(user).toBeDefined()
  })

  it.each([
    ['given', true],
    ['taken back', false],
  ])(
    'that is %s in a transaction begun before the claim and committed after it counts',
    async (_, consents) => {
      for (const committed of ['before the workers', 'after the event is completed'] as const) {
        const event = await stage.createEvent()
        const user = await stage.createAttendee(event, { consents: !consents })
        const slow = await stage.connect()
        await slow.query('begin')
        await slow.query('update event_consents set allow_recognition = $2 where event_id = $1', [
          event,
          consents,
        ])
        await stage.runScheduler()
        if (committed === 'after the event is completed') {
          await stage.runWorker(await stage.receive())
          expect(await stage.statusOf(event)).toBe('completed')
        }
        await slow.query('commit')
        slow.release()
        await stage.comeToRest()
        expect(stage.facesOf(event)?.map((face) => face.user)).toEqual(consents ? [user] : [])
        expect(await stage.statusOf(event)).toBe('completed')
      }
    },
  )

  it('can be changed while a worker holds the attendee, without waiting for its call', async () => {
    const scene = await claimedEvent()
    const impatient = await stage.connect()
    await impatient.query(`set lock_timeout = '1ms'`)
    await passWith(
      () =>
        impatient.query('update event_consents set allow_recognition = false where event_id = $1', [
          scene.event,
        ]),
      'before the call lands',
      'lives on',
    )
    impatient.release(true)
    await stage.comeToRest()
    expect(stage.facesOf(scene.event)).toEqual([])
  })
})

describe('a face that nobody knows of', () => {
  it('is found and erased when its worker died before it could say so and consent is then taken back', async () => {
    const scene = await claimedEvent()
    await passWith(async () => {}, 'after the call has landed', 'dies')
    expect(stage.facesOf(scene.event)?.length).toBeGreaterThan(0)
    await CHANGES['consent is taken back']?.(scene)
    await stage.comeToRest()
    expect(stage.facesOf(scene.event)?.map((face) => face.user)).toEqual([scene.bystander])
  })
})
