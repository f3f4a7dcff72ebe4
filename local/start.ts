import { Command } from 'commander'
import { demonstrate } from './demo/demonstration.ts'
import { FilesError, readPortraits, readSearchPhotos } from './demo/files.ts'
import { bad, heading, say, sayStopping } from './demo/show.ts'
import { portraitsPerSecond } from './rekognition/faces-engine.ts'
import { closeOnSignals } from './shutdown.ts'
import { type LocalSystem, startLocalSystem } from './system.ts'

const { photos, find } = new Command('npm start --')
  .description(
    'Shows the main job on this machine: an event that is about to start, its attendees, and whom it then recognises.',
  )
  .option('--photos <folder>', 'portraits of your own, each named for its person')
  .option('--find <file...>', 'photos in which to look for them')
  .parse()
  .opts<{ photos?: string; find?: string[] }>()

let starting: Promise<LocalSystem> | undefined
const shutdown = closeOnSignals(async () => (await starting)?.close(), sayStopping)

/** @returns the exit code */
async function run(): Promise<number> {
  const began = performance.now()
  // Everything that is named is read before anything starts.
  const portraits = photos === undefined ? undefined : await readPortraits(photos)
  const search = find && (await readSearchPhotos(find))

  heading('Starting the system on this machine')
  starting = startLocalSystem({ engine: 'faces', tps: portraitsPerSecond })
  const system = await starting
  try {
    say(`Postgres, Supabase's REST API, SQS, S3, a Rekognition and the functions run after ${seconds(began)}`)
    const allGood = await demonstrate(system, { portraits, search })
    say('')
    say(`all of it took ${seconds(began)}; nothing is left running`)
    return allGood ? 0 : 1
  } finally {
    await system.close()
  }
}

const seconds = (since: number) => `${((performance.now() - since) / 1000).toFixed(1)} s`

try {
  process.exitCode = await run()
} catch (error) {
  if (shutdown.begun()) await new Promise(() => {}) // it failed because it was stopped, which ends the process
  if (!(error instanceof FilesError)) throw error
  console.error(`\n${bad('Nothing was started.')} ${error.message}`)
  process.exitCode = 1
}
