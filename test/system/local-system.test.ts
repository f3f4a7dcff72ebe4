import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { expect, onTestFinished, test, vi } from 'vitest'
import { startLocalSystem } from '../../local/system.ts'
import { answers, startChild } from '../support/child.ts'
import { postgres } from '../support/database.ts'
import { freshSystem } from '../support/system.ts'

const IN_TEN_MINUTES = () => new Date(Date.now() + 600_000)

test('an event is indexed by the functions that are deployed, from the app to the collection', async () => {
  const { app, functions, rekognition } = await freshSystem({ tps: 1000 })
  const event = await app.createEvent({ name: 'Party', startsAt: IN_TEN_MINUTES() })
  const [one, two] = await app.addAttendees(event, [
    { name: 'One', photo: 'the face of one' },
    { name: 'Two', photo: 'the face of two' },
    { name: 'Three', photo: 'the face of three', consents: false },
  ])
  await functions.invoke('scheduler', { window_minutes: 20 })
  await vi.waitFor(async () => expect(await app.statusOf(event)).toBe('completed'), { timeout: 90_000 })
  const faces = rekognition
    .collection(`memento_event_${event}`)
    ?.map(({ externalImageId }) => externalImageId)
  expect(faces?.toSorted()).toEqual([one, two].toSorted())
})

test('the functions see this system and nothing beyond it', async () => {
  const { environment, gateway, aws, rekognition } = await freshSystem({ tps: 7 })
  expect(environment).toMatchObject({
    SUPABASE_URL: gateway.url,
    SUPABASE_SERVICE_ROLE_KEY: gateway.serviceRoleKey,
    S3_BUCKET_NAME: 'profile-photos',
    AWS_REGION: aws.region,
    AWS_ENDPOINT_URL: aws.endpoint,
    AWS_ENDPOINT_URL_REKOGNITION: rekognition.endpoint,
    WORK_QUEUE_URL: aws.queueUrls.get('WorkQueue'),
    COLLECTION_PREFIX: 'memento_event_',
    INDEX_FACES_TPS: '7',
  })
  const addresses = Object.values(environment).filter((value) => /^https?:/.test(value))
  expect(addresses.map((address) => new URL(address).hostname)).toEqual(addresses.map(() => '127.0.0.1'))
})

test('what the app does reaches its tables: consents, photos, accounts', async () => {
  const { app, database, aws } = await freshSystem()
  const client = new pg.Client(database.url)
  await client.connect()
  onTestFinished(() => client.end())
  const rows = async (sql: string) => (await client.query(sql)).rows

  const event = await app.createEvent({ name: 'Party', startsAt: null })
  const [user = ''] = await app.addAttendees(event, [
    { name: 'One', photoPath: 'https://old.example/photo.jpg' },
  ])
  expect(await rows('select full_name, photo_path from profiles')).toEqual([
    { full_name: 'One', photo_path: 'https://old.example/photo.jpg' },
  ])

  await app.setConsent(event, user, false)
  expect(
    await rows('select allow_recognition, revoked_at is not null as revoked from event_consents'),
  ).toEqual([{ allow_recognition: false, revoked: true }])

  const key = await app.changePhoto(user, 'another face')
  expect(await rows('select photo_path from profiles')).toEqual([{ photo_path: key }])
  const stored = await fetch(`${aws.endpoint}/profile-photos/${key}`)
  expect(await stored.text()).toBe('another face')

  await app.deleteAccount(user)
  expect(await rows('select user_id from profiles union all select user_id from event_consents')).toEqual([])
})

test('a part that does not start is named with the reason, and the others are closed', async () => {
  let url = ''
  const starting = startLocalSystem({
    engine: 'synthetic',
    postgres: {
      createDatabase: async () => {
        const database = await postgres.createDatabase()
        url = database.url
        return database
      },
    },
    change: ({ functions }) => {
      for (const one of functions) one.module = 'src/nowhere/handler'
    },
  })
  await expect(starting).rejects.toThrow(
    /^The local system cannot start: bundling the functions: Build failed with 3 errors:\s+error: Could not resolve ".\/src\/nowhere\/handler"/,
  )
  await expect(new pg.Client(url).connect()).rejects.toThrow('does not exist')
})

test.each<[string, NodeJS.Signals, number, number]>([
  ['Ctrl-C', 'SIGINT', 1, 130],
  ['Ctrl-C twice', 'SIGINT', 2, 130],
  ['SIGTERM', 'SIGTERM', 1, 143],
])('%s ends the system and leaves nothing behind', async (_what, signal, times, exitCode) => {
  const child = await startChild('hold-system.ts')
  const [ports] = (await once(child.process, 'message')) as [number[]]
  expect(await Promise.all(ports.map(answers))).toEqual(ports.map(() => true))
  const ended = once(child.process, 'exit')
  for (let sent = 0; sent < times; sent++) {
    child.signalGroup(signal)
    await sleep(20)
  }
  const [code] = await ended
  expect(code).toBe(exitCode)
  expect(await Promise.all(ports.map(answers))).toEqual(ports.map(() => false))
  await vi.waitFor(async () => expect(await child.leftovers()).toEqual([]), { timeout: 15_000 })
})
