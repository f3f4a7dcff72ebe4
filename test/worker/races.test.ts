import { DeleteFacesCommand } from '@aws-sdk/client-rekognition'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { WorkerParts } from '../../src/worker/worker.ts'
import { openStage, type Stage } from '../support/stage.ts'

let stage: Stage
beforeAll(async () => {
  stage = await openStage()
})
afterAll(() => stage.close())

/** The moments of a worker's pass between which the world may change. */
const MOMENTS = [
  'before the lease',
  'after the lease',
  'before the photo is looked at',
  'after the photo is looked at',
  'before the call lands',
  'after the call has landed',
  'before complete',
  'after complete',
] as const
/** Those of a pass that has an earlier face to delete. */
const OF_THE_EARLIER_FACE = ['before DeleteFaces lands', 'after DeleteFaces has landed'] as const
type Moment = (typeof MOMENTS)[number] | (typeof OF_THE_EARLIER_FACE)[number]

/**
 * What becomes of the worker after that moment. Those with a scheduler's run in them come first, since it takes note of
 * every change that there is: those of the others are to be found by the next one.
 */
const FATES = ['lives on after the change is noted in its job', 'is overtaken', 'lives on', 'dies'] as const
type Fate = (typeof FATES)[number]

interface Scene {
  event: string
  user: string
}

const photoOf = async (user: string): Promise<string | undefined> =>
  (await stage.sql<{ photo_path: string }>('select photo_path from profiles where user_id = $1', [user]))[0]
    ?.photo_path

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
    const before = await photoOf(user)
    await stage.sql('update profiles set photo_path = $2 where user_id = $1', [user, await stage.upload()])
    await stage.sql('update profiles set photo_path = $2 where user_id = $1', [user, before])
  },
  'the photo is replaced under the same key': async ({ user }) => {
    const key = await photoOf(user)
    if (!key) return
    await stage.upload(undefined, key)
    await stage.sql('update profiles set photo_path = photo_path where user_id = $1', [user])
  },
  'the photo is replaced in the bucket, and the app says nothing': async ({ user }) => {
    const key = await photoOf(user)
    if (key) await stage.upload(undefined, key)
  },
  'the photo is deleted in the bucket, and the app says nothing': async ({ user }) => {
    const key = await photoOf(user)
    if (key) await stage.deleteObject(key)
  },
  'the app cleans the event up': async ({ event }) => {
    await stage.sql(`update events set cleanup_status = 'in_progress' where event_id = $1`, [event])
    await stage.dropCollection(event)
    await stage.sql(`update events set cleanup_status = 'completed' where event_id = $1`, [event])
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

/** Events that have been claimed, each with two attendees whose messages are in the queue. */
async function claimedEvents(count: number): Promise<(Scene & { bystander: string })[]> {
  const scenes = await Promise.all(
    Array.from({ length: count }, async () => {
      const event = await stage.createEvent()
      const [user, bystander] = await Promise.all([stage.createAttendee(event), stage.createAttendee(event)])
      return { event, user, bystander }
    }),
  )
  await stage.runScheduler()
  return scenes
}

async function claimedEvent() {
  const [scene] = await claimedEvents(1)
  if (!scene) throw new Error('no event was claimed')
  return scene
}

class Died extends Error {}

/**
 * A worker that does something at a moment of its pass and then, if that rejects, is dead: none of its calls is made or
 * answered any more.
 */
function workerWith(
  at: Moment,
  act: () => Promise<void>,
): { parts: WorkerParts; died: Promise<never>; hasActed: () => boolean } {
  const { database, rekognition, photos, ...rest } = stage.parts
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
    const deletes = call[0] instanceof DeleteFacesCommand
    if (deletes) await pass('before DeleteFaces lands')
    await pass('before the call lands')
    const answer = await rekognition.send(...call)
    await pass('after the call has landed')
    if (deletes) await pass('after DeleteFaces has landed')
    return answer
  }
  return {
    died,
    hasActed: () => acted,
    parts: {
      ...rest,
      rekognition: Object.assign(Object.create(rekognition), { send }),
      photos: {
        ...photos,
        look: async (key) => {
          await pass('before the photo is looked at')
          const object = await photos.look(key)
          await pass('after the photo is looked at')
          return object
        },
      },
      database: {
        ...database,
        lease: async (...call) => {
          await pass('before the lease')
          const answer = await database.lease(...call)
          await pass('after the lease')
          return answer
        },
        complete: async (...call) => {
          await pass('before complete')
          const answer = await database.complete(...call)
          await pass('after complete')
          return answer
        },
      },
    },
  }
}

/** One pass of a worker over the event's messages, with a change of the world at a moment of it. */
async function passWith(
  { event }: Scene,
  change: () => Promise<unknown>,
  moment: Moment,
  fate: Fate,
): Promise<void> {
  const messages = await stage.receive(event)
  const { parts, died, hasActed } = workerWith(moment, async () => {
    await change()
    if (fate === 'dies') throw new Died()
    if (fate === 'lives on after the change is noted in its job') await stage.runScheduler()
    if (fate === 'is overtaken') {
      await stage.timePasses(event)
      await stage.runScheduler()
      await stage.runWorker(await stage.receive(event))
    }
  })
  await Promise.race([stage.runWorker(messages, parts), died]).catch(async (error) => {
    if (!(error instanceof Died)) throw error
    for (const message of messages) await stage.makeVisible(message)
  })
  if (!hasActed()) throw new Error(`there was no moment ${moment}`)
}

async function expectTheCollectionToBeRight({ event }: Scene): Promise<void> {
  const wanted = await stage.wantedFacesOf(event)
  const [open] = await stage.sql(`select from events where event_id = $1 and cleanup_status = 'pending'`, [
    event,
  ])
  const faces = stage.facesOf(event)?.sort((one, other) => String(one.user).localeCompare(String(other.user)))
  expect(faces).toEqual(open ? wanted : undefined)
}

/**
 * Plays a change at every moment of a pass and with every fate of its worker, each with an event of its own: claimed
 * together and brought to rest together, which is most of the work. Returns the scene of a moment and a fate.
 */
function everyPassWith(
  moments: readonly Moment[],
  change: (scene: Scene) => Promise<unknown>,
  prepare: (scenes: Scene[]) => Promise<void>,
) {
  const played = new Map<string, { scene: Scene; failure?: unknown }>()

  beforeAll(async () => {
    const passes = FATES.flatMap((fate) => moments.map((moment) => ({ moment, fate })))
    const scenes = await claimedEvents(passes.length)
    await prepare(scenes)
    for (const [index, { moment, fate }] of passes.entries()) {
      const scene = scenes[index] as Scene
      const pass = passWith(scene, () => change(scene), moment, fate)
      played.set(
        `${moment} ${fate}`,
        await pass.then(
          () => ({ scene }),
          (failure) => ({ scene, failure }),
        ),
      )
    }
    await stage.comeToRest()
  }, 300_000)

  return (moment: Moment, fate: Fate): Scene => {
    const { scene, failure } = played.get(`${moment} ${fate}`) ?? { failure: new Error('was not played') }
    if (failure || !scene) throw failure
    return scene
  }
}

describe.each(Object.keys(CHANGES))('when %s', (name) => {
  const change = CHANGES[name] ?? (() => Promise.reject())

  describe('while a worker indexes the attendee', () => {
    const sceneOf = everyPassWith(MOMENTS, change, async () => {})

    describe.each(MOMENTS)('%s of the worker', (moment) => {
      it.each(FATES)('which then %s, the collection is right in the end', async (fate) => {
        const scene = sceneOf(moment, fate)
        await expectTheCollectionToBeRight(scene)
        if (name !== 'the event is deleted') expect(await stage.statusOf(scene.event)).toBe('completed')
      })
    })
  })

  if (name.includes('photo'))
    describe('while a worker replaces the face of an earlier photo', () => {
      const moments = [...MOMENTS, ...OF_THE_EARLIER_FACE]
      const sceneOf = everyPassWith(moments, change, async (scenes) => {
        await stage.comeToRest()
        for (const scene of scenes) await CHANGES['the photo is replaced under the same key']?.(scene)
        await stage.runScheduler()
      })

      describe.each(moments)('%s of the worker', (moment) => {
        it.each(FATES)('which then %s, the collection is right in the end', async (fate) => {
          const scene = sceneOf(moment, fate)
          await expectTheCollectionToBeRight(scene)
          expect(await stage.statusOf(scene.event)).toBe('completed')
        })
      })
    })

  describe('while a worker erases the attendee', () => {
    const moments = MOMENTS.filter((moment) => !moment.includes('photo'))
    const sceneOf = everyPassWith(moments, change, async (scenes) => {
      await stage.comeToRest()
      for (const scene of scenes) await CHANGES['consent is taken back']?.(scene)
      await stage.runScheduler()
    })

    describe.each(moments)('%s of the worker', (moment) => {
      it.each(FATES)('which then %s, the collection is right in the end', async (fate) => {
        await expectTheCollectionToBeRight(sceneOf(moment, fate))
      })
    })
  })
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
      scene,
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
  it('is found and erased when its worker died before it recorded the face and consent is then taken back', async () => {
    const scene = await claimedEvent()
    await passWith(scene, async () => {}, 'after the call has landed', 'dies')
    expect(stage.facesOf(scene.event)?.length).toBeGreaterThan(0)
    await CHANGES['consent is taken back']?.(scene)
    await stage.comeToRest()
    expect(stage.facesOf(scene.event)?.map((face) => face.user)).toEqual([scene.bystander])
  })
})
