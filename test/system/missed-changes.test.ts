import { CreateCollectionCommand, IndexFacesCommand } from '@aws-sdk/client-rekognition'
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest'
import { logger } from '../../src/core/log.ts'
import { openStage, type Stage } from '../support/stage.ts'

// What the triggers miss, reconcile finds: tables that are emptied, triggers that do not fire, columns that are renamed, faces
// that others have put into the collection.

let stage: Stage
beforeAll(async () => {
  stage = await openStage()
})
afterAll(() => stage.close())

const QUARTER_OF_AN_HOUR = 15 * 60

/** A completed event with so many attendees, whose next reconcile is a quarter of an hour away. */
async function completedEvent(attendees: number, on = stage) {
  const event = await on.createEvent(120)
  const users = []
  for (let n = 0; n < attendees; n++) users.push(await on.createAttendee(event))
  await on.sql("update events set starts_at = now() + interval '10 minutes' where event_id = $1", [event])
  await on.comeToRest()
  await on.sql(
    "update indexing.event_runs set reconcile_due = now() + interval '15 minutes' where event_id = $1",
    [event],
  )
  expect(on.facesOf(event)).toHaveLength(attendees)
  return { event, users }
}

const usersIn = (event: string, on = stage) =>
  on
    .facesOf(event)
    ?.map(({ user }) => user)
    .toSorted()

describe('a table that is emptied with TRUNCATE', () => {
  it('takes every face with it, with the run that it asks for', async () => {
    const own = await openStage()
    onTestFinished(own.close)
    const { event } = await completedEvent(2, own)
    await own.sql('truncate event_consents')
    await own.follow() // reconcile finds them …
    await own.follow() // … and the erasures are done
    expect(own.facesOf(event)).toEqual([])
  })
})

describe('a change for which no trigger fires', () => {
  const DISABLED = (statement: string) =>
    `alter table event_consents disable trigger user; alter table profiles disable trigger user; ${statement};
     alter table event_consents enable trigger user; alter table profiles enable trigger user`
  const WAYS: [string, (statement: string) => Promise<unknown>][] = [
    ['in replica mode', (statement) => stage.writeWithoutTriggers(statement)],
    ['with the triggers disabled', (statement) => stage.sql(DISABLED(statement))],
  ]

  it.each(WAYS)('%s is followed by the next reconcile, within a quarter of an hour', async (_how, write) => {
    const { event, users } = await completedEvent(4)
    const [revoking = '', changing = '', leaving = '', staying = ''] = users
    const newcomer = await stage.createAttendee(event, { consents: false })
    await stage.follow()
    await stage.sql(
      "update indexing.event_runs set reconcile_due = now() + interval '15 minutes' where event_id = $1",
      [event],
    )
    const photo = await stage.upload()
    await write(`update event_consents set allow_recognition = false where user_id = '${revoking}'`)
    await write(`update event_consents set allow_recognition = true where user_id = '${newcomer}'`)
    await write(`delete from event_consents where user_id = '${leaving}'`)
    await write(`update profiles set photo_path = '${photo}' where user_id = '${changing}'`)
    await stage.follow()
    expect(usersIn(event)).toEqual(users.toSorted()) // nobody has told

    await stage.secondsPass(QUARTER_OF_AN_HOUR)
    await stage.follow()
    await stage.follow()
    expect(usersIn(event)).toEqual([changing, newcomer, staying].toSorted())
    expect(stage.facesOf(event)?.find(({ user }) => user === changing)).toMatchObject({ photo })
    expect(await stage.statusOf(event)).toBe('completed')
  })
})

describe('a column that the app renames', () => {
  it('leaves its writes alone, is told by every run, and is made up for when it has its name again', async () => {
    const own = await openStage()
    onTestFinished(own.close)
    const { event, users } = await completedEvent(2, own)
    const [user = '', other = ''] = users
    await own.sql('alter table profiles rename column photo_path to avatar_path')
    const newcomer = await own.upload()
    await own.sql('update profiles set avatar_path = $2 where user_id = $1', [user, newcomer])
    await own.sql("update profiles set full_name = 'Somebody else' where user_id = $1", [other])
    await own.sql('update event_consents set allow_recognition = false where user_id = $1', [other])
    const [{ id } = { id: '' }] = await own.sql<{ id: string }>(
      "insert into auth.users (email) values ('new@example.org') returning id",
    )
    await own.sql("insert into profiles (user_id, full_name, avatar_path) values ($1, 'New', $2)", [
      id,
      newcomer,
    ])
    await own.sql(
      'insert into event_consents (event_id, user_id, allow_recognition, consented_at) values ($1, $2, true, now())',
      [event, id],
    )

    const errors = vi.spyOn(logger, 'error')
    onTestFinished(() => errors.mockRestore())
    await own.sql("update indexing.event_runs set reconcile_due = '-infinity'")
    const { failed_steps } = await own.runScheduler()
    expect(Object.keys(failed_steps).length).toBeGreaterThan(0)
    expect(JSON.stringify(failed_steps)).toContain('photo_path')
    expect(errors).toHaveBeenCalled()
    await own.runWorker(await own.receive())

    await own.sql('alter table profiles rename column avatar_path to photo_path')
    await own.comeToRest()
    expect(usersIn(event, own)).toEqual([user, id].toSorted())
    const faces = own.facesOf(event)?.toSorted((a, b) => String(a.user).localeCompare(String(b.user)))
    expect(faces).toEqual(await own.wantedFacesOf(event))
  })
})

describe('a face that somebody else has put into the collection', () => {
  const putFace = async (event: string, externalImageId: string | undefined) => {
    const { photos, rekognition, settings } = stage.parts
    await rekognition.send(
      new IndexFacesCommand({
        CollectionId: settings.collectionPrefix + event,
        ExternalImageId: externalImageId,
        Image: { S3Object: { Bucket: photos.bucket, Name: await stage.upload() } },
      }),
    )
  }

  it('under a user id in upper case is that user’s: without consent it is erased', async () => {
    const { event, users } = await completedEvent(1)
    const unwilling = await stage.createAttendee(event, { consents: false })
    await putFace(event, unwilling.toUpperCase())
    expect(usersIn(event)).toContain(unwilling.toUpperCase())
    await stage.secondsPass(QUARTER_OF_AN_HOUR)
    await stage.follow()
    await stage.follow()
    expect(usersIn(event)).toEqual(users)
  })

  it('before the claim, in upper case, is erased by the time the event is at rest', async () => {
    const event = await stage.createEvent()
    const willing = await stage.createAttendee(event)
    const unwilling = await stage.createAttendee(event, { consents: false })
    const CollectionId = stage.parts.settings.collectionPrefix + event
    await stage.parts.rekognition.send(new CreateCollectionCommand({ CollectionId }))
    await putFace(event, unwilling.toUpperCase())
    await stage.comeToRest()
    expect(usersIn(event)).toEqual([willing])
  })

  it('under no id at all is left there, and said in the log with its number', async () => {
    const { event, users } = await completedEvent(1)
    await putFace(event, undefined)
    await putFace(event, undefined)
    const warnings = vi.spyOn(logger, 'warn')
    onTestFinished(() => warnings.mockRestore())
    await stage.secondsPass(QUARTER_OF_AN_HOUR)
    await stage.follow()
    expect(warnings).toHaveBeenCalledWith(expect.stringContaining('no user id'), {
      event_id: event,
      faces: 2,
    })
    expect(stage.facesOf(event)).toHaveLength(3)
    expect(usersIn(event)).toContain(users[0])
  })
})
