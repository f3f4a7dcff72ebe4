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
const system = await startLocalSystem({
  engine: 'faces',
  tps: 2, // what the face engine does on two cores
  schedules: true,
  onLog: (name, line) => appendFileSync(LOG, `${name} ${line}\n`),
})
// For the operator's commands, which find the running system by this.
writeFileSync(RUNNING, JSON.stringify({ pid: process.pid, environment: system.environment }, null, 2), {
  mode: 0o600,
})
closeOnSignals(async () => {
  rmSync(RUNNING, { force: true })
  await system.close()
})

const { database, gateway, aws, rekognition, environment } = system
heading('It runs until Ctrl-C. The scheduler comes every minute, and whenever the app changes something')
say(`Postgres      ${database.url}`)
say(`Supabase API  ${gateway.url}`)
say(`  service_role  ${gateway.serviceRoleKey}`)
say(`  anon          ${gateway.anonKey}`)
say(`SQS and S3    ${aws.endpoint}, any credentials; photos go to the bucket ${environment.S3_BUCKET_NAME}`)
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
  `upload the photo: AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local aws --endpoint-url ${aws.endpoint} s3 cp guest.jpg s3://${environment.S3_BUCKET_NAME}/photos/guest.jpg`,
)
say('follow it: npx event-indexer status --watch')
