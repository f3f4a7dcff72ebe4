import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Command, Option } from 'commander'
import { type Dashboard, startDashboard } from '../cli/dashboard/server.ts'
import { openSession } from '../cli/session.ts'
import { fill } from './demo/demonstration.ts'
import { bad, faint, good, heading, say, sayStopping } from './demo/show.ts'
import { type Feed, type Happening, startFeed } from './feed.ts'
import { openHome, reachableHome, removeHome } from './home.ts'
import { portraitsPerSecond } from './rekognition/faces-engine.ts'
import {
  claimClone,
  releaseClone,
  removeRunning,
  runningFile,
  runningOf,
  STATE_FOLDER,
  writeRunning,
} from './running.ts'
import { closeOnSignals } from './shutdown.ts'
import { type LocalSystem, startLocalSystem } from './system.ts'

/** Those of Supabase's own local stack and of LocalStack, where they are free. */
const PORTS = { gateway: 54321, postgres: 54322, nudge: 54329, aws: 4566, rekognition: 4567 }

const options = new Command('npm run dev --')
  .description('Runs the system on this machine until Ctrl-C. Its data is kept from one start to the next.')
  .addOption(
    new Option('--engine <engine>', 'synthetic: without the model, the bytes of a photo are the face')
      .choices(['faces', 'synthetic'])
      .default('faces'),
  )
  .option('--reset', 'begin with an empty database and bucket')
  .option('--demo', 'bring the people of the demonstration to an event that starts in ten minutes')
  .option(
    '--folder <folder>',
    'keep the data elsewhere than in .local, where the commands look',
    STATE_FOLDER,
  )
  .parse()
  .opts<{ engine: 'faces' | 'synthetic'; reset?: boolean; demo?: boolean; folder: string }>()

const LOG = join(options.folder, 'functions.log')

const here = (path: string) => relative('', path)

/** A line of a function that somebody in front of a terminal should see; undefined for all others. */
function warningIn(line: string): string | undefined {
  if (!/"level":"(WARN|ERROR|CRITICAL)"/.test(line)) return line.includes('Error') ? line : undefined
  try {
    const { level, message, error } = JSON.parse(line) as Record<string, unknown>
    const why = typeof error === 'object' && error ? (error as { message?: unknown }).message : error
    return `${String(level).toLowerCase()}: ${message}${why ? ` (${String(why).slice(0, 200)})` : ''}`
  } catch {
    return line
  }
}

function onLog(name: string, line: string): void {
  if (line.includes('No application metrics to publish')) return
  appendFileSync(LOG, `${name} ${line}\n`)
  const warning = warningIn(line)
  if (warning) happens(name, bad(warning.slice(0, 300)), '')
}

function happens(about: string, what: string, who: string): void {
  say(`${faint(new Date().toTimeString().slice(0, 8))}  ${about}  ${what}  ${who}`.trimEnd())
}

const paint = ({ what }: Happening) =>
  /^(indexed|completed)$/.test(what) ? good(what) : what === 'failed' ? bad(what) : what

async function run(): Promise<void> {
  const folder = await reachableHome(join(options.folder, 'data'))
  if (options.reset) await removeHome(folder)
  const home = await openHome(folder)
  mkdirSync(options.folder, { recursive: true })
  writeFileSync(LOG, '')

  heading('Starting the system on this machine')
  starting = startLocalSystem({
    engine: options.engine,
    tps: options.engine === 'faces' ? portraitsPerSecond : 100,
    schedules: true,
    home,
    ports: PORTS,
    onLog,
  })
  const system = await starting
  if (shutdown.begun()) return // it is being closed
  await writeRunning(runningOf(system, options.engine), options.folder)
  feed = await startFeed(system.database.url, (happening) =>
    happens(happening.event, paint(happening), happening.about),
  )

  // It finds this system by what was just written, whatever this shell names.
  const { system: found, ledger } = await openSession(
    undefined,
    { ...process.env, SUPABASE_URL: undefined },
    pathToFileURL(runningFile(options.folder)),
  )
  dashboard = await startDashboard({ system: found, ledger, readOnly: false })

  const { database, gateway, aws, rekognition } = system
  say(`the operator’s page, opened once: ${dashboard.link}`)
  say(`Postgres      ${database.url}`)
  say(`Supabase API  ${gateway.url}   secret key ${gateway.secretKey.slice(0, 14)}…`)
  say(`SQS and S3    ${aws.endpoint}   any credentials; bucket ${system.environment.S3_BUCKET_NAME}`)
  say(`Rekognition   ${rekognition.endpoint}`)
  say(`Nudge         ${system.nudgeUrl}`)
  say(`all of it, with the keys, for scripts: ${here(runningFile(options.folder))}`)
  say(`what the functions log: ${here(LOG)}`)
  say(`the data is kept in ${here(folder)}, until npm run dev -- --reset`)

  heading('In another terminal')
  say('npx event-indexer local event "Opening night" --in 10m')
  say('npx event-indexer local add "Ada" ada.jpg')
  say('npx event-indexer local find group.jpg')
  say('npx event-indexer status --watch')

  heading('What happens (Ctrl-C stops)')
  if (options.demo)
    say(`${await fill(system)} people of the demonstration come to “Opening night” in ten minutes`)
}

let starting: Promise<LocalSystem> | undefined
let feed: Feed | undefined
let dashboard: Dashboard | undefined

const other = await claimClone(options.folder)
if (other !== undefined) {
  console.error(
    `npm run dev is running in this clone already: process ${other}. Stop it there with Ctrl-C.\n` +
      `If process ${other} is something else, delete ${here(join(options.folder, 'dev.pid'))}.`,
  )
  process.exit(1)
}
const close = async () => {
  await removeRunning(options.folder)
  await dashboard?.close()
  await feed?.close()
  await (await starting?.catch(() => undefined))?.close()
  await releaseClone(options.folder)
}
const shutdown = closeOnSignals(close, sayStopping)
try {
  await run()
} catch (error) {
  if (shutdown.begun()) await new Promise(() => {}) // it failed because it was stopped, which ends the process
  console.error(`\n${bad((error as Error).message)}`)
  await close()
  process.exit(1)
}
