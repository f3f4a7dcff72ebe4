import { createHash, timingSafeEqual } from 'node:crypto'
import type { LambdaFunctionURLEvent, LambdaFunctionURLResult } from 'aws-lambda'
import { count } from '../core/log.ts'
import { SCHEDULER_RESERVE_MS } from '../core/policy.ts'
import type { Remaining } from '../core/time.ts'
import { DEFAULT_WINDOW_MINUTES, type SchedulerParts, schedule } from '../scheduler/scheduler.ts'

/**
 * Answers the request of a database trigger that asks the scheduler to come now: 202 or 403, with no word more. A burst of
 * nudges costs two runs: the one that the first begins, and one more for what came meanwhile.
 * @param secret what the request has to carry; without one every request is refused
 */
export async function answerNudge(
  request: LambdaFunctionURLEvent,
  secret: string | undefined,
  connect: () => Promise<SchedulerParts>,
  remaining: Remaining,
): Promise<LambdaFunctionURLResult> {
  if (!accepts(secret, request.headers['x-nudge-secret'])) {
    count('NudgesRefused')
    return { statusCode: 403 }
  }
  const parts = await connect()
  if (await parts.database.begin_nudged_run({ run_seconds: remaining() / 1000 })) {
    do await schedule(DEFAULT_WINDOW_MINUTES, parts, remaining)
    while (remaining() > SCHEDULER_RESERVE_MS && (await parts.database.end_nudged_run({})))
  }
  return { statusCode: 202 }
}

/** Compares in the same time whatever was offered: digests are of one length, and a missing secret is compared too. */
function accepts(secret: string | undefined, offered: string | undefined): boolean {
  const digest = (text: string | undefined) =>
    createHash('sha256')
      .update(text ?? '')
      .digest()
  const equal = timingSafeEqual(digest(secret), digest(offered))
  return equal && secret !== undefined
}
