import { appendFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { heading, say } from './demo/show.ts'
import { closeOnSignals } from './shutdown.ts'
import { startLocalSystem } from './system.ts'

const STATE = new URL('../.local/', import.meta.url)
const RUNNING = new URL('running.json', STATE)
const LOG = new URL('functions.log', STATE)

mkdirSync(STATE, { recursive: true })
writeFileSync(LOG, '')

heading('Starting the system on this machine')
const starting = startLocalSystem({
  engine: 'faces',
  tps: 2, // what the face engine does on two cores
  schedules: true,
  onLog: (name, line) => appendFileSync(LOG, `${name} ${line}\n`),
})
closeOnSignals(async () => {
  rmSync(RUNNING, { force: true })
  await (await starting).close()
})
const system = await starting
// For the operator's commands, which find the running system by this.
const environment = {
  ...system.environment,
  DEAD_LETTER_QUEUE_URL: system.aws.queueUrls.get('DeadLetterQueue'),
}
writeFileSync(RUNNING, JSON.stringify({ pid: process.pid, environment }, null, 2), { mode: 0o600 })

const { database, gateway, aws, rekognition } = system
heading('It runs until Ctrl-C. The scheduler comes every minute, and whenever the app changes something')
say(`Postgres      ${database.url}`)
say(`Supabase API  ${gateway.url}`)
say(`  service_role  ${gateway.serviceRoleKey}`)
say(`  anon          ${gateway.anonKey}`)
say(
  `SQS and S3    ${aws.endpoint}, any credentials; photos go to the bucket ${system.environment.S3_BUCKET_NAME}`,
)
say(`Rekognition   ${rekognition.endpoint}`)
say(`Log           ${fileURLToPath(LOG)}`)

heading('An event of your own')
say(`psql '${database.url}'`)
say(
  "  insert into events (name, starts_at) values ('Opening night', now() + interval '10 minutes') returning event_id;",
)
say("  insert into auth.users (email) values ('guest@example.org') returning id;")
say("  insert into profiles (user_id, full_name, photo_path) values ('…id…', 'A guest', 'photos/guest.jpg');")
say(
  "  insert into event_consents (event_id, user_id, allow_recognition) values ('…event_id…', '…id…', true);",
)
say(
  `upload the photo: curl -T guest.jpg ${aws.endpoint}/${system.environment.S3_BUCKET_NAME}/photos/guest.jpg`,
)
say('follow it: npx event-indexer status --watch')
