import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { DatabaseError } from '../../src/core/database.ts'
import { logger, metrics } from '../../src/core/log.ts'
import type { SchedulerParts } from '../../src/scheduler/scheduler.ts'
import { openStage, type Stage } from '../support/stage.ts'

// What a scheduler's run does, says and measures while something is in its way.

let stage: Stage
beforeEach(async () => {
  stage = await openStage()
})
afterEach(async () => {
  stage.rekognition.setFaults(undefined)
  await stage.close()
})

/** The last value of each metric that was written since. */
function watchMetrics(): Map<string, number> {
  const written = new Map<string, number>()
  const spy = vi.spyOn(metrics, 'addMetric').mockImplementation((name, _unit, value) => {
    written.set(name, value)
    return metrics
  })
  onTestFinished(() => spy.mockRestore())
  return written
}

it('an event whose columns are NULL, where a bulk insert meant the defaults, is claimed and indexed', async () => {
  const event = randomUUID()
  await stage.sql(
    `insert into events (event_id, name, starts_at, is_active, indexing_status, cleanup_status)
     values ($1, 'imported', now() + interval '5 minutes', null, null, null)`,
    [event],
  )
  const users = [await stage.createAttendee(event), await stage.createAttendee(event)]
  await stage.follow()
  expect(stage.facesOf(event)).toHaveLength(users.length)
  expect(await stage.statusOf(event)).toBe('completed')
  await stage.sql('update event_consents set allow_recognition = null where user_id = $1', [users[0]])
  await stage.follow()
  expect(stage.facesOf(event)?.map(({ user }) => user)).toEqual([users[1]])
})

describe('a bulk change that the database cannot follow in one call', () => {
  /** A page of more than so many jobs runs into the statement timeout. */
  function slowDatabase(limit: number, calls: string[]): SchedulerParts {
    const { database, ...rest } = stage.parts
    return {
      ...rest,
      database: {
        ...database,
        process_changes: async (args, persist) => {
          calls.push(args.erasing ? 'erasures' : 'changes')
          if (!args.erasing && (args.page ?? 5_000) > limit)
            throw new DatabaseError(
              'process_changes',
              '57014',
              'canceling statement due to statement timeout',
            )
          return database.process_changes(args, persist)
        },
        claim: (args, persist) => {
          calls.push('claim')
          return database.claim(args, persist)
        },
      },
    }
  }

  it('is followed in smaller pages, to its end, after the erasures and beside the claim', async () => {
    const event = await stage.createEvent()
    const users: string[] = []
    for (let n = 0; n < 25; n++) users.push(await stage.createAttendee(event))
    const past = await stage.createEvent(-60)
    await stage.sql(
      `insert into event_consents (event_id, user_id, allow_recognition, consented_at) select $1, unnest($2::uuid[]), true, now()`,
      [past, users],
    )
    await stage.comeToRest()
    await stage.sql("update profiles set photo_path = 'photos/' || user_id")
    await stage.sql('update event_consents set allow_recognition = false where user_id = $1', [users[0]])
    const tonight = await stage.createEvent(5)
    await stage.createAttendee(tonight)

    const calls: string[] = []
    const report = await stage.runScheduler(slowDatabase(12, calls))
    expect(report).toMatchObject({ failed_steps: {}, events_claimed: 1 })
    expect(calls.indexOf('erasures')).toBe(0)
    expect(calls).toContain('claim')
    const [left] = await stage.sql<{ n: number }>('select count(*)::int as n from indexing.changes')
    expect(left?.n).toBe(0)
    const [queued] = await stage.sql<{ n: number }>(
      "select count(*)::int as n from indexing.face_jobs where state in ('queued', 'sent') and version > 1",
    )
    expect(queued?.n).toBe(50)
  })

  it('of which not even one row passes is a failed step, and the run goes on', async () => {
    const event = await stage.createEvent()
    await stage.createAttendee(event)
    await stage.comeToRest()
    await stage.sql("update profiles set photo_path = 'photos/' || user_id")
    const tonight = await stage.createEvent(5)
    await stage.createAttendee(tonight)
    const written = watchMetrics()
    const report = await stage.runScheduler(slowDatabase(0, []))
    expect(report.failed_steps['process changes']).toContain('57014')
    expect(report.events_claimed).toBe(1)
    expect(report.messages_sent).toBe(1)
    expect(written.get('FailedSteps')).toBeGreaterThan(0)
  })
})

it('an event whose row the app holds locked is said in the report, the log and the metric of the alarm', async () => {
  const event = await stage.createEvent(1)
  await stage.createAttendee(event)
  const app = await stage.connect()
  await app.query('begin')
  await app.query("update events set name = 'renamed' where event_id = $1", [event])
  const warnings = vi.spyOn(logger, 'warn')
  onTestFinished(() => warnings.mockRestore())
  const written = watchMetrics()
  const report = await stage.runScheduler()
  expect(report).toMatchObject({ events_claimed: 0, events_locked: 1 })
  expect(warnings).toHaveBeenCalledWith(expect.stringContaining('the app holds its row locked'), {
    event_id: event,
  })
  expect(written.get('OverdueEvents')).toBe(1)
  await app.query('commit')
  app.release()
  await stage.runScheduler()
  expect(await stage.statusOf(event)).toBe('in_progress')
  expect(written.get('OverdueEvents')).toBe(0)
})

it('a collection that cannot be created shows in the metrics from the first run on, and the failed event after ten', async () => {
  const event = await stage.createEvent()
  await stage.createAttendee(event)
  stage.rekognition.setFaults(({ operation }) =>
    operation === 'CreateCollection'
      ? { type: 'error', strikes: 'before', error: 'AccessDeniedException' }
      : undefined,
  )
  const written = watchMetrics()
  await stage.runScheduler()
  expect(written.get('CollectionsFailing')).toBe(1)
  expect(written.get('FailedEvents')).toBe(0)
  for (let attempt = 0; attempt < 10; attempt++) {
    await stage.secondsPass(300)
    await stage.runScheduler()
  }
  expect(await stage.statusOf(event)).toBe('failed')
  expect(written.get('FailedEvents')).toBe(1)
})

it('failed jobs are in the metric until they are mended, whichever part ended them', async () => {
  const event = await stage.createEvent()
  const user = await stage.createAttendee(event)
  await stage.runScheduler()
  const letters = (await stage.receive()).map(({ Body = '' }) => JSON.parse(Body))
  await stage.sql("update indexing.face_jobs set error = 'denied', reason = 'denied'")
  await stage.parts.database.fail_dead_letters({ letters })
  const written = watchMetrics()
  await stage.runScheduler()
  expect(written.get('FailedJobs')).toBe(1)
  expect(written.get('FailedEvents')).toBe(1)
  await stage.sql('update event_consents set allow_recognition = false where user_id = $1', [user])
  await stage.follow()
  await stage.runScheduler()
  expect(written.get('FailedJobs')).toBe(0)
  expect(written.get('FailedEvents')).toBe(0)
})
