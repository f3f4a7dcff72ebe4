import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openStage, type Stage } from '../support/stage.ts'

// Between the profile's row and the object in the bucket there are seconds to minutes without a photo. For each length of
// that gap one stage lives through it, with an event for every way to come into it and to be told of its end.

const STEP_SECONDS = 10
const RECONCILED_WITHIN_SECONDS = 16 * 60

const ENDS = ['the app confirms the upload', 'the bucket tells of the object', 'nobody tells'] as const
type End = (typeof ENDS)[number]

const BEGINNINGS = [
  'the object is missing when the event is claimed',
  'an attendee without an object comes after the event is completed',
  'the object is replaced after the event is completed',
] as const
type Beginning = (typeof BEGINNINGS)[number]

interface Scene {
  beginning: Beginning
  end: End
  event: string
  user: string
  key: string
  others: string[]
}

async function prepare(stage: Stage, beginning: Beginning, end: End): Promise<Scene> {
  const event = await stage.createEvent()
  const others = await Promise.all(Array.from({ length: 4 }, () => stage.createAttendee(event)))
  const key = await stage.upload()
  if (beginning === 'the object is missing when the event is claimed') await stage.deleteObject(key)
  const late = beginning === 'an attendee without an object comes after the event is completed'
  const user = late ? '' : await stage.createAttendee(event, { photo: key })
  return { beginning, end, event, user, key, others }
}

/** The gap begins for an event that is completed already. */
async function open(stage: Stage, scene: Scene): Promise<void> {
  if (scene.beginning !== 'the object is missing when the event is claimed')
    await stage.deleteObject(scene.key)
  if (scene.user === '') scene.user = await stage.createAttendee(scene.event, { photo: scene.key })
}

async function close(stage: Stage, { end, key, user }: Scene): Promise<void> {
  await stage.upload(undefined, key)
  if (end === 'the app confirms the upload')
    await stage.sql('update profiles set photo_path = photo_path where user_id = $1', [user])
  if (end === 'the bucket tells of the object') await stage.parts.database.note_photos({ photo_keys: [key] })
}

async function liveFor(stage: Stage, seconds: number): Promise<void> {
  for (let left = seconds; left > 0; left -= STEP_SECONDS) {
    await stage.secondsPass(Math.min(left, STEP_SECONDS))
    await stage.follow()
  }
}

const byUser = <Face extends { user: string | undefined }>(faces: Face[] = []) =>
  faces.toSorted((one, other) => String(one.user).localeCompare(String(other.user)))

describe.each([3, 30, 120, 300])('a gap of %i seconds', (seconds) => {
  let stage: Stage
  const scenes = BEGINNINGS.flatMap((beginning) => ENDS.map((end) => ({ beginning, end })))
  const played = new Map<string, Scene>()
  /** What was so at the end of the gap, and right after the upload. */
  const before = new Map<Scene, { status: string | undefined; faces: (string | undefined)[] }>()
  const after = new Map<Scene, unknown[]>()

  beforeAll(async () => {
    stage = await openStage()
    await stage.sql(`
      create table statuses (event_id uuid, status text);
      create function note_status() returns trigger language plpgsql as $$
      begin
        insert into public.statuses values (new.event_id, new.indexing_status);
        return null;
      end $$;
      create trigger note_status after update of indexing_status on events for each row execute function note_status()`)
    for (const { beginning, end } of scenes)
      played.set(`${beginning} ${end}`, await prepare(stage, beginning, end))
    const all = [...played.values()]
    const early = all.filter(({ beginning }) => beginning === BEGINNINGS[0])
    const rest = all.filter((scene) => !early.includes(scene))
    await stage.follow()
    for (const { event } of rest) expect(await stage.statusOf(event)).toBe('completed')
    for (const scene of rest) await open(stage, scene)
    await stage.follow()
    await liveFor(stage, seconds)
    for (const scene of all) {
      const faces = (stage.facesOf(scene.event) ?? []).map(({ user }) => user)
      before.set(scene, { status: await stage.statusOf(scene.event), faces })
    }
    for (const scene of all) await close(stage, scene)
    await stage.follow()
    for (const scene of all) after.set(scene, byUser(stage.facesOf(scene.event)))
    await liveFor(stage, RECONCILED_WITHIN_SECONDS)
  }, 300_000)
  afterAll(() => stage.close())

  const sceneOf = (beginning: Beginning, end: End) =>
    played.get(`${beginning} ${end}`) ?? expect.fail('it was not played')

  it.each(scenes)('$beginning; $end', async ({ beginning, end }) => {
    const scene = sceneOf(beginning, end)
    const wanted = byUser(await stage.wantedFacesOf(scene.event))
    expect(wanted).toHaveLength(5)
    const had = before.get(scene)
    const replaced = beginning === BEGINNINGS[2]
    expect(had?.faces.toSorted()).toEqual([...scene.others, ...(replaced ? [scene.user] : [])].toSorted())
    if (seconds > 4) expect(had?.status).toBe('completed')
    if (end !== 'nobody tells') expect(after.get(scene)).toEqual(wanted)
    expect(byUser(stage.facesOf(scene.event))).toEqual(wanted)
    const statuses = await stage.sql('select status from statuses where event_id = $1', [scene.event])
    expect(statuses).toEqual([{ status: 'in_progress' }, { status: 'completed' }])
  })
})
