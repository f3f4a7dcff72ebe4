import { describe, expect, it, vi } from 'vitest'
import { replay } from '../../cli/commands/replay.ts'
import { failedWith, refusedFor } from '../support/ledger.ts'
import { openOperated } from '../support/operator.ts'

const DENIED = failedWith('AccessDeniedException: not authorized to perform rekognition:IndexFaces', 'denied')

/** An event that has ended: two attendees failed, two were indexed. */
async function failedEvent() {
  const system = await openOperated()
  const { app, exhaust, prepare, sendAll } = system
  const event = await app.event()
  const users = await app.users(4)
  await app.consent(event, users)
  await prepare()
  const messages = (await sendAll()).sort((a, b) => a.user_id.localeCompare(b.user_id))
  await exhaust(messages.slice(0, 2), DENIED)
  await exhaust(messages.slice(2))
  const [first = '', second = '', indexed = ''] = users
  return { ...system, event, users, failed: [first, second] as const, indexed }
}

describe('replay', () => {
  it('queues what has failed, sends it at once, and follows it until the event is settled', async () => {
    const { app, event, inside, start, startWorker } = await failedEvent()
    startWorker()
    const { code, error, out } = await start(['replay', '--event', event]).ended
    expect({ code, error }).toEqual({ code: 0, error: '' })
    expect(out).toContain('2 attendees of 1 event queued again.\n2 messages sent to the workers')
    expect(out).toMatch(/A concert: completed, 4 indexed, 0 skipped, 0 failed, 0 open\n/)
    expect(out).toMatch(/\nDone: nobody has failed again\.\n$/)
    expect(await app.status(event)).toBe('completed')
    expect(await inside.states(event)).toEqual({ indexed: 4 })
  })

  it('reports attendees who fail again, with exit code 2', async () => {
    const { event, run, startWorker } = await failedEvent()
    startWorker(DENIED)
    const { code, out } = await run(replay, { event, wait: true })
    expect(code).toBe(2)
    expect(out).toContain(`Failed again: 2 attendees. Why: npx event-indexer status --event ${event}\n`)
  })

  it('of one attendee counts no other attendee as failed again', async () => {
    const { event, failed, inside, run, startWorker } = await failedEvent()
    startWorker()
    const { code, out } = await run(replay, { event, user: failed[0], wait: true })
    expect(code).toBe(0)
    expect(out).toContain('1 attendee of 1 event queued again.')
    expect(out).toContain('Still failed, for they were not replayed: 1 attendee.')
    expect(await inside.job(event, failed[0])).toMatchObject({ state: 'indexed' })
    expect(await inside.job(event, failed[1])).toMatchObject({ state: 'failed', version: 2 })
  })

  it('can be of one reason, also of one for which attendees were skipped', async () => {
    const { app, indexAll, inside, run } = await openOperated()
    const event = await app.event()
    await app.consent(event, await app.users(3))
    await indexAll(refusedFor('no_face'))
    const { code, out } = await run(replay, { event, reason: 'no_face', wait: false })
    expect(code).toBe(0)
    expect(out).toContain('3 attendees of 1 event queued again.\n3 messages sent')
    expect(await inside.states(event)).toEqual({ sent: 3 })
  })

  it('can be of all events', async () => {
    const { app, event, indexAll, run, startWorker } = await failedEvent()
    const other = await app.event()
    await app.consent(other, await app.users(1))
    await indexAll(DENIED)
    startWorker()
    const { code, out } = await run(replay, { wait: true, yes: true })
    expect(code).toBe(0)
    expect(out).toContain('3 attendees of 2 events queued again.')
    expect([await app.status(event), await app.status(other)]).toEqual(['completed', 'completed'])
  })

  it('of all events lists what it would touch, and does nothing without --yes', async () => {
    const { app, event, inside, run, start } = await failedEvent()
    await app.change(event, { name: "'Gala \u{1b}[2J dinner'" })
    const { code, out } = await run(replay, { wait: true })
    expect(code).toBe(1)
    expect(out).toContain('2 attendees of 1 event would be tried again:\n  Gala  [2J dinner: 2 × denied\n')
    expect(out).toContain('Nothing was replayed. To do it: the same command with --yes.')
    expect(await inside.states(event)).toEqual({ indexed: 2, failed: 2 })
    expect((await start(['replay', '--all-failed', '--yes', '--no-wait']).ended).code).toBe(0)
    expect(await inside.states(event)).toEqual({ indexed: 2, sent: 2 })
  })

  it('begins an event anew whose collection could not be made', async () => {
    const { app, claim, collectionsDone, inside, rescue, run } = await openOperated()
    const event = await app.event()
    await claim()
    const failed = { event_id: event, result: 'failed', error: 'AccessDeniedException' } as const
    for (let attempt = 1; attempt <= 10; attempt++) await collectionsDone([failed])
    await rescue()
    expect(await app.status(event)).toBe('failed')
    const { code, out } = await run(replay, { event, wait: false })
    expect(code).toBe(0)
    expect(out).toContain('1 event begun anew.\nThe scheduler goes on with it within a minute.')
    expect(await inside.run(event)).toMatchObject({ state: 'in_progress', collection_attempts: 0 })
  })

  it('leaves the event running on Ctrl-C, with an exit code of its own', async () => {
    const { app, event, inside, start } = await failedEvent()
    const replaying = start(['replay', '--event', event]) // nobody works on it
    await vi.waitFor(() => expect(replaying.output()).toContain('A concert: in progress'), 20_000)
    replaying.pressCtrlC()
    const { code, out } = await replaying.ended
    expect(code).toBe(130)
    expect(out).toContain('Left running. To follow it again: npx event-indexer status --watch')
    expect(await app.status(event)).toBe('in_progress')
    expect(await inside.states(event)).toEqual({ indexed: 2, sent: 2 })
  })

  it('goes on with what is under way already when it is asked for again', async () => {
    const { event, inside, run } = await failedEvent()
    await run(replay, { event, wait: false })
    const { code, out } = await run(replay, { event, wait: false })
    expect(code).toBe(0)
    expect(out).toContain('Nothing new to replay: 1 event under way already.')
    expect(await inside.states(event)).toEqual({ indexed: 2, sent: 2 })
  })

  it('is one replay, though the answer to its first request was lost', async () => {
    const { event, gateway, inside, run } = await failedEvent()
    gateway.setFaults(({ function: name, attempt }) =>
      name === 'indexing_replay' && attempt === 1 ? 'drop-after-commit' : undefined,
    )
    const { code, out } = await run(replay, { event, wait: false })
    expect(code).toBe(0)
    expect(out).toContain('under way already.\n2 messages sent')
    expect(await inside.states(event)).toEqual({ indexed: 2, sent: 2 })
  })
})

describe('what replay does without the right to send', () => {
  it('leaves the sending to the scheduler when no queue is named', async () => {
    const { event, inside, run } = await failedEvent()
    const { code, out } = await run(replay, { event, wait: false }, { WORK_QUEUE_URL: undefined })
    expect(code).toBe(0)
    expect(out).toContain('Not sent from here: WORK_QUEUE_URL is not set')
    expect(out).toContain('The scheduler sends them within a minute.')
    expect(await inside.states(event)).toEqual({ indexed: 2, queued: 2 })
  })

  it('says what SQS said', async () => {
    const { event, run, workQueueUrl } = await failedEvent()
    const { code, out } = await run(
      replay,
      { event, wait: false },
      { WORK_QUEUE_URL: `${workQueueUrl}-gone` },
    )
    expect(code).toBe(0)
    expect(out).toMatch(/SQS did not take 2 messages \(QueueDoesNotExist.*\)\. The scheduler sends them/)
  })
})

describe('nothing to replay', () => {
  it.each([
    ['no event of this id', 'There is no event'],
    ['an event that is not claimed', 'the event is not claimed yet'],
    [
      'an event without failures',
      'no attendee of the event has failed. Skipped: 2 attendees. To look at them again: npx',
    ],
    ['a reason that nobody has', 'no attendee of the event has failed or was skipped for denied'],
    ['an attendee who is indexed', 'Nothing to replay: the attendee is indexed.'],
    ['an attendee of another event', 'The event knows no attendee'],
    ['no failures at all', 'Nothing to replay: no job has failed.'],
  ])('because of %s: the reason is printed, and the exit code is 1', async (why, said) => {
    const { app, indexAll, run } = await openOperated()
    const claimed = await app.event()
    const [indexed = '', photoless = '', alsoPhotoless = ''] = await app.users(3)
    for (const user of [photoless, alsoPhotoless]) await app.photo(user, null)
    await app.consent(claimed, [indexed, photoless, alsoPhotoless])
    await indexAll()
    const [stranger = ''] = await app.users(1)
    const waiting = await app.event({ startsAt: "now() + interval '5 h'" })
    const request = {
      'no event of this id': { event: stranger },
      'an event that is not claimed': { event: waiting },
      'an event without failures': { event: claimed },
      'a reason that nobody has': { event: claimed, reason: 'denied' },
      'an attendee who is indexed': { event: claimed, user: indexed },
      'an attendee of another event': { event: claimed, user: stranger },
      'no failures at all': {},
    }[why]
    const failing = run(replay, { ...request, wait: true })
    await expect(failing).rejects.toMatchObject({ exitCode: 1, message: expect.stringContaining(said) })
  })

  it('names the reason of a skipped attendee, by which they can be looked at again', async () => {
    const { app, indexAll, run } = await openOperated()
    const event = await app.event()
    const [user = ''] = await app.users(1)
    await app.consent(event, [user])
    await indexAll(refusedFor('no_face'))
    await expect(run(replay, { event, user, wait: true })).rejects.toThrow(
      'the attendee is skipped (no_face). To look at them again all the same: --reason no_face',
    )
  })
})

describe('an event that the app holds', () => {
  it('is not replayed: try again', async () => {
    const { appSession, event, inside, start } = await failedEvent()
    const session = await appSession()
    await session.query('begin')
    await session.query("update public.events set name = 'A talk'")
    const { code, error } = await start(['replay', '--event', event]).ended
    expect(code).toBe(4)
    expect(error).toBe(
      `The app is changing event ${event} at this moment. Nothing was replayed: try again.\n`,
    )
    expect(await inside.states(event)).toEqual({ indexed: 2, failed: 2 })
  })

  it('does not keep the others from being replayed', async () => {
    const { app, appSession, event, indexAll, run, startWorker } = await failedEvent()
    const other = await app.event()
    await app.consent(other, await app.users(1))
    await indexAll(DENIED)
    const session = await appSession()
    await session.query('begin')
    await session.query("update public.events set name = 'A talk' where event_id = $1", [event])
    startWorker()
    const { code, out } = await run(replay, { wait: true, yes: true })
    expect(code).toBe(4)
    expect(out).toContain(
      `The app is changing 1 more event at this moment (${event}): replay again for the rest.`,
    )
    await session.query('rollback')
    expect(await app.status(event)).toBe('failed')
    expect(await app.status(other)).toBe('completed')
  })
})
