import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { CreateCollectionCommand, RekognitionClient } from '@aws-sdk/client-rekognition'
import { ReceiveMessageCommand } from '@aws-sdk/client-sqs'
import pg from 'pg'
import { expect, inject, onTestFinished, test, vi } from 'vitest'
import { openHome } from '../../local/home.ts'
import { startKeptPostgres } from '../../local/postgres.ts'
import { startLocalSystem } from '../../local/system.ts'
import { answers, openableDirectory, startChild } from '../support/child.ts'
import { postgres } from '../support/database.ts'
import { freshSystem } from '../support/system.ts'

async function rowsOf(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client(url)
  await client.connect()
  try {
    return (await client.query(sql)).rows
  } finally {
    await client.end()
  }
}

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
    SUPABASE_SERVICE_ROLE_KEY: gateway.secretKey,
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
  const rows = (sql: string) => rowsOf(database.url, sql)

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

test('a photo is replaced under its key, with a gap in which there is no object', async () => {
  const { app, aws, database } = await freshSystem()
  const event = await app.createEvent({ name: 'Party', startsAt: null })
  const [user = ''] = await app.addAttendees(event, [{ name: 'One', photo: 'the first face' }])
  const url = `${aws.endpoint}/profile-photos/profiles/${user}-onboarding`
  expect(await (await fetch(url)).text()).toBe('the first face')

  const replacing = app.replacePhoto(user, 'the second face', { gapMs: 300 })
  await vi.waitFor(async () => expect((await fetch(url)).status).toBe(404))
  const key = await replacing
  expect(await (await fetch(url)).text()).toBe('the second face')
  expect(await rowsOf(database.url, 'select photo_path from profiles')).toEqual([{ photo_path: key }])
})

test('the clean-up of the app deletes the collection and sets cleanup_status of the event', async () => {
  const { app, rekognition, environment, aws, database } = await freshSystem()
  const event = await app.createEvent({ name: 'Party', startsAt: null })
  const client = new RekognitionClient({
    endpoint: environment.AWS_ENDPOINT_URL_REKOGNITION ?? '',
    region: aws.region,
    credentials: aws.credentials,
  })
  onTestFinished(() => client.destroy())
  const CollectionId = `memento_event_${event}`
  await client.send(new CreateCollectionCommand({ CollectionId }))
  await app.closeEvent(event)
  expect(rekognition.collection(CollectionId)).toBeUndefined()
  expect(await rowsOf(database.url, 'select cleanup_status from events')).toEqual([
    { cleanup_status: 'completed' },
  ])
})

test("the bucket's events reach PhotoEventsQueue, where the deployment has it", async () => {
  const { app, aws } = await freshSystem({
    change: (deployment) => {
      deployment.functions = deployment.functions.filter(({ name }) => name !== 'photos') // nobody else receives
      if (!deployment.queues.some(({ logicalId }) => logicalId === 'PhotoEventsQueue'))
        deployment.queues.push({
          logicalId: 'PhotoEventsQueue',
          name: 'photo-events',
          arn: '',
          attributes: {},
        })
    },
  })
  const event = await app.createEvent({ name: 'Party', startsAt: null })
  const [user] = await app.addAttendees(event, [{ name: 'One', photo: 'the face of one' }])
  const { Messages = [] } = await aws.sqs.send(
    new ReceiveMessageCommand({ QueueUrl: aws.queueUrls.get('PhotoEventsQueue'), WaitTimeSeconds: 5 }),
  )
  expect(Messages.map(({ Body = '' }) => JSON.parse(Body).detail.object.key)).toEqual([
    `profiles/${user}-onboarding`,
  ])
})

test('a kept system comes back with its data, photos, keys and passwords', async () => {
  const home = await openHome(await openableDirectory())
  const start = () => startLocalSystem({ engine: 'synthetic', home, bundle: inject('bundle') })
  const first = await start()
  const event = await first.app.createEvent({ name: 'Party', startsAt: null })
  const [user = ''] = await first.app.addAttendees(event, [{ name: 'One', photo: 'the face of one' }])
  await first.close()

  const second = await start()
  onTestFinished(second.close)
  expect(second.gateway.secretKey).toBe(first.gateway.secretKey)
  expect(second.gateway.serviceRoleKey).toBe(first.gateway.serviceRoleKey)
  expect(new URL(second.database.url).password).toBe(new URL(first.database.url).password)
  expect(await rowsOf(second.database.url, 'select full_name from profiles')).toEqual([{ full_name: 'One' }])
  const photo = await fetch(`${second.aws.endpoint}/profile-photos/profiles/${user}-onboarding`)
  expect(await photo.text()).toBe('the face of one')
})

test('a kept database refuses a migration that was edited after it had been applied', async () => {
  const home = await openHome(await openableDirectory())
  const options = { home, port: 0 }
  const first = await startKeptPostgres(options)
  await rowsOf(
    first.database.url,
    `update supabase_migrations.schema_migrations set statements = array['-- as it was' || E'\\n' || statements[1]]
     where name = 'event_indexer_tables'`,
  )
  await first.close()
  await expect(startKeptPostgres(options)).rejects.toThrow(
    /event_indexer_tables\.sql was edited since it was applied .* npm run dev -- --reset/s,
  )
})

test('a first start that was interrupted is made anew', async () => {
  const home = await openHome(await openableDirectory())
  await mkdir(home.postgres)
  await writeFile(join(home.postgres, 'PG_VERSION'), 'half of it')
  const { database, close } = await startKeptPostgres({ home, port: 0 })
  onTestFinished(close)
  expect(await rowsOf(database.url, 'select count(*)::int as events from events')).toEqual([{ events: 0 }])
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
    /^The local system cannot start: bundling the functions: Build failed with \d errors:\s+error: Could not resolve ".\/src\/nowhere\/handler"/,
  )
  await expect(new pg.Client(url).connect()).rejects.toThrow('does not exist')
})

test.each([
  ['Ctrl-C', 1],
  ['Ctrl-C twice', 2],
])('%s ends the system and leaves nothing behind', async (_what, times) => {
  const child = await startChild('hold-system.ts')
  const [ports] = (await once(child.process, 'message')) as [number[]]
  expect(await Promise.all(ports.map(answers))).toEqual(ports.map(() => true))
  const ended = once(child.process, 'exit')
  for (let sent = 0; sent < times; sent++) {
    child.signalGroup('SIGINT')
    await sleep(20)
  }
  const [code] = await ended
  expect(code).toBe(130)
  expect(await Promise.all(ports.map(answers))).toEqual(ports.map(() => false))
  await vi.waitFor(async () => expect(await child.leftovers()).toEqual([]), { timeout: 15_000 })
})
