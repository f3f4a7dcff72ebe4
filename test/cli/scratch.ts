import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { it } from 'vitest'
import { openOperated } from '../support/operator.ts'

it('scratch', { timeout: 3_600_000 }, async () => {
  const s = await openOperated()
  const { app } = s
  const name = (e: string, n: string) => app.change(e, { name: `'${n}'` })
  const gala = await app.event({ startsAt: "now() + interval '19 min'" })
  await name(gala, 'Gala dinner')
  const users = await app.users(120)
  await app.consent(gala, users)
  for (const u of users.slice(0, 4)) await app.photo(u, null)
  await app.photo(users[5]!, 'https://old.example.org/x.jpg')
  await s.prepare()
  const messages = await s.sendAll()
  await s.work(messages.slice(12, 15), {
    outcome: 'failed',
    face_id: null,
    reason: 'photo_unreadable',
    error:
      'InvalidS3ObjectException: Unable to get object metadata from S3. Check object key, region and/or access permissions.',
  })
  await s.work(messages.slice(15, 17), {
    outcome: 'failed',
    face_id: null,
    reason: 'denied',
    error:
      'AccessDeniedException: User: arn:aws:sts::123:assumed-role/worker is not authorized to perform: rekognition:IndexFaces on resource: collection/memento_event_1 because no identity-based policy allows the action',
  })
  await s.work(messages.slice(17, 20), { outcome: 'skipped', face_id: null, reason: 'no_face' })
  await s.work([...messages.slice(0, 12), ...messages.slice(20)])
  const small = await app.event({ startsAt: "now() + interval '15 min'" })
  await name(small, 'Wine tasting')
  await app.consent(small, users.slice(20, 60))
  await s.prepare()
  await s.work(await s.sendAll())
  const big = await app.event({ startsAt: "now() + interval '12 min'" })
  await name(big, 'Stadium concert of the Rolling Pebbles')
  const many = await app.users(9000)
  await app.consent(big, many)
  await s.prepare()
  const page = await s.nextPage(300, 100000)
  await s.nextPage(0, 0, page.token)
  await s.work(page.jobs.slice(0, 250))
  await app.consent(small, users.slice(20, 23), false)
  await s.absorb()
  const later = await app.event({ startsAt: "now() + interval '3 h'" })
  await name(later, 'Poetry slam')
  await app.consent(later, users.slice(0, 12))
  const idle = await app.event({ startsAt: "now() + interval '9 min'", active: false })
  await name(idle, 'Jazz night')
  await s.keepDeadLetters([
    {
      message_id: '5f0c8d2e-6a54-4a2b-9a40-1d1c7d1f3b11',
      body: 'hello\u001b[31m world',
      attributes: {},
      problem: 'not a message of the event indexer: its body is not JSON',
    },
    {
      message_id: '6f0c8d2e-6a54-4a2b-9a40-1d1c7d1f3b12',
      body: JSON.stringify({ format: 2, event_id: gala, user_id: users[0], extra: 'x'.repeat(300) }),
      attributes: {},
      problem:
        'not a message of the event indexer: format: Invalid input: expected 1; version: Invalid input: expected number, received undefined',
    },
  ])
  await s.send(s.deadLetterQueueUrl, 'lying here')
  writeFileSync(
    '/tmp/cli-env.sh',
    Object.entries(s.environment)
      .map(([k, v]) => `export ${k}='${v}'`)
      .join('\n') + `\nexport GALA=${gala} SMALL=${small} BIG=${big} LATER=${later} IDLE=${idle}\n`,
  )
  writeFileSync('/tmp/cli-up', '')
  while (existsSync('/tmp/cli-up')) {
    await sleep(500)
    if (existsSync('/tmp/cli-worker')) {
      s.startWorker()
      rmSync('/tmp/cli-worker')
    }
  }
})
