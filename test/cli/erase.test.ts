import { describe, expect, it, onTestFinished } from 'vitest'
import { type EraseOptions, erase } from '../../cli/commands/erase.ts'
import { type ProveDocument, type ProveOptions, prove } from '../../cli/commands/prove.ts'
import { indexPhoto } from '../../src/core/collection.ts'
import { runCommand, startCli } from '../support/operator.ts'
import { openStage } from '../support/stage.ts'

/** A running system with an event of two indexed attendees. */
async function indexedEvent() {
  const stage = await openStage()
  onTestFinished(stage.close)
  const event = await stage.createEvent()
  const user = await stage.createAttendee(event)
  const other = await stage.createAttendee(event)
  await stage.comeToRest()
  return {
    ...stage,
    event,
    user,
    other,
    erase: (options: Omit<EraseOptions, 'wait'> & { wait?: boolean }) =>
      runCommand(erase, { wait: true, ...options }, stage.environment),
    prove: (options: ProveOptions) => runCommand(prove, options, stage.environment),
    proof: async (options: ProveOptions) => {
      const { code, out } = await runCommand(prove, { ...options, json: true }, stage.environment)
      return { code, document: JSON.parse(out) as ProveDocument }
    },
    revoke: () => stage.sql('update event_consents set allow_recognition = false where user_id = $1', [user]),
    cleanupOf: async () =>
      (
        await stage.sql<{ cleanup_status: string }>('select cleanup_status from events where event_id = $1', [
          event,
        ])
      )[0]?.cleanup_status,
  }
}

describe('erase --user', () => {
  it('is refused while they consent, says how to go on, and does nothing', async () => {
    const { erase, event, facesOf, prove, user } = await indexedEvent()
    for (const of of [{}, { event }])
      await expect(erase({ user, ...of, yes: true })).rejects.toMatchObject({
        exitCode: 1,
        message: expect.stringMatching(
          new RegExp(
            `consents at 1 event \\(${event}\\)[^]*allow_recognition = false where user_id = '${user}'`,
          ),
        ),
      })
    expect(facesOf(event)).toHaveLength(2)
    await expect(prove({ user })).rejects.toMatchObject({ exitCode: 1 })
  })

  it('tells what it would do, and does it with --yes: also faces that the ledger does not know, and waits for the proof', async () => {
    const { comeToRest, erase, event, facesOf, other, parts, proof, revoke, sql, upload, user, whileLiving } =
      await indexedEvent()
    await revoke()
    await comeToRest()
    // The app has indexed them by itself since, and there is no trace of it.
    const photo = { bucket: parts.photos.bucket, key: await upload() }
    await indexPhoto(parts.rekognition, `memento_event_${event}`, user, photo, 'skip')
    await sql("update indexing.event_runs set ends_at = now() - interval '1 h', reconcile_due = 'infinity'")

    const told = await erase({ user })
    expect(told).toMatchObject({ code: 1, out: expect.stringContaining(`erase --user ${user} --yes`) })
    expect(told.out).toContain('in 1 collection, 0 faces of theirs known')
    expect(facesOf(event)).toHaveLength(2)

    const { code, out } = await whileLiving(() => erase({ user, yes: true }))
    expect({ code, faces: facesOf(event)?.map((face) => face.user) }).toEqual({ code: 0, faces: [other] })
    expect(out).toContain('1 erasure queued, before everything else.')
    expect(out).toContain('asked for by an operator')
    expect(out).toContain('The chain is whole')
    const { document } = await proof({ user })
    expect(document).toMatchObject({
      proven: true,
      open: [],
      standing: [],
      receipts: [
        { position: 2, reason: 'request', faces: 1, verified_at: expect.any(String) },
        { position: 1, reason: 'consent', faces: 1, verified_at: expect.any(String) },
      ],
    })
  })

  it('--no-wait leaves it to the system; prove says that it is open, exit code 2', async () => {
    const { comeToRest, erase, proof, revoke, user } = await indexedEvent()
    await revoke()
    await comeToRest()
    const { code, out } = await erase({ user, yes: true, wait: false })
    expect({ code, out }).toEqual({ code: 0, out: expect.stringContaining(`prove --user ${user}`) })
    expect(await proof({ user })).toMatchObject({
      code: 2,
      document: { proven: false, open: [{ reason: 'request' }] },
    })
  })

  it('ends with 2 when DeleteFaces is refused for good, and says what it answered', async () => {
    const { erase, rekognition, revoke, sql, user } = await indexedEvent()
    rekognition.setFaults(({ operation }) =>
      operation === 'DeleteFaces'
        ? { type: 'error', strikes: 'before', error: 'AccessDeniedException' }
        : undefined,
    )
    await revoke()
    const pending = erase({ user, yes: true })
    await sql(
      `do $$ begin for n in 1 .. 100 loop exit when exists (select from indexing.erasures where reason = 'request'); perform pg_sleep(0.1); end loop; end $$`,
    )
    await sql(
      "update indexing.face_jobs set state = 'failed', reason = 'denied', error = 'AccessDeniedException: no', ended_at = now(), version = version + 1 where user_id = $1",
      [user],
    )
    const { code, out } = await pending
    expect({ code, out }).toEqual({
      code: 2,
      out: expect.stringContaining('failed: AccessDeniedException: no'),
    })
  })

  it('of an unknown attendee says that there is nothing to erase, exit code 1', async () => {
    const { erase, event } = await indexedEvent()
    await expect(erase({ user: event })).rejects.toMatchObject({
      exitCode: 1,
      message: expect.stringContaining('there is nothing to erase'),
    })
  })
})

describe('erase --event', () => {
  it('tells what it would do, and with --yes deletes the collection and waits for the proof', async () => {
    const { cleanupOf, comeToRest, erase, event, facesOf, other, proof, rekognition, sql, whileLiving } =
      await indexedEvent()
    const told = await erase({ event })
    expect(told).toMatchObject({ code: 1, out: expect.stringContaining('2 attendees, 2 faces known') })
    expect(facesOf(event)).toHaveLength(2)
    expect(await cleanupOf()).toBe('pending')

    const { code, out } = await whileLiving(() => erase({ event, yes: true }))
    expect({ code, collection: rekognition.collection(`memento_event_${event}`) }).toEqual({
      code: 0,
      collection: undefined,
    })
    expect(out).toContain('the event was closed: all of its faces')
    expect(
      await sql(
        'select from indexing.face_jobs where face_id is not null or cardinality(obsolete_face_ids) > 0',
      ),
    ).toEqual([])
    await comeToRest()
    expect(await cleanupOf()).toBe('completed')
    expect(facesOf(event)).toBeUndefined()
    expect(await proof({ user: other })).toMatchObject({
      code: 0,
      document: { receipts: [{ event_id: event, user_id: null, reason: 'event' }] },
    })
    await expect(erase({ event, yes: true })).rejects.toMatchObject({
      exitCode: 1,
      message: expect.stringContaining('deleted already'),
    })
  })

  it('says when the event is not claimed, or held by the app', async () => {
    const { connect, createEvent, erase, event } = await indexedEvent()
    await expect(erase({ event: await createEvent(10_000), yes: true })).rejects.toMatchObject({
      exitCode: 1,
    })
    const client = await connect()
    await client.query('begin')
    await client.query("update events set name = 'x' where event_id = $1", [event])
    await expect(erase({ event, yes: true })).rejects.toMatchObject({ exitCode: 4 })
    await client.query('rollback')
    client.release()
  })
})

describe('prove', () => {
  it('prints the receipt of a revocation and the chain, exit code 0', async () => {
    const { comeToRest, event, prove, revoke, user } = await indexedEvent()
    await revoke()
    await comeToRest()
    const { code, out } = await prove({ user })
    expect(code).toBe(0)
    expect(out).toMatch(
      /Receipt 1: erased\n {2}Event +\S+\n {2}Attendee +\S+\n {2}Why +consent was taken back, or is gone\n/,
    )
    expect(out).toMatch(/Deleted +\S+, 1 face\n {2}Seen gone +\S+, .* after it was noted\n/)
    expect(out).toContain('The chain is whole: 1 receipt to this day.')
    expect((await prove({ event })).out).toContain('Receipt 1: erased')
  })

  it('says that a face is there when they have consented again', async () => {
    const { comeToRest, event, prove, revoke, sql, user } = await indexedEvent()
    await revoke()
    await comeToRest()
    await sql('update event_consents set allow_recognition = true where user_id = $1', [user])
    await comeToRest()
    expect((await prove({ user })).out).toContain(
      `A face of theirs is in the collection of 1 event at this moment: ${event}.`,
    )
  })

  it('ends with 2 as soon as consent is taken back, and until a listing has shown it', async () => {
    const { proof, receive, revoke, runScheduler, runWorker, user } = await indexedEvent()
    await revoke()
    expect(await proof({ user })).toMatchObject({ code: 2, document: { open: [{ deleted_at: null }] } })
    await runScheduler()
    await runWorker(await receive())
    await runScheduler()
    expect(await proof({ user })).toMatchObject({
      code: 2,
      document: { open: [{ deleted_at: expect.any(String), verified_at: null }], receipts: [] },
    })
  })

  it('ends with 2 when a receipt was changed, and says which', async () => {
    const { comeToRest, prove, proof, revoke, sql, user } = await indexedEvent()
    await revoke()
    await comeToRest()
    await sql('alter table indexing.receipts disable trigger user')
    await sql("update indexing.receipts set noted_at = noted_at - interval '1 h'")
    expect(await prove({ user })).toMatchObject({
      code: 2,
      out: expect.stringContaining('The chain of receipts is BROKEN at receipt 1'),
    })
    expect(await proof({ user })).toMatchObject({
      code: 2,
      document: { proven: false, chain: { broken_at: 1 } },
    })
  })

  it('says in one line what it is asked wrongly', async () => {
    const ended = await startCli(['prove'], {}).ended
    expect(ended).toMatchObject({ code: 1, error: expect.stringContaining('say what to prove') })
  })
})
