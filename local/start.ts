import { Command } from 'commander'
import { CastError } from './demo/cast.ts'
import { demonstrate } from './demo/demonstration.ts'
import { heading, say } from './demo/show.ts'
import { closeOnSignals } from './shutdown.ts'
import { startLocalSystem } from './system.ts'

const { photos, find } = new Command('npm start --')
  .description(
    'Shows the main job on this machine: an event that is about to start, its attendees, and whom it then recognises.',
  )
  .option('--photos <folder>', 'portraits of your own, .jpg or .png, each named for its person')
  .option('--find <file...>', 'photos in which to look for them')
  .parse()
  .opts<{ photos?: string; find?: string[] }>()

heading('Starting the system on this machine')
const began = performance.now()
const starting = startLocalSystem({ engine: 'faces', tps: 2 }) // what the face engine does on two cores
closeOnSignals(async () => (await starting).close())
const system = await starting
say(`Postgres, the REST gateway, SQS, S3, Rekognition and three functions are up after ${seconds(began)}`)

try {
  await demonstrate(system, { photos, find })
} catch (error) {
  if (!(error instanceof CastError)) throw error
  console.error(`\n${error.message}`)
  process.exitCode = 1
} finally {
  await system.close()
}

function seconds(since: number): string {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`
}
