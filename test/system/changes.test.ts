import { randomUUID } from 'node:crypto'
import { DeleteFacesCommand, IndexFacesCommand, RekognitionClient } from '@aws-sdk/client-rekognition'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { Call } from '../../local/rekognition/operations.ts'
import type { LocalSystem } from '../../local/system.ts'
import { openSystem } from '../support/system.ts'

// What changes in the app's tables is followed by the collection: one running system, with its functions, queues, API and
// nudges. Its scheduler runs when a nudge comes, or when a test invokes it in place of the next minute.

let system: LocalSystem
let database: pg.Pool
let aws: RekognitionClient
/** An event that is never claimed, whose people are no one's attendees otherwise. */
let elsewhere: string
/** Every call that Rekognition took, in order. */
const calls: Call[] = []
/** Attendees whose photos Rekognition refuses to index for now: they keep an event in progress. */
const refused = new Set<string>()

beforeAll(async () => {
  system = await openSystem({
    tps: 5000,
  })
  const { app, environment, rekognition } = system
  database = new pg.Pool({ connectionString: system.database.url, max: 5 })
  await database.query(`
    create table statuses (id bigint generated always as identity, event_id uuid, status text);
    create function note_status() returns trigger language plpgsql as $$
    begin
      insert into public.statuses (event_id, status) values (new.event_id, new.indexing_status);
      return null;
    end $$;
    create trigger note_status after update of indexing_status on events for each row execute function note_status()`)
  aws = new RekognitionClient({
    region: environment.AWS_REGION ?? '',
    endpoint: rekognition.endpoint,
    credentials: { accessKeyId: 'the', secretAccessKey: 'app' },
  })
  elsewhere = await app.createEvent({ name: 'Elsewhere', startsAt: null })
  rekognition.setFaults((call) => {
    calls.push(call)
    return call.operation === 'IndexFaces' && refused.has(call.input.ExternalImageId ?? '')
      ? { type: 'error', strikes: 'before', error: 'AccessDeniedException' }
      : undefined
  })
})
afterAll(async () => {
  await database.end()
  await system.close()
})

interface Scene {
  event: string
  /** Whose consent, photo or account changes. */
  user: string
  /** Somebody whose face is there throughout. */
  bystander: string
}

interface Change {
  what: string
  /** How the attendee is before it, if not with photo and consent. */
  attendee?: 'of another event' | 'without consent' | 'without photo'
  make: (scene: Scene) => Promise<unknown>
  /** Whether the attendee's face is in the collection then, or no collection is there. */
  ends: 'in' | 'out' | 'no collection'
}

const CHANGES: Change[] = [
  {
    what: 'consent is given for the first time',
    attendee: 'of another event',
    make: ({ event, user }) => system.app.setConsent(event, user, true),
    ends: 'in',
  },
  {
    what: 'consent that was refused is given',
    attendee: 'without consent',
    make: ({ event, user }) => system.app.setConsent(event, user, true),
    ends: 'in',
  },
  {
    what: 'consent is taken back',
    make: ({ event, user }) => system.app.setConsent(event, user, false),
    ends: 'out',
  },
  {
    what: 'the attendee leaves',
    make: ({ event, user }) =>
      sql('delete from event_consents where (event_id, user_id) = ($1, $2)', [event, user]),
    ends: 'out',
  },
  { what: 'the account is deleted', make: ({ user }) => system.app.deleteAccount(user), ends: 'out' },
  {
    what: 'the photo is changed',
    make: ({ user }) => system.app.changePhoto(user, randomUUID()),
    ends: 'in',
  },
  { what: 'the photo is removed', make: ({ user }) => system.app.setPhotoPath(user, null), ends: 'out' },
  {
    what: 'the profile is deleted',
    make: ({ user }) => sql('delete from profiles where user_id = $1', [user]),
    ends: 'out',
  },
  {
    what: 'the first photo is set',
    attendee: 'without photo',
    make: ({ user }) => system.app.changePhoto(user, randomUUID()),
    ends: 'in',
  },
  { what: 'the event is deleted', make: ({ event }) => system.app.deleteEvent(event), ends: 'no collection' },
]

/** What the app does by itself in the request that made the change. */
const ACTS_OF_THE_APP: Change[] = [
  {
    what: 'consent is given, and the app indexes the face itself',
    attendee: 'without consent',
    make: async ({ event, user }) => {
      const photo = { S3Object: { Bucket: system.environment.S3_BUCKET_NAME, Name: await photoOf(user) } }
      await Promise.all([
        system.app.setConsent(event, user, true),
        aws.send(
          new IndexFacesCommand({ CollectionId: collectionOf(event), ExternalImageId: user, Image: photo }),
        ),
      ])
    },
    ends: 'in',
  },
  {
    what: 'consent is taken back, and the app deletes the face itself',
    make: async ({ event, user }) => {
      const faces = system.rekognition.collection(collectionOf(event)) ?? []
      const FaceIds = faces.filter((face) => face.externalImageId === user).map(({ faceId }) => faceId)
      await Promise.all([
        system.app.setConsent(event, user, false),
        aws.send(new DeleteFacesCommand({ CollectionId: collectionOf(event), FaceIds })),
      ])
    },
    ends: 'out',
  },
]

const inTenMinutes = () => new Date(Date.now() + 600_000)
const inThreeHours = () => new Date(Date.now() + 3 * 3_600_000)
const nextRun = () => system.functions.invoke('scheduler', {})
const runs = () => system.functions.counts('scheduler').invocations
const collectionOf = (event: string) => `${system.environment.COLLECTION_PREFIX}${event}`
const callsTo = (event: string) =>
  calls.filter(({ input }) => 'CollectionId' in input && input.CollectionId === collectionOf(event))

/** Nudges that left the database, arrived or not. */
function nudges(): number {
  const { sent, lost, failed } = system.pgNet.counts
  return sent + lost + failed
}

async function sql<Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> {
  return (await database.query<Row>(text, values)).rows
}

async function photoOf(user: string): Promise<string | undefined> {
  const [profile] = await sql<{ photo_path: string }>('select photo_path from profiles where user_id = $1', [
    user,
  ])
  return profile?.photo_path
}

/** What an operator sees of an event. */
async function progressOf(event: string) {
  const [row] = await sql<{ progress: Record<string, unknown>[] }>(
    'select public.indexing_progress(array[$1::uuid]) as progress',
    [event],
  )
  return row?.progress[0]
}

/** Every indexing_status that the app has seen since the event was made. */
const statusesOf = async (event: string) =>
  (await sql<{ status: string }>('select status from statuses where event_id = $1 order by id', [event])).map(
    ({ status }) => status,
  )

const openJobs = async (event: string) =>
  (await sql('select from indexing.face_jobs where event_id = $1 and ended_at is null', [event])).length

const eventually = <T>(check: () => T | Promise<T>, seconds = 120) =>
  vi.waitFor(check, { timeout: seconds * 1000, interval: 100 })

const somebody = () => ({ name: 'Somebody', photo: randomUUID() })

/** An event with the attendee of a change and a bystander. */
async function prepare(attendee?: Change['attendee'], startsAt = inTenMinutes()): Promise<Scene> {
  const { app } = system
  const event = await app.createEvent({ name: 'Party', startsAt })
  const one = attendee === 'without photo' ? { name: 'Somebody' } : somebody()
  const [[user = ''], [bystander = '']] = await Promise.all([
    app.addAttendees(attendee === 'of another event' ? elsewhere : event, [
      { ...one, consents: attendee !== 'without consent' },
    ]),
    app.addAttendees(event, [somebody()]),
  ])
  return { event, user, bystander }
}

/** Has the event wait for one more attendee, until they are refused no more. */
async function keepInProgress(event: string): Promise<string> {
  const [user = ''] = await system.app.addAttendees(event, [somebody()])
  refused.add(user)
  return user
}

/** Each attendee and photo that is in the event's collection; undefined where there is none. */
const facesOf = (event: string) =>
  system.rekognition
    .collection(collectionOf(event))
    ?.map(({ externalImageId, imageKey }) => `${externalImageId} ${imageKey}`)
    .toSorted()

/** Each attendee and photo that should be. */
async function facesAfter({ ends }: Change, { bystander, user }: Scene): Promise<string[] | undefined> {
  if (ends === 'no collection') return undefined
  const attendees = ends === 'in' ? [user, bystander] : [bystander]
  return (await Promise.all(attendees.map(async (one) => `${one} ${await photoOf(one)}`))).toSorted()
}

describe.each([
  ['with the nudge, by itself', 0],
  ['with every nudge lost, at the next run of the scheduler', 1],
])('after the claim, %s:', (_, lost) => {
  const cases = (['completed', 'in progress'] as const).flatMap((standing) =>
    [...CHANGES, ...ACTS_OF_THE_APP].map((change) => ({ ...change, standing })),
  )
  type Case = (typeof cases)[number]
  const scenes = new Map<Case, Scene>()
  const sceneOf = (one: Case) => scenes.get(one) ?? expect.fail('it was not prepared')

  beforeAll(async () => {
    for (const one of cases) {
      const scene = await prepare(one.attendee)
      scenes.set(one, scene)
      if (one.standing === 'in progress') await keepInProgress(scene.event)
    }
    await nextRun()
    for (const [{ standing }, { event }] of scenes) {
      await eventually(async () => {
        expect(await system.app.statusOf(event)).toBe(standing.replace(' ', '_'))
        expect(await openJobs(event)).toBe(standing === 'completed' ? 0 : 1)
      })
    }

    system.pgNet.loseRequests(lost)
    const before = runs()
    for (const one of cases) {
      const nudgesBefore = nudges()
      await one.make(sceneOf(one))
      await eventually(() => expect(nudges()).toBeGreaterThan(nudgesBefore))
    }
    system.pgNet.loseRequests(0)
    if (lost) {
      expect(runs()).toBe(before)
      await nextRun()
    }
  }, 300_000)

  it.each(cases)('$what, the event being $standing', async (one) => {
    const { ends, standing } = one
    const scene = sceneOf(one)
    const wanted = await facesAfter(one, scene)
    await eventually(() => expect(facesOf(scene.event)).toEqual(wanted))
    if (ends === 'no collection') {
      await eventually(async () => expect(await openJobs(scene.event)).toBe(0))
      expect(await progressOf(scene.event)).toMatchObject({ state: 'completed', reason: 'event_deleted' })
      return
    }
    const open = standing === 'completed' ? 0 : 1
    await eventually(async () => expect(await openJobs(scene.event)).toBe(open))
    // A late change leaves the status as it is: the app takes completed for 'recognition is open'.
    expect(await statusesOf(scene.event)).toEqual(open ? ['in_progress'] : ['in_progress', 'completed'])
  })

  it('a changed photo is indexed before the old one is erased', async () => {
    const [one] = cases.filter(({ what }) => what === 'the photo is changed')
    const { event, user } = one ? sceneOf(one) : expect.fail('there is no such case')
    const photo = await photoOf(user)
    const erased = () => callsTo(event).findIndex(({ operation }) => operation === 'DeleteFaces')
    await eventually(() => expect(erased()).toBeGreaterThan(0))
    const indexed = callsTo(event).findIndex(
      (call) => call.operation === 'IndexFaces' && call.input.Image.S3Object?.Name === photo,
    )
    expect(indexed).toBeGreaterThan(0)
    expect(indexed).toBeLessThan(erased())
  })
})

describe('before the claim nothing is done, and the claim finds things as they are then:', () => {
  const cases: Change[] = [
    ...CHANGES,
    {
      what: 'the event is deactivated',
      make: ({ event }) => system.app.updateEvent(event, { is_active: false }),
      ends: 'no collection',
    },
  ]
  const scenes = new Map<Change, Scene>()
  const sceneOf = (change: Change) => scenes.get(change) ?? expect.fail('it was not prepared')

  beforeAll(async () => {
    const claimed = await prepare()
    for (const change of cases) scenes.set(change, await prepare(change.attendee, inThreeHours()))
    await nextRun()
    const before = nudges()
    for (const change of cases) await change.make(sceneOf(change))
    // The only one of these that is to nudge; nudges leave in the order in which their transactions committed.
    await system.app.setConsent(claimed.event, claimed.user, false)
    await eventually(() => expect(nudges()).toBeGreaterThan(before))
    expect(nudges()).toBe(before + 1)
    await nextRun()
    for (const { event } of scenes.values()) {
      expect(callsTo(event)).toEqual([])
      expect(await progressOf(event)).toBeUndefined()
    }
    for (const { event } of scenes.values())
      await system.app.updateEvent(event, { starts_at: inTenMinutes() })
    await nextRun()
  }, 300_000)

  it.each(cases)('$what', async (change) => {
    const scene = sceneOf(change)
    if (change.ends === 'no collection') {
      expect(callsTo(scene.event)).toEqual([])
      expect(await statusesOf(scene.event)).toEqual([])
      return
    }
    const wanted = await facesAfter(change, scene)
    await eventually(async () => expect(await statusesOf(scene.event)).toEqual(['in_progress', 'completed']))
    expect(facesOf(scene.event)).toEqual(wanted)
    const indexed = callsTo(scene.event).filter(({ operation }) => operation === 'IndexFaces')
    expect(indexed).toHaveLength(wanted?.length ?? 0)
  })

  it('an event that is put off is not claimed for its old start', async () => {
    const { event } = await prepare()
    await system.app.updateEvent(event, { starts_at: inThreeHours() })
    await nextRun()
    expect(await system.app.statusOf(event)).toBe('pending')
    expect(callsTo(event)).toEqual([])
  })
})

describe('what takes a while:', () => {
  it.concurrent('an event that is deactivated while it is indexed gets no further face, and completes', async ({
    expect,
  }) => {
    const scene = await prepare()
    const { event, user, bystander } = scene
    const waiting = await keepInProgress(event)
    const [late = ''] = await system.app.addAttendees(elsewhere, [somebody()])
    await nextRun()
    await eventually(async () => expect(await openJobs(event)).toBe(1))
    await system.app.updateEvent(event, { is_active: false })
    refused.delete(waiting) // from now on it is this system that says no
    await system.app.setConsent(event, late, true)
    const said = () => progressOf(event)
    await eventually(
      async () =>
        expect(await said()).toMatchObject({
          status: 'completed',
          jobs: { indexed: 2, skipped: 2 },
          skipped: { event_inactive: 2 },
        }),
      150, // a message that was refused rests for half a minute
    )
    expect(await statusesOf(event)).toEqual(['in_progress', 'completed'])
    const photos = await Promise.all([user, bystander].map(async (one) => `${one} ${await photoOf(one)}`))
    expect(facesOf(event)).toEqual(photos.toSorted())
  }, 240_000)

  it.concurrent('a late attendee whose photo is missing is seen in the progress, and is in when the photo comes; the event stays completed', async ({
    expect,
  }) => {
    const { event } = await prepare()
    const [late = ''] = await system.app.addAttendees(elsewhere, [
      { name: 'Late', photoPath: 'not/there.jpg' },
    ])
    await nextRun()
    await eventually(async () => expect(await system.app.statusOf(event)).toBe('completed'))
    await system.app.setConsent(event, late, true)
    await eventually(
      async () =>
        expect(await progressOf(event)).toMatchObject({
          status: 'completed',
          state: 'completed',
          jobs: { indexed: 2, skipped: 1 },
          skipped: { photo_missing: 1 },
        }),
      120,
    )
    expect(await statusesOf(event)).toEqual(['in_progress', 'completed'])
    await system.app.replacePhoto(late, randomUUID())
    await eventually(() => expect(facesOf(event)).toHaveLength(3))
    expect(await statusesOf(event)).toEqual(['in_progress', 'completed'])
  }, 240_000)
})

describe('the nudge’s URL', () => {
  const post = (headers: Record<string, string>) => fetch(system.nudgeUrl, { method: 'POST', headers })

  it('accepts the secret alone, and answers a wrong one as it answers none: with nothing', async () => {
    const answerTo = async (headers: Record<string, string>) => {
      const response = await post(headers)
      const { date: _, ...said } = Object.fromEntries(response.headers)
      return { status: response.status, said, body: await response.text() }
    }
    const begun = () => system.gateway.calls.get('indexing_begin_nudged_run')
    const before = begun()
    const none = await answerTo({})
    expect(none).toMatchObject({ status: 403, body: '' })
    const secret = system.environment.NUDGE_SECRET ?? ''
    for (const wrong of ['', 'wrong', `${secret}x`, secret.slice(1), secret.toUpperCase()])
      expect(await answerTo({ 'x-nudge-secret': wrong })).toEqual(none)
    expect(begun()).toBe(before)
    expect(await answerTo({ 'x-nudge-secret': secret })).toEqual({ ...none, status: 202 })
  })

  it('costs two runs for a burst of nudges: the one that is under way, and one more', async () => {
    const count = (name: string) => system.gateway.calls.get(name) ?? 0
    const before = { nudged: count('indexing_begin_nudged_run'), runs: count('indexing_claim') }
    const holder = await database.connect()
    await holder.query('begin; select indexing.lock_ledger()') // a run that begins now waits for it
    const burst = Array.from({ length: 6 }, () =>
      post({ 'x-nudge-secret': system.environment.NUDGE_SECRET ?? '' }),
    )
    await eventually(() => expect(count('indexing_begin_nudged_run')).toBe(before.nudged + 6))
    const turnedAway = async () => (await sql('select from indexing.nudging where again')).length
    await eventually(async () => expect(await turnedAway()).toBe(1))
    await holder.query('commit')
    holder.release()
    for (const answer of await Promise.all(burst)) expect(answer.status).toBe(202)
    expect(count('indexing_claim')).toBe(before.runs + 2)
  })
})
