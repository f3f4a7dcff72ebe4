import { expect, it, onTestFinished } from 'vitest'
import { openStage } from '../support/stage.ts'

/** A running system that cleans up after two hours, with an event of two indexed attendees that ended three hours ago. */
async function endedEvent(cleanupAfterHours: number | undefined) {
  const stage = await openStage()
  onTestFinished(stage.close)
  stage.parts.settings.cleanupAfterHours = cleanupAfterHours
  const { comeToRest, createAttendee, createEvent, runScheduler, sql } = stage
  const event = await createEvent()
  const running = await createEvent()
  const users = [await createAttendee(event), await createAttendee(event)]
  await createAttendee(running)
  await comeToRest()
  await sql(
    "update events set starts_at = now() - interval '9 h', ends_at = now() - interval '3 h' where event_id = $1",
    [event],
  )
  await runScheduler()
  const statusOf = async (of: string) =>
    (
      await sql<{ status: string }>('select cleanup_status as status from events where event_id = $1', [of])
    )[0]?.status
  const faceIds = () =>
    sql(
      "select from indexing.face_jobs where event_id = $1 and (face_id is not null or obsolete_face_ids <> '{}')",
      [event],
    )
  return { ...stage, event, running, users, cleanupStatusOf: statusOf, faceIds }
}

it('an event that ended long enough ago loses its collection, its face ids, and in time its rows; others do not', async () => {
  const { cleanupStatusOf, comeToRest, event, faceIds, facesOf, running, runScheduler, sql } =
    await endedEvent(2)
  await runScheduler()
  expect(await cleanupStatusOf(event)).toBe('in_progress')
  await comeToRest()
  await runScheduler()
  expect(facesOf(event)).toBeUndefined()
  expect(await faceIds()).toEqual([])
  expect(await cleanupStatusOf(event)).toBe('completed')
  expect(await cleanupStatusOf(running)).toBe('pending')
  expect(facesOf(running)).toHaveLength(1)

  await sql("update indexing.event_runs set closed_at = closed_at - interval '30 d' where event_id = $1", [
    event,
  ])
  await runScheduler()
  expect(await sql('select event_id from indexing.event_runs')).toEqual([{ event_id: running }])
  expect(await sql('select distinct event_id from indexing.face_jobs')).toEqual([{ event_id: running }])
  expect(await sql('select reason from indexing.receipts')).toEqual([{ reason: 'event' }])
})

it('is off unless it is set; the face ids leave the ledger when the app cleans up, too', async () => {
  const { cleanupStatusOf, comeToRest, dropCollection, event, faceIds, facesOf, sql } =
    await endedEvent(undefined)
  await comeToRest()
  expect(await cleanupStatusOf(event)).toBe('pending')
  expect(facesOf(event)).toHaveLength(2)
  await sql("update events set cleanup_status = 'in_progress' where event_id = $1", [event])
  await dropCollection(event)
  await sql("update events set cleanup_status = 'completed' where event_id = $1", [event])
  await comeToRest()
  expect(facesOf(event)).toBeUndefined()
  expect(await faceIds()).toEqual([])
})

it('an attendee who revokes while the event is cleaned up still gets a receipt', async () => {
  const { comeToRest, event, parts, runScheduler, sql, users } = await endedEvent(2)
  await sql('update event_consents set allow_recognition = false where user_id = $1', [users[0]])
  await runScheduler()
  await comeToRest()
  await runScheduler()
  const { open, receipts } = await parts.database.receipts({ attendee: users[0] ?? null })
  expect(open).toEqual([])
  expect(receipts.every((receipt) => receipt.verified_at !== null && receipt.event_id === event)).toBe(true)
  expect(receipts.length).toBeGreaterThan(0)
})
