import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import * as policy from '../../src/core/policy.ts'
import { backoffSeconds } from '../../src/worker/backoff.ts'

interface Deployed {
  functions: Record<string, { timeout: number }>
  resources: { Resources: Record<string, { Properties: Record<string, unknown> }> }
}

/** serverless.yml, with CloudFormation's own tags read as what they hold. */
async function deployed(): Promise<Deployed> {
  const text = await readFile(new URL('../../serverless.yml', import.meta.url), 'utf8')
  return parse(text, { logLevel: 'silent' }) as Deployed
}

const timeoutOf = async (name: string) => (await deployed()).functions[name]?.timeout ?? Number.NaN
const seconds = (ms: number) => ms / 1000
const STATEMENT_TIMEOUT_SECONDS = 8 // of Supabase's API
const JITTER = 1.2

describe('the durations of the policy fit each other', () => {
  it('a call of the database is given up only after the statement timeout of the API', () => {
    expect(seconds(policy.DATABASE_TIMEOUT_MS)).toBeGreaterThan(STATEMENT_TIMEOUT_SECONDS)
  })

  it('a lease outlasts every call of its worker: the last begins WORKER_RESERVE_MS before the time-out', () => {
    expect(policy.WORKER_RESERVE_MS).toBeGreaterThan(policy.CALL_TIMEOUT_MS)
    expect(policy.QUIET_SECONDS).toBeGreaterThan(2 * seconds(policy.CALL_TIMEOUT_MS))
  })

  it('a closed collection is deleted for good only when no worker that began before can call any more', async () => {
    expect(policy.CLOSING_QUIET_SECONDS).toBeGreaterThanOrEqual(
      (await timeoutOf('worker')) + policy.QUIET_SECONDS,
    )
  })

  it('a worker and a scheduler have time for work besides their reserves', async () => {
    expect(await timeoutOf('worker')).toBeGreaterThan(2 * seconds(policy.WORKER_RESERVE_MS))
    expect(await timeoutOf('scheduler')).toBeGreaterThan(2 * seconds(policy.SCHEDULER_RESERVE_MS))
  })

  it('a worker waits for the converter as long as that may take, and has time for it at its beginning', async () => {
    expect(seconds(policy.CONVERT_TIMEOUT_MS)).toBeGreaterThan(await timeoutOf('converter'))
    expect((await timeoutOf('worker')) * 1000).toBeGreaterThan(
      policy.CONVERT_TIMEOUT_MS + policy.WORKER_RESERVE_MS,
    )
  })

  it('a send batch is given up only when its scheduler has ended', async () => {
    expect(policy.SEND_BATCH_SECONDS).toBeGreaterThan(await timeoutOf('scheduler'))
  })

  it('a message is taken for lost only after it can neither wait in its queue, rest after a backoff, nor be hidden', async () => {
    const { resources } = await deployed()
    const hidden = Number(resources.Resources.WorkQueue?.Properties.VisibilityTimeout)
    expect(hidden).toBeGreaterThan(0)
    const longest = Math.max(
      policy.QUEUE_SECONDS + policy.URGENT_QUEUE_SECONDS,
      policy.LONGEST_BACKOFF_SECONDS * JITTER,
      hidden,
    )
    expect(policy.LOST_AFTER_SECONDS).toBeGreaterThan(longest)
  })

  it('no backoff is longer than it says, and one after an unanswered call outlasts the call', () => {
    for (let received = 1; received < 10; received++)
      for (const kind of ['unavailable', 'denied', 'database', 'unclear', 'photo_missing'] as const)
        expect(backoffSeconds(kind, received, 1000)).toBeLessThanOrEqual(
          policy.LONGEST_BACKOFF_SECONDS * JITTER,
        )
    expect(backoffSeconds('unclear', 1, 5)).toBeGreaterThan(policy.QUIET_SECONDS)
  })

  it('consent is read again long before a call could be given up', () => {
    expect(policy.DESIRED_STATE_MAX_AGE_MS).toBeLessThan(policy.CALL_TIMEOUT_MS)
  })

  it('a missing object is missed with a face for far longer than without one', () => {
    expect(policy.MISSING_GRACE_SECONDS).toBeGreaterThan(10 * policy.MISSING_PATIENCE_SECONDS)
  })

  it('reconcile, a minute after a change, concludes nothing from a listing that may lag behind it', () => {
    expect(policy.LISTING_LAG_SECONDS).toBeLessThan(60)
  })
})
