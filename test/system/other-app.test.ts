import { randomUUID } from 'node:crypto'
import { DeleteObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import pg from 'pg'
import { expect, onTestFinished, test, vi } from 'vitest'
import { createMigratedOtherApp } from '../support/other-app.ts'
import { freshSystem } from '../support/system.ts'

test('an app with names of its own is served from the claim to the deletion of the collection', async () => {
  const { aws, database, environment, functions, rekognition } = await freshSystem({
    tps: 5000,
    postgres: { createDatabase: createMigratedOtherApp },
  })
  const app = new pg.Pool({ connectionString: database.url, max: 3 })
  app.on('error', () => {}) // the database was dropped
  onTestFinished(() => app.end())
  const upload = (key: string) =>
    aws.s3.send(
      new PutObjectCommand({ Bucket: environment.S3_BUCKET_NAME, Key: key, Body: `a face ${randomUUID()}` }),
    )
  const people = Array.from({ length: 6 }, () => randomUUID() as string)
  const [revokes, leaves, goes, replaces, hides, stays] = people as [
    string,
    string,
    string,
    string,
    string,
    string,
  ]
  const avatar = (person: string) => `avatars/${person}`
  for (const person of people) await upload(avatar(person))
  await app.query('insert into auth.users (id) select unnest($1::uuid[])', [people])
  await app.query(
    `insert into club.members ("user", avatar_key) select id, 'avatars/' || id from unnest($1::uuid[]) id`,
    [people],
  )
  const {
    rows: [{ id }],
  } = await app.query(
    `insert into club."Gatherings" ("startsAt") values (now() + interval '10 minutes') returning id`,
  )
  await app.query(
    `insert into club.attendances (gathering_id, member, face_answer) select $1, unnest($2::uuid[]), 'granted'`,
    [id, people],
  )
  const faces = () => {
    const collection = rekognition.collection(`${environment.COLLECTION_PREFIX}${id}`)
    return collection && Object.fromEntries(collection.map((face) => [face.externalImageId, face.faceId]))
  }
  const until = (check: () => unknown) => vi.waitFor(check, { timeout: 60_000, interval: 100 })

  expect(await functions.invoke('scheduler', {})).toMatchObject({ events_claimed: 1, jobs_written: 6 })
  await until(async () =>
    expect((await app.query('select face_state from club."Gatherings"')).rows).toEqual([
      { face_state: 'completed' },
    ]),
  )
  const before = faces() ?? {}
  expect(Object.keys(before).toSorted()).toEqual(people.toSorted())

  // The triggers nudge the scheduler; nobody invokes it.
  await app.query('update club.attendances set withdrawn_at = now() where member = $1', [revokes])
  await app.query('delete from club.attendances where member = $1', [leaves])
  await app.query('delete from auth.users where id = $1', [goes])
  await app.query('update club.members set avatar_key = null where "user" = $1', [hides])
  await aws.s3.send(new DeleteObjectCommand({ Bucket: environment.S3_BUCKET_NAME, Key: avatar(replaces) }))
  await upload(avatar(replaces))
  await app.query('update club.members set avatar_key = avatar_key where "user" = $1', [replaces])
  await until(() => {
    expect(Object.keys(faces() ?? {}).toSorted()).toEqual([replaces, stays].toSorted())
    expect(faces()?.[replaces]).not.toBe(before[replaces])
  })
  expect(faces()?.[stays]).toBe(before[stays])

  await app.query('update club."Gatherings" set archived_at = now()')
  await until(async () =>
    expect((await app.query('select collection from indexing.event_runs')).rows).toEqual([
      { collection: 'closing' },
    ]),
  )
  await app.query('update indexing.event_runs set collection_due = now()')
  await functions.invoke('scheduler', {})
  expect(faces()).toBeUndefined()
})
