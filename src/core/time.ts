import { setTimeout as sleep } from 'node:timers/promises'

/** Waits so many milliseconds; none for zero and less. */
export const pause = async (ms: number): Promise<void> => {
  if (ms > 0) await sleep(ms)
}

/** The milliseconds that are left of an invocation. */
export type Remaining = () => number

/** No time is left to begin a call in. */
export class OutOfTime extends Error {
  override name = 'OutOfTime'
}
