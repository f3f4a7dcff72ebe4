import { describe, expect, it, vi } from 'vitest'
import { type StatusDocument, status } from '../../cli/commands/status.ts'
import { connectLedger } from '../../cli/ledger.ts'
import { type ClaimedEvent, lookAt, lookAtDetails } from '../../cli/status.ts'
import { failedWith, only } from '../support/ledger.ts'
import { openOperated } from '../support/operator.ts'

const UNREADABLE = failedWith(
  'InvalidS3ObjectException: Unable to get object metadata from S3',
  'photo_unreadable',
)

/** An event that has ended: two attendees indexed, one without a photo, one whose photo could not be read. */
async function endedEvent() {
  const system = await openOperated()
  const { app, exhaust, prepare, sendAll } = system
  const event = await app.event()
  await app.change(event, { name: "'Gala dinner'" })
  const users = await app.users(4)
  const [photoless = ''] = users
  await app.photo(photoless, null)
  await app.consent(event, users)
  await prepare()
  const messages = (await sendAll()).sort((a, b) => a.user_id.localeCompare(b.user_id))
  await exhaust(messages.slice(0, 3))
  await exhaust(messages.slice(3), UNREADABLE)
  const [, , , unreadable = ''] = users
  return { ...system, event, photoless, unreadable }
}

const documentOf = ({ out }: { out: string }) => JSON.parse(out) as StatusDocument

describe('status', () => {
  it('lists all events, those that need action first', async () => {
    const { app, event, start } = await endedEvent()
    const later = await app.event({ startsAt: "now() + interval '3 h'" })
    const { code, out, error } = await start(['status']).ended
    expect(error).toBe('')
    expect(code).toBe(0)
    const lines = out.split('\n')
    expect(lines[2]).toBe(
      'FAILED  Gala dinner: 1 attendee: Rekognition cannot read the photo from the bucket. Why:',
    )
    expect(lines[3]?.trim()).toBe(`npx event-indexer status --event ${event}`)
    expect(out).toMatch(/EVENT +START +STATUS +INDEXED +SKIPPED +FAILED +OPEN\n/)
    expect(out).toMatch(/\nGala dinner +\d\d:\d\d +failed +2 +1 +1 +0\n/)
    expect(out).toMatch(/\nA concert +\d\d:\d\d +pending\n/)
    expect(out).toContain(`${later} · in 3 h · 0 consent`)
  })

  it('lists for one event who failed and why, and what to tell attendees without a usable photo', async () => {
    const { event, photoless, start, unreadable } = await endedEvent()
    const { code, out } = await start(['status', '--event', event.toUpperCase()]).ended
    expect(code).toBe(0)
    expect(out).toMatch(/Status +failed, ended \d\d:\d\d/)
    expect(out).toMatch(/Done +.* 100 %\n +Indexed +2\n/)
    expect(out).toContain('1 × Rekognition cannot read the photo from the bucket (photo_unreadable)')
    expect(out).toContain('InvalidS3ObjectException: Unable to get object metadata from S3')
    expect(out).toContain(`${unreadable}  1 attempt\n`)
    expect(out).toContain(`npx event-indexer replay --event ${event}`)
    expect(out).toContain('Tell them: “Your profile has no photo. Add one that shows your face.”')
    expect(out).toContain(photoless)
  })

  it('prints for scripts what --help says of it', async () => {
    const { app, event, gateway, photoless, run, startRun, unreadable } = await endedEvent()
    await startRun(5)
    await app.event({ startsAt: "now() + interval '3 h'" })
    const all = documentOf(await run(status, { json: true }))
    expect(all).toMatchObject({
      system: 'the environment',
      url: gateway.url,
      index_faces_tps: 5,
      index_faces_rate: 5,
    })
    expect(all.events).toMatchObject([
      {
        event_id: event,
        name: 'Gala dinner',
        status: 'failed',
        state: 'failed',
        attendees: { indexed: 2, skipped: 1, failed: 1, erased: 0, queued: 0, in_flight: 0 },
        skipped: { no_photo: 1 },
        failed: { photo_unreadable: 1 },
        index_calls: 3,
        oldest_open: null,
        ready_at: null,
        late: false,
        collection: 'ready',
        collection_error: null,
        reason: null,
      },
      { state: 'unclaimed', status: 'pending', active: true, attendees: 0 },
    ])
    expect(all.events[0]).not.toHaveProperty('failures')

    const [one] = documentOf(await run(status, { event, json: true })).events
    expect(one).toMatchObject({
      failures: [{ user_id: unreadable, reason: 'photo_unreadable', error: UNREADABLE.error, attempts: 1 }],
      skips: [
        {
          user_id: photoless,
          reason: 'no_photo',
          photo_key: null,
          to_attendee: 'Your profile has no photo. Add one that shows your face.',
        },
      ],
    })
  })

  it('is loud about an event that will be late', async () => {
    const { app, prepare, run, startRun } = await openOperated()
    const event = await app.event()
    await app.consent(event, await app.users(61))
    await prepare()
    await startRun(0.1)
    const { out } = await run(status, {}) // ten minutes to the start, and 10 s for each
    expect(out).toMatch(
      /^LATE {4}A concert: ready at \d\d:\d\d, \d+ s after its start, at the present pace; \d+ attendees? will be\s+missing then\. If the account's quota/m,
    )
    expect(out).toMatch(/in 10 min · ready \d\d:\d\d, \d+ s LATE$/m)
    await startRun(1)
    const { events } = documentOf(await run(status, { json: true }))
    expect(events).toMatchObject([{ late: false, attendees: { queued: 61 } }])
  })

  it('expects the end at the quota that the scheduler goes by', async () => {
    const { app, prepare, run, startRun } = await openOperated()
    await startRun(50)
    const event = await app.event()
    await app.consent(event, await app.users(100))
    await prepare()
    const before = Date.now()
    const { events, ...pace } = documentOf(await run(status, { json: true }))
    const ready = Date.parse((only(events) as ClaimedEvent).ready_at ?? '')
    expect(pace).toMatchObject({ index_faces_tps: 50, index_faces_rate: 50 })
    expect(ready).toBeGreaterThanOrEqual(before + 2_000)
    expect(ready).toBeLessThanOrEqual(Date.now() + 2_000)
  })

  it('says which pace the estimate assumes, and which was measured', async () => {
    const { app, owner, prepare, run, sendAll, startRun, work } = await openOperated()
    await startRun(50)
    const event = await app.event()
    await app.consent(event, await app.users(13))
    await prepare()
    const [, ...messages] = await sendAll()
    await work(messages)
    const says = async () => (await run(status, {})).out.replaceAll(/\s+/g, ' ')
    await owner.query("update indexing.event_runs set claimed_at = clock_timestamp() - interval '8 s'")
    expect(await says()).toMatch(
      /assumes 50 IndexFaces calls a second \(the scheduler's quota\). Measured: 12 attendees in the last \d+ s \(1(\.\d)? a second\)\./,
    )
    await owner.query("update indexing.event_runs set claimed_at = clock_timestamp() - interval '5 min'")
    await owner.query('update indexing.pace set rate = 10, rate_since = clock_timestamp()')
    expect(await says()).toMatch(
      /assumes 1\d(\.\d)? IndexFaces calls a second \(Rekognition has throttled; the scheduler's quota is 50\)/,
    )
    const { index_faces_tps, index_faces_rate } = documentOf(await run(status, { json: true }))
    expect(index_faces_tps).toBe(50)
    expect(index_faces_rate).toBeLessThan(20)
    expect((await run(status, { event })).out).toMatch(
      /Ended +12 attendees in the last two minutes \(0\.1 a second\)/,
    )
  })

  it('shows those who are tried again by the error of their last attempt', async () => {
    const { app, event, prepare, run, sendAll, work } = await endedEvent()
    await app.consent(event, await app.users(4))
    await prepare()
    const messages = await sendAll()
    const [hidden, ...rest] = [
      failedWith('ThrottlingException: \u001b[2Jslow down'),
      failedWith('Rekognition did not answer'),
    ]
    await work(messages.slice(0, 1), hidden)
    await work(messages.slice(1, 3), rest[0])
    const { out } = await run(status, { event })
    expect(out).toContain(
      'TRIED AGAIN 3\n  2 × Rekognition did not answer\n  1 × ThrottlingException:  [2Jslow down\n',
    )
    expect(only(documentOf(await run(status, { event, json: true })).events)).toMatchObject({
      open: { 'Rekognition did not answer': 2, 'ThrottlingException: \u001b[2Jslow down': 1, '': 1 },
    })
  })

  it('reports an event as STUCK when attendees wait and none had an outcome for two minutes', async () => {
    const { app, owner, prepare, run, sendAll, work } = await openOperated()
    const event = await app.event()
    const next = await app.event({ startsAt: "now() + interval '15 min'" })
    await app.change(next, { name: "'The next one'" })
    await app.consent(event, await app.users(3))
    await app.consent(next, await app.users(1))
    await prepare()
    await work((await sendAll()).slice(0, 1), failedWith('AccessDeniedException: no', 'denied'))
    expect((await run(status, {})).out).not.toContain('STUCK')
    await owner.query(`update indexing.face_jobs set queued_at = now() - interval '3 min'`)
    await owner.query(`update indexing.event_runs set claimed_at = now() - interval '3 min'`)
    const { out } = await run(status, {})
    expect(out.replaceAll(/\s+/g, ' ')).toContain(
      `STUCK A concert: 3 attendees wait, and none had an outcome for 3 min. The error of most: AccessDeniedException: no npx event-indexer status --event ${event}`,
    )
    expect(out).not.toContain('STUCK   The next one') // its turn comes later
  })

  it('is calm when nothing needs anybody', async () => {
    const { app, indexAll, run } = await openOperated()
    const event = await app.event()
    await app.consent(event, await app.users(2))
    await indexAll()
    expect((await run(status, {})).out).toContain('\nAll done: 1 event.\n')
  })

  it('says when there is nothing to see', async () => {
    const { app, run } = await openOperated()
    await app.event({ startsAt: "now() - interval '2 days'", status: 'completed' })
    const { code, out } = await run(status, {})
    expect(code).toBe(0)
    expect(out).toContain('No event is in progress')
  })

  it('says what keeps an event from being claimed', async () => {
    const { app, run } = await openOperated()
    const inactive = await app.event({ startsAt: "now() + interval '5 min'", active: false })
    const missed = await app.event({ startsAt: "now() + interval '4 min'" })
    await app.change(inactive, { name: "'Jazz night'" })
    await app.change(missed, { name: "'Poetry slam'" })
    const { out } = await run(status, {})
    expect(out).toContain('WAITS   Jazz night: starts in 5 min and is not active: nobody is indexed.')
    expect(out).toContain('WAITS   Poetry slam: starts in 4 min and is not claimed yet.')
    expect((await run(status, { event: missed })).out).toMatch(/Status +pending, not claimed/)
  })

  it('says why a collection cannot be made, and that the event can be replayed once that has failed', async () => {
    const { app, claim, collectionsDone, owner, rescue, run } = await openOperated()
    const event = await app.event()
    await claim()
    const failed = { event_id: event, result: 'failed', error: 'AccessDeniedException: no' } as const
    await collectionsDone([failed])
    expect((await run(status, {})).out).toContain(
      'STUCK   A concert: its collection could not be made yet. AccessDeniedException: no',
    )
    for (let attempt = 2; attempt <= 10; attempt++) await collectionsDone([failed])
    await rescue()
    expect((await owner.query('select state from indexing.event_runs')).rows).toEqual([{ state: 'failed' }])
    const { out } = await run(status, { event })
    expect(out).toContain('FAILED  its collection could not be made. AccessDeniedException: no')
    expect(out).toContain(`npx event-indexer replay --event ${event}`)
  })

  it('shows no control characters of others', async () => {
    const { app, run } = await openOperated()
    const event = await app.event()
    const hostile = '\u001b[2J\u009b2J\u007f\u061c\u202ereversed\u2066'
    await app.change(event, { name: `'${hostile}'` })
    // Control and format characters, and separators of lines and paragraphs; not the line feed.
    const controls = /(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u
    for (const options of [{}, { json: true }, { event }, { event, json: true }])
      expect((await run(status, options)).out).not.toMatch(controls)
    expect(only(documentOf(await run(status, { json: true })).events).name).toBe(hostile)
  })

  it('suggests commands that lead to the same stage', async () => {
    const { event, run } = await endedEvent()
    const { out } = await run(status, {}, { stage: 'test' })
    expect(out).toContain('stage test · ')
    expect(out).toContain(`npx event-indexer status --stage test --event ${event}`)
  })
})

describe('status --watch', () => {
  it('says what changes until Ctrl-C, which ends it well', async () => {
    const { app, event, start } = await endedEvent()
    const watching = start(['status', '--watch'])
    await vi.waitFor(() => expect(watching.output()).toContain('Gala dinner: failed, 2 indexed'), 20_000)
    await app.change(event, { name: "'Gala breakfast'" })
    await vi.waitFor(() => expect(watching.output()).toContain('Gala breakfast: failed, 2 indexed'), 20_000)
    watching.pressCtrlC()
    const { code, error, out } = await watching.ended
    expect({ code, error }).toEqual({ code: 0, error: '' })
    expect(out.match(/Gala dinner/g)).toHaveLength(1)
  })

  it('prints an object a line for scripts', async () => {
    const { start } = await endedEvent()
    const watching = start(['status', '--watch', '--json'])
    await vi.waitFor(() => expect(watching.output().split('\n').length).toBeGreaterThan(2), 20_000)
    watching.pressCtrlC()
    const lines = (await watching.ended).out.trim().split('\n')
    expect(lines.map((line) => documentOf({ out: line }).events.length)).toEqual(lines.map(() => 1))
  })

  it('outlives a database that is away for a while', async () => {
    const { app, event, gateway, start } = await endedEvent()
    const watching = start(['status', '--watch', '--event', event])
    await vi.waitFor(() => expect(watching.output()).toContain('Gala dinner'), 20_000)
    gateway.setFaults(() => ({ status: 503 }))
    await vi.waitFor(() => expect(watching.output()).toContain('No answer from the database'), 20_000)
    gateway.setFaults(undefined)
    await app.change(event, { name: "'Gala breakfast'" })
    await vi.waitFor(() => expect(watching.output()).toContain('Gala breakfast'), 20_000)
    watching.pressCtrlC()
    expect((await watching.ended).code).toBe(0)
  })
})

describe('what status rests on', () => {
  it('is whole for an event of more than a thousand failures', async () => {
    const { app, gateway, indexAll } = await openOperated()
    const event = await app.event()
    await app.consent(event, await app.users(2_100))
    await indexAll(UNREADABLE)
    const ledger = connectLedger(gateway.url, async () => gateway.serviceRoleKey)
    expect(only((await lookAt(ledger, null)).events)).toMatchObject({ attendees: { failed: 2_100 } })
    const { failures } = await lookAtDetails(ledger, event)
    expect(new Set(failures.map(({ user_id }) => user_id)).size).toBe(2_100)
  })

  it('orders events by their start, claimed or not', async () => {
    const { app, gateway, prepare } = await openOperated()
    const unclaimed = await app.event({ startsAt: "now() + interval '1 h'" })
    const soon = await app.event({ startsAt: "now() + interval '1 min'" })
    const past = await app.event({ startsAt: "now() - interval '1 min'" })
    await prepare()
    const ledger = connectLedger(gateway.url, async () => gateway.serviceRoleKey)
    const { events } = await lookAt(ledger, null)
    expect(events.map(({ event_id }) => event_id)).toEqual([past, soon, unclaimed])
  })

  it('leaves out what is long past, and what nobody waits for', async () => {
    const { app, gateway } = await openOperated()
    await app.event({ startsAt: "now() + interval '25 h'" })
    await app.event({ startsAt: "now() - interval '25 h'" })
    await app.event({ startsAt: "now() - interval '1 h'", active: false })
    await app.event({ startsAt: 'null' })
    await app.event({ startsAt: "now() + interval '1 h'", status: 'completed' })
    const ledger = connectLedger(gateway.url, async () => gateway.serviceRoleKey)
    expect((await lookAt(ledger, null)).events).toEqual([])
  })
})
