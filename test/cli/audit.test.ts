import { IndexFacesCommand } from '@aws-sdk/client-rekognition'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type AuditDocument, type AuditOptions, audit } from '../../cli/commands/audit.ts'
import { deleteFaces, ensureCollection } from '../../src/core/collection.ts'
import { runCommand } from '../support/operator.ts'
import { openStage } from '../support/stage.ts'

/** A running system with an event of so many indexed attendees. */
async function indexedEvent(attendees: number) {
  const stage = await openStage()
  onTestFinished(stage.close)
  const event = await stage.createEvent()
  const users: string[] = []
  for (let n = 0; n < attendees; n++) users.push(await stage.createAttendee(event))
  await stage.comeToRest()
  const collection = `memento_event_${event}`
  const { parts, rekognition, sql, upload } = stage
  return {
    ...stage,
    event,
    users,
    collection,
    run: (options: AuditOptions) => runCommand(audit, options, stage.environment),
    json: async (options: AuditOptions) => {
      const { code, out } = await runCommand(audit, { ...options, json: true }, stage.environment)
      return { code, document: JSON.parse(out) as AuditDocument }
    },
    /** Does something to the collection that the system does not know of. */
    deleteFaceOf: async (user: string) => {
      const faces = rekognition.collection(collection) ?? []
      const ids = faces.filter(({ externalImageId }) => externalImageId === user).map(({ faceId }) => faceId)
      await deleteFaces(parts.rekognition, collection, ids)
    },
    addFace: async (user: string, content?: string) =>
      parts.rekognition.send(
        new IndexFacesCommand({
          CollectionId: collection,
          ExternalImageId: user,
          Image: { S3Object: { Bucket: parts.photos.bucket, Name: await upload(content) } },
        }),
      ),
    untold: async (statement: string, values: unknown[]) => {
      await sql('alter table event_consents disable trigger user')
      await sql(statement, values)
      await sql('alter table event_consents enable trigger user')
    },
  }
}

/** An event whose collection differs in every way. */
async function differingEvent() {
  const system = await indexedEvent(6)
  const { addFace, deleteFaceOf, event, sql, timePasses, untold, upload, users } = system
  const [revoked = '', gone = '', twice = '', changed = '', newcomer = ''] = users
  await untold('delete from event_consents where user_id = $1', [newcomer])
  await sql('delete from indexing.face_jobs where user_id = $1', [newcomer])
  await deleteFaceOf(newcomer)
  await untold('insert into event_consents (event_id, user_id, allow_recognition) values ($1, $2, true)', [
    event,
    newcomer,
  ])
  await untold('update event_consents set allow_recognition = false where user_id = $1', [revoked])
  await deleteFaceOf(gone)
  await addFace(twice)
  const [{ photo_path = '' } = {}] = await sql<{ photo_path: string }>(
    'select photo_path from profiles where user_id = $1',
    [changed],
  )
  await upload('another face', photo_path)
  await addFace('nobody')
  await timePasses()
  return { ...system, revoked, gone, twice, changed, newcomer }
}

const state = ({ sql }: Pick<Awaited<ReturnType<typeof openStage>>, 'sql'>) =>
  sql(
    `select (select jsonb_agg(j order by user_id) from indexing.face_jobs j) as jobs, (select jsonb_agg(r) from indexing.event_runs r) as runs,
       (select count(*) from indexing.changes) as changes, (select jsonb_agg(e) from indexing.erasures e) as erasures`,
  )

describe('audit of an event', () => {
  it('says that the collection is as it should be, exit code 0', async () => {
    const { event, run } = await indexedEvent(2)
    const { code, out } = await run({ event })
    expect(code).toBe(0)
    expect(out).toContain(`${event}  2 faces of attendees\n  as it should be`)
  })

  it('tells each kind of difference, and who, and changes nothing without --repair', async () => {
    const system = await differingEvent()
    const { changed, event, gone, json, newcomer, revoked, run, twice } = system
    const before = await state(system)
    const faces = system.facesOf(event)
    const { code, document } = await json({ event })
    expect(code).toBe(2)
    expect(document).toMatchObject({ left: null, orphans: null })
    expect(document.events).toEqual([
      {
        event_id: event,
        faces: 5,
        foreign: 1,
        recreated: false,
        differences: { extra: 1, missing: 1, doubled: 1, unnoticed: 1, stale_photos: 1 },
        who: expect.arrayContaining([
          { user_id: revoked, difference: 'extra' },
          { user_id: gone, difference: 'missing' },
          { user_id: twice, difference: 'doubled' },
          { user_id: newcomer, difference: 'unnoticed' },
          { user_id: changed, difference: 'stale_photo' },
        ]),
      },
    ])
    const { out } = await run({ event })
    for (const line of [
      'extra               1',
      'stale_photos        1',
      'foreign             1',
      `    ${gone}  missing`,
    ])
      expect(out).toContain(line)
    expect(await state(system)).toEqual(before)
    expect(system.facesOf(event)).toEqual(faces)
  })

  it('--repair puts all of it right, waits for that, and compares once more', async () => {
    const system = await differingEvent()
    const { event, json, facesOf, wantedFacesOf, whileLiving } = system
    const { code, document } = await whileLiving(() => json({ event, repair: true }))
    // A face whose ExternalImageId is no user id is left there, and reported.
    expect(document.left).toMatchObject([
      { foreign: 1, differences: { extra: 0, missing: 0, doubled: 0, unnoticed: 0, stale_photos: 0 } },
    ])
    expect(code).toBe(2)
    const faces = (facesOf(event) ?? []).filter(({ user }) => user !== 'nobody')
    expect(faces.map(({ user }) => user).sort()).toEqual((await wantedFacesOf(event)).map(({ user }) => user))
  })

  it('--repair makes a collection that was deleted, with everybody in it', async () => {
    const { dropCollection, event, facesOf, run, timePasses, users, whileLiving } = await indexedEvent(3)
    await dropCollection(event)
    await timePasses()
    const { code, out } = await whileLiving(() => run({ event, repair: true }))
    expect(out).toContain('the collection was gone: it is made anew')
    expect(out).toContain('Repaired: 1 collection.')
    expect(code).toBe(0)
    expect(
      facesOf(event)
        ?.map(({ user }) => user)
        .sort(),
    ).toEqual(users.toSorted())
  })

  it('says why there is nothing to compare, exit code 1', async () => {
    const { createEvent, event, run, sql } = await indexedEvent(1)
    await expect(run({ event: await createEvent(100_000) })).rejects.toMatchObject({
      exitCode: 1,
      message: expect.stringContaining('The event is not claimed'),
    })
    await sql("update indexing.event_runs set collection = 'deleted', closed_at = now()")
    await expect(run({ event })).rejects.toThrow('The collection of the event is deleted.')
  })
})

describe('audit without an event', () => {
  it('reports collections with our prefix that belong to no event, and deletes the named one alone', async () => {
    const { collection, event, parts, rekognition, run, users } = await indexedEvent(1)
    const [orphan, other] = ['0', '1'].map((n) => `memento_event_0000000${n}-0000-4000-8000-000000000000`)
    for (const each of [orphan ?? '', other ?? '', 'another_prefix', 'memento_event_not-an-id'])
      await ensureCollection(parts.rekognition, each)
    const { code, out } = await run({})
    expect(code).toBe(2)
    expect(out).toContain(`2 collections with our prefix and no event of ours`)
    expect(out).toContain(`\n  ${orphan}\n  ${other}\n`)

    for (const refused of [collection, 'another_prefix', 'memento_event_not-an-id', 'memento_event_', event])
      await expect(run({ deleteCollection: refused, yes: true })).rejects.toMatchObject({ exitCode: 1 })
    expect(rekognition.collection(collection)).toHaveLength(users.length)

    expect(await run({ deleteCollection: orphan ?? '' })).toMatchObject({
      code: 1,
      out: expect.stringContaining('with 0 faces. Is it no other stage'),
    })
    expect(rekognition.collection(orphan ?? '')).toEqual([])
    expect(await run({ deleteCollection: orphan ?? '', yes: true })).toMatchObject({ code: 0 })
    expect(rekognition.collection(orphan ?? '')).toBeUndefined()
    expect(rekognition.collection(other ?? '')).toEqual([])
    await run({ deleteCollection: other ?? '', yes: true })
    expect(await run({})).toMatchObject({
      code: 0,
      out: expect.stringContaining('Every collection with our prefix belongs to an event.'),
    })
  })

  it('--all compares every event, those that are over included', async () => {
    const { deleteFaceOf, event, json, run, sql, timePasses, users } = await indexedEvent(2)
    expect(await run({ all: true })).toMatchObject({
      code: 0,
      out: expect.stringContaining('1 collection as they should be.'),
    })
    await sql("update indexing.event_runs set ends_at = now() - interval '1 d', reconcile_due = 'infinity'")
    await deleteFaceOf(users[0] ?? '')
    await timePasses()
    const { code, document } = await json({ all: true })
    expect(code).toBe(2)
    expect(document).toMatchObject({
      events: [{ event_id: event, differences: { missing: 1 } }],
      orphans: [],
    })
  })

  it('says that the scheduler has not run yet', async () => {
    const { run, sql } = await indexedEvent(0)
    await sql('update indexing.settings set collection_prefix = null')
    await expect(run({})).rejects.toMatchObject({
      exitCode: 1,
      message: expect.stringContaining('has not run yet'),
    })
  })
})
