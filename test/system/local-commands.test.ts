import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { expect, onTestFinished, test, vi } from 'vitest'
import { openLocal } from '../../local/commands.ts'
import { type Happening, startFeed } from '../../local/feed.ts'
import { claimClone, releaseClone, runningOf, writeRunning } from '../../local/running.ts'
import { freshSystem } from '../support/system.ts'

async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'event-indexer-local-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  return folder
}

/** The commands, on a system whose photos are the faces themselves; and a file with somebody's photo. */
async function openCommands() {
  const system = await freshSystem()
  const folder = await temporaryFolder()
  await writeRunning(runningOf(system, 'synthetic'), folder)
  const commands = await openLocal(folder)
  onTestFinished(commands.close)
  const photo = join(folder, 'ada.jpg')
  await writeFile(
    photo,
    await sharp({ create: { width: 200, height: 200, channels: 3, background: 'teal' } })
      .jpeg()
      .toBuffer(),
  )
  return { system, commands, photo, folder }
}

const idIn = ([line = '']: string[]) => line.split(' ')[0] ?? ''

test('an event, an attendee and a search, with the local commands alone', async () => {
  const { system, commands, photo } = await openCommands()
  const happened: Happening[] = []
  const feed = await startFeed(system.database.url, (happening) => happened.push(happening))
  onTestFinished(feed.close)
  const event = idIn(await commands.event('Opening night', 10))
  const user = idIn(await commands.add('Ada', photo))
  await expect(commands.find(photo)).rejects.toThrow('no collection yet')
  await vi.waitFor(async () => {
    await system.functions.invoke('scheduler', {})
    expect(await system.app.statusOf(event)).toBe('completed')
  }, 60_000)
  // A slow machine, where the engine throttles.
  let throttled = 0
  system.rekognition.setFaults(({ operation }) =>
    operation === 'SearchFacesByImage' && throttled++ < 4
      ? { type: 'error', strikes: 'before', error: 'ThrottlingException' }
      : undefined,
  )
  expect(await commands.find(photo)).toHaveLength(1)
  expect(throttled).toBe(5)
  expect(await commands.sql('select user_id, state from indexing.face_jobs')).toEqual([
    JSON.stringify({ user_id: user, state: 'indexed' }),
  ])
  const of = (what: string, about = '') => ({ event: 'Opening night', what, about })
  await vi.waitFor(() => expect(happened).toEqual([of('claimed'), of('indexed', 'Ada'), of('completed')]))
})

test('npm run dev runs once in a clone; one that was killed is in nobody’s way', async () => {
  const folder = await temporaryFolder()
  expect(await claimClone(folder)).toBeUndefined()
  expect(await claimClone(folder)).toBe(process.pid)
  await releaseClone(folder)
  await writeFile(join(folder, 'dev.pid'), '999999999')
  expect(await claimClone(folder)).toBeUndefined()
})

test('attendees come to the next event unless another is named', async () => {
  const { commands, photo } = await openCommands()
  await commands.event('Later', 600)
  const next = idIn(await commands.event('Next', 30))
  const [said] = await commands.add('Ada', photo)
  expect(said).toContain('Ada comes to Next, with consent')
  expect(await commands.sql('select event_id from public.event_consents')).toEqual([
    JSON.stringify({ event_id: next }),
  ])
})

test('what cannot be done is said, with what to do', async () => {
  const { commands, photo, folder } = await openCommands()
  await expect(commands.add('Ada', photo)).rejects.toThrow(
    'There is no event yet: event-indexer local event NAME',
  )
  await commands.event('Opening night', 10)
  await expect(commands.add('Ada', join(folder, 'nowhere.jpg'))).rejects.toThrow('no such file')
  await expect(commands.find(join(folder, 'nowhere.jpg'))).rejects.toThrow('there is no such file or folder')
  await expect(commands.find(photo, '11111111-1111-4111-8111-111111111111')).rejects.toThrow(
    'There is no event',
  )
  expect(await commands.sql('update profiles set full_name = null where false')).toEqual(['UPDATE 0'])
  await expect(commands.sql('select nothing')).rejects.toThrow('column "nothing" does not exist')
})

test('without a local system, it says how to start one', async () => {
  await expect(openLocal(await temporaryFolder())).rejects.toThrow('Start it with npm run dev')
})
