import { expect, it, onTestFinished } from 'vitest'
import { metrics } from '../../src/core/log.ts'
import { openStage } from '../support/stage.ts'

it('the time from a revocation to the listing without the face is measured once it is proven, and its age until then', async () => {
  const {
    comeToRest,
    createAttendee,
    createEvent,
    close,
    receive,
    runScheduler,
    runWorker,
    sql,
    timePasses,
  } = await openStage()
  onTestFinished(close)
  const written = () => {
    const { ErasureSeconds, UnprovenErasureAge } = metrics.serializeMetrics() as Record<string, unknown>
    metrics.clearMetrics()
    return { ErasureSeconds, UnprovenErasureAge }
  }
  const user = await createAttendee(await createEvent())
  await comeToRest()
  await sql('update event_consents set allow_recognition = false where user_id = $1', [user])
  metrics.clearMetrics()
  await runScheduler()
  await runWorker(await receive())
  await timePasses()
  const [{ noted = 0 } = {}] = await sql<{ noted: number }>(
    'select extract(epoch from noted_at)::float as noted from indexing.erasures',
  )
  expect(written()).toEqual({ ErasureSeconds: undefined, UnprovenErasureAge: expect.any(Number) })
  await runScheduler()
  const [{ verified = 0 } = {}] = await sql<{ verified: number }>(
    'select extract(epoch from verified_at)::float as verified from indexing.receipts',
  )
  expect(written()).toEqual({ ErasureSeconds: expect.closeTo(verified - noted, 3), UnprovenErasureAge: 0 })
})
