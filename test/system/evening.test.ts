import { PutObjectCommand } from '@aws-sdk/client-s3'
import { SendMessageCommand } from '@aws-sdk/client-sqs'
import pg from 'pg'
import type { Page } from 'playwright-core'
import { expect, it, onTestFinished, type TestContext, vi } from 'vitest'
import { type App, type NewAttendee, photoKey } from '../../local/app.ts'
import type { LocalSystem } from '../../local/system.ts'
import { openBrowser } from '../support/browser.ts'
import { startCli } from '../support/operator.ts'
import { freshSystem } from '../support/system.ts'

// 18:40, doors at 19:00, and seven things are wrong at once. Each concerns two events: one is put right with the command line alone,
// the other with the page alone.

type Trouble = 'bucket' | 'silence' | 'photos' | 'pause' | 'triggers' | 'lock'

/** Two events with one trouble. */
interface Twins {
  byCommand: string
  byPage: string
}

const PEOPLE = 6
const A_THIRD = 2

it('seven troubles of one evening are found, explained and put right, with the command line alone and with the page alone', async (context) => {
  const evening = await openEvening(context)
  const { bothGo, cli, complaints, databaseUrl, letters, mend, page, people, rekognition, twins } = evening

  // At a glance.
  const overview = await cli('status')
  const need = await page.textOf('/', '[id=concerns]')
  for (const seen of [overview, need]) {
    expect(seen).toMatch(/FAILED .*6 attendees: Rekognition cannot read the photo from the bucket/)
    expect(seen).toMatch(
      /STUCK .*2 attendees wait, and none had an outcome for \d min. The error of most: Rekognition did not answer/,
    )
    expect(seen).toMatch(/SKIPPED .*2 of 6 attendees: the photo is not in the bucket. Nobody recognises them/)
    expect(seen).toMatch(/PAUSED .*an operator has paused it; 6 attendees wait, erasures go on/)
    expect(seen).toMatch(
      /WAITS .*(starts in|started) \d+ (s|min) (ago )?and cannot be claimed: a transaction of the app holds its row locked \(process \d+ of the database, role \w+, open for \d+ (s|min)\)/,
    )
    expect(seen).toMatch(/LETTERS .*2 messages of the dead-letter queue were not sent by this system/)
  }
  const [doctor, examined] = [await cli('doctor'), await page.textOf('/doctor', 'main')]
  for (const seen of [doctor, examined]) expect(seen).toMatch(/problem ?triggers ?Disabled: /)

  // The photos cannot be read.
  {
    const { byCommand, byPage } = twins.bucket
    const told = await cli('status', '--event', byCommand)
    await page.open(`/events/${byPage}`)
    for (const seen of [told, await page.text()]) {
      expect(seen).toContain('6 × Rekognition cannot read the photo from the bucket (photo_unreadable)')
      expect(seen).toContain("The worker's role lacks s3:GetObject or the key of an encrypted bucket")
    }
    mend.rekognition('bucket')
    expect(await cli('replay', '--event', byCommand)).toContain('6 attendees of 1 event queued again.')
    await page.press('Replay who failed …', '6 attendees of 1 event would be tried again:', 'Replay')
    expect(await page.said()).toContain('6 attendees of 1 event queued again. 6 messages sent to the workers')
    await bothGo(twins.bucket, '6 attendees indexed')
  }

  // Rekognition leaves calls without an answer.
  {
    const { byCommand, byPage } = twins.silence
    const told = await cli('status', '--event', byCommand)
    await page.open(`/events/${byPage}`)
    for (const seen of [told, await page.text()]) {
      expect(seen).toMatch(/STUCK 2 attendees wait/)
      expect(seen).toMatch(/2 × Rekognition did not answer: /)
      expect(seen).toContain('They are tried again by themselves, at the latest after six minutes.')
    }
    mend.rekognition('silence') // and they are, see the end
  }

  // A third of the photos is not there.
  {
    const { byCommand, byPage } = twins.photos
    const told = await cli('status', '--event', byCommand)
    await page.open(`/events/${byPage}`)
    for (const seen of [told, await page.text()]) {
      expect(seen).toContain('2 × the photo is not in the bucket (photo_missing)')
      expect(seen).toContain('Many attendees: is S3_BUCKET_NAME the bucket of the app?')
      expect(seen).toContain('Tell them: “Your profile photo did not arrive. Upload it again.”')
    }
    await mend.photos()
    await cli('replay', '--event', byCommand, '--reason', 'photo_missing')
    await page.press('Try them again …', '2 attendees of 1 event would be tried again:', 'Replay')
    await bothGo(twins.photos, '6 attendees indexed')
  }

  // Somebody has paused the event, and has forgotten it.
  {
    const { byCommand, byPage } = twins.pause
    await page.open(`/events/${byPage}`)
    expect(await cli('log', '--event', byCommand)).toMatch(/: pause, event/)
    expect(await page.textOf(`/events/${byPage}`, '[id=log]')).toMatch(/ago \S+@\S+ ?pause/)
    expect(await cli('resume', '--event', byCommand)).toContain('6 messages sent to the workers.')
    await page.press('Resume …', '6 attendees of 1 event without an outcome at this moment.', 'Resume')
    expect(await page.said()).toContain('The event is not paused any more. 6 messages sent to the workers.')
    await bothGo(twins.pause, '6 attendees indexed')
  }

  // The app holds the row of an event that is about to start.
  {
    const { byCommand, byPage } = twins.lock
    const because = /NO GO .*a transaction of the app holds its row locked/
    const refused = await cli('check', '--event', byCommand)
    const shown = await page.textOf(`/events/${byPage}`, '[id=head]')
    for (const seen of [refused, shown]) {
      expect(seen).toMatch(because)
      await mend.sql(seen.match(/select pg_terminate_backend\(\d+\)/)?.[0] ?? '')
    }
    await mend.run()
    await bothGo(twins.lock, '6 attendees indexed')
  }

  // Triggers are disabled, so that a revocation and a consent went unnoticed. They are made anew once nobody holds the app's tables.
  {
    const { byCommand, byPage } = twins.triggers
    for (const seen of [doctor, examined]) expect(seen).toContain('npx event-indexer migrate --again.')
    expect(await cli('migrate', '--again', '--database-url', databaseUrl)).toContain(
      'All functions and triggers are written anew.',
    )
    const extra = '1 attendee with a face who should have none'
    const unnoticed = '1 attendee whose consent or photo has changed, which the ledger did not know'
    const repaired = await cli('audit', '--event', byCommand, '--repair')
    for (const words of [extra, unnoticed].map((line) => line.slice(2))) expect(repaired).toContain(words)
    expect(repaired).toContain('Repaired: 1 collection.')

    await page.open(`/events/${byPage}`)
    await page.press('Compare the collection …', '6 of them known', 'Compare')
    expect(await page.text()).toContain('The collection differs. Repair it?')
    for (const words of [extra, unnoticed]) expect(await page.text()).toContain(words)
    await page.click('Repair')
    expect(await page.said()).toContain('Repairing:')
    await bothGo(twins.triggers, '6 attendees indexed')
    for (const event of [byCommand, byPage]) {
      const [revoking, newcomer, ...others] = people[event] ?? []
      const faces = rekognition.collection(`memento_event_${event}`)?.map((face) => face.externalImageId)
      expect(faces?.toSorted()).toEqual([newcomer, ...others].toSorted())
      expect(faces).not.toContain(revoking)
    }
    // What was found is remembered.
    for (const seen of [repaired, await page.textOf(`/events/${byPage}`, 'main')]) {
      expect(seen).toMatch(/found by reconcile/i)
      expect(seen).toContain(`ago: ${extra}; ${unnoticed}`)
    }
  }

  // Messages that are not ours.
  {
    const [first = '', second = ''] = letters
    const listed = await cli('dead-letters')
    await page.open('/dead-letters')
    for (const seen of [listed, await page.text()]) {
      expect(seen).toContain('2 messages, the latest first')
      expect(seen).toContain(first)
    }
    expect(await cli('dead-letters', '--acknowledge', first)).toContain('1 message acknowledged')
    await page.open('/dead-letters')
    await page.press('Acknowledge …', `1 message (${second}) would be listed no more`, 'Acknowledge')
    expect(await page.said()).toBe('1 message acknowledged.')
  }

  await bothGo(twins.silence, '6 attendees indexed')
  const calm = 'All done: 12 events.'
  expect(await cli('status')).toContain(calm)
  expect(await page.textOf('/', '[id=concerns]')).toBe('Nothing needs you.')
  expect(await page.textOf('/doctor', 'main')).toContain('No problem found.')
  expect(complaints).toEqual([])
}, 180_000)

/** The local system with all the troubles, the command line as a process, and its page in a browser. */
async function openEvening(context: TestContext) {
  const { complaints, page: tab } = await openBrowser(context)
  const faults = { bucket: true, silence: true }
  const unanswered = new Set<string>()
  const system = await freshSystem({
    tps: 1000,
    photoEvents: false,
    change: ({ functions }) => {
      for (const { environment } of functions) environment.MAX_RECEIVE_COUNT = '1' // no backoff
    },
  })
  const { app, aws, functions, rekognition } = system
  const owner = new pg.Pool({ connectionString: system.database.url })
  onTestFinished(() => owner.end())
  const environment: Record<string, string> = { ...system.environment, MAX_RECEIVE_COUNT: '5' } // as the queues have it
  const cli = async (...args: string[]) => {
    const { error, out } = await startCli(args, environment).ended
    expect(error.replace(/^Waiting for .*\n/gm, '')).toBe('')
    return out.replaceAll(/\s+/g, ' ') // its lines are broken where a terminal ends
  }

  const twins = await createTwins(app)
  const unreadable = both(twins.bucket).map((event) => `memento_event_${event}`)
  rekognition.setFaults((call) => {
    if (call.operation !== 'IndexFaces') return undefined
    if (faults.bucket && unreadable.includes(call.input.CollectionId))
      return { type: 'error', strikes: 'before', error: 'InvalidS3ObjectException' }
    if (faults.silence && unanswered.has(call.input.ExternalImageId ?? ''))
      return { type: 'drop', strikes: 'before' }
    return undefined
  })
  const people = await bringPeople(app, twins)
  for (const event of both(twins.silence))
    for (const user of people[event]?.slice(0, A_THIRD) ?? []) unanswered.add(user)
  await Promise.all(both(twins.pause).map((event) => cli('pause', '--event', event)))
  for (const event of both(twins.lock)) await holdRow(system.database.url, event)
  const dashboard = startCli(['dashboard'], environment)
  onTestFinished(async () => {
    dashboard.pressCtrlC()
    await dashboard.ended
  })
  const letters = await sendStrangeMessages(aws)

  await functions.invoke('scheduler', {})
  const until = (event: string, status: string) =>
    vi.waitFor(async () => expect(await app.statusOf(event)).toBe(status), { timeout: 60_000, interval: 200 })
  for (const event of [...both(twins.photos), ...both(twins.triggers)]) await until(event, 'completed')
  for (const event of both(twins.bucket)) await until(event, 'failed')
  for (const event of both(twins.triggers)) {
    const [revoking, newcomer] = people[event] ?? []
    await owner.query('alter table event_consents disable trigger user')
    await owner.query(
      'update event_consents set allow_recognition = user_id = $2 where user_id = any (array[$1, $2]::uuid[])',
      [revoking, newcomer],
    )
  }
  for (const event of both(twins.silence)) await minutesPass(owner, event)
  await vi.waitFor(async () =>
    expect((await owner.query('select from indexing.dead_letters')).rowCount).toBe(letters.length),
  )
  await vi.waitFor(() => expect(dashboard.output()).toMatch(LINK), 20_000)
  const link = dashboard.output().match(LINK)?.[0] ?? ''
  await tab.goto(link)
  const page = pageOf(tab, link)

  return {
    cli,
    complaints,
    databaseUrl: system.database.url,
    letters,
    page,
    people,
    rekognition,
    twins,
    mend: {
      rekognition: (trouble: keyof typeof faults) => Object.assign(faults, { [trouble]: false }),
      photos: async () => {
        for (const event of both(twins.photos))
          for (const user of people[event]?.slice(0, A_THIRD) ?? [])
            await aws.s3.send(
              new PutObjectCommand({
                Bucket: environment.S3_BUCKET_NAME,
                Key: photoKey(user),
                Body: `the face of ${user}`,
              }),
            )
      },
      sql: (statement: string) => owner.query(statement),
      run: () => functions.invoke('scheduler', {}),
    },
    /** Waits until both events may open, by the command for one of them and by the page for the other. */
    async bothGo({ byCommand, byPage }: Twins, counts: string) {
      for (const event of [byCommand, byPage])
        await vi.waitFor(
          async () => {
            expect(await app.statusOf(event)).toBe('completed')
            expect((await owner.query(OPEN_JOBS, [event])).rowCount).toBe(0)
          },
          { timeout: 60_000, interval: 200 },
        )
      expect(await cli('check', '--event', byCommand)).toMatch(new RegExp(`^GO .*: ${counts}\\. $`))
      expect(await page.textOf(`/events/${byPage}`, '.verdict')).toBe(`GO ${counts}.`)
    },
  }
}

const LINK = /http:\S+\/open\/\S+/
const OPEN_JOBS = 'select from indexing.face_jobs where event_id = $1 and ended_at is null'
const both = ({ byCommand, byPage }: Twins) => [byCommand, byPage]

const MINUTES: Record<Trouble, number> = {
  lock: 1,
  silence: 5, // the soonest of those that can be claimed: nothing is ahead of it
  bucket: 15,
  photos: 15,
  pause: 15,
  triggers: 15,
}

async function createTwins(app: App): Promise<Record<Trouble, Twins>> {
  const twins: [string, Twins][] = []
  for (const [trouble, minutes] of Object.entries(MINUTES)) {
    const create = (by: string) =>
      app.createEvent({ name: `${trouble}, by ${by}`, startsAt: new Date(Date.now() + minutes * 60_000) })
    twins.push([trouble, { byCommand: await create('command'), byPage: await create('page') }])
  }
  return Object.fromEntries(twins) as Record<Trouble, Twins>
}

/** Six people for each event. Returns who comes to which. */
async function bringPeople(app: App, twins: Record<Trouble, Twins>): Promise<Record<string, string[]>> {
  const people: Record<string, string[]> = {}
  for (const [trouble, events] of Object.entries(twins))
    for (const event of both(events)) {
      const attendees: NewAttendee[] = Array.from({ length: PEOPLE }, (_, n) =>
        trouble === 'photos' && n < A_THIRD
          ? { name: `${n}`, photoIsMissing: true }
          : { name: `${n}`, photo: `${event} ${n}` },
      )
      if (trouble === 'triggers') attendees.splice(1, 0, { name: 'late', photo: event, consents: false })
      people[event] = await app.addAttendees(event, attendees)
    }
  return people
}

/** A transaction of the app that has not ended: somebody's forgotten terminal. */
async function holdRow(url: string, event: string): Promise<void> {
  const client = new pg.Client(url)
  client.on('error', () => {}) // it is ended from outside
  await client.connect()
  onTestFinished(() => client.end().catch(() => {}))
  await client.query('begin')
  await client.query('update events set name = name where event_id = $1', [event])
}

async function sendStrangeMessages({ queueUrls, sqs }: LocalSystem['aws']): Promise<string[]> {
  const send = async (MessageBody: string) =>
    (await sqs.send(new SendMessageCommand({ QueueUrl: queueUrls.get('DeadLetterQueue'), MessageBody })))
      .MessageId ?? ''
  return [await send('{"order": 7}'), await send('hello?')]
}

/** As if the event had been claimed three minutes earlier. */
async function minutesPass(owner: pg.Pool, event: string): Promise<void> {
  await owner.query(
    `update indexing.face_jobs set queued_at = queued_at - interval '3 min', ended_at = ended_at - interval '3 min' where event_id = $1`,
    [event],
  )
  await owner.query(
    `update indexing.event_runs set claimed_at = claimed_at - interval '3 min' where event_id = $1`,
    [event],
  )
}

/** The page as somebody uses it: they read its text and press its buttons. */
function pageOf(tab: Page, link: string) {
  const { origin } = new URL(link)
  const textIn = async (selector: string) =>
    (await tab.locator(selector).innerText()).replaceAll(/\s+/g, ' ').trim()
  return {
    open: (path: string) => tab.goto(origin + path),
    text: () => textIn('main'),
    async textOf(path: string, selector: string) {
      await tab.goto(origin + path)
      return textIn(selector)
    },
    /** Presses a button, reads the question, and says yes. */
    async press(button: string, question: string, yes: string) {
      await tab.getByRole('link', { name: button }).first().click()
      await tab.getByText(question).waitFor()
      await tab.getByRole('button', { name: yes, exact: true }).click()
    },
    click: (button: string) => tab.getByRole('button', { name: button, exact: true }).click(),
    /** What the page says was done. */
    said: () => textIn('.said'),
  }
}
