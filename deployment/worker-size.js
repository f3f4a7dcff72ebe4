const SECONDS_AHEAD = 0.2 // of slots that one batch takes, at the least
const CYCLE_SECONDS = 1.2 // from one batch to the next: the slowest of its calls, two calls of the database, SQS

/**
 * How large the worker's batches are and how many of them are under way at once, for so many IndexFaces calls a second:
 * enough calls under way to use the quota, and no more. Whoever waits in a worker for a later time slot is paid for by the
 * millisecond, and cannot give way to somebody more urgent any more.
 *
 * @param {number} tps IndexFaces calls a second of the whole account
 * @returns {{ batchSize: number, maximumConcurrency: number }} messages, from 10 to 50, and batches, from 2 to 10
 */
export function workerSize(tps) {
  const batchSize = between(10, 50, Math.ceil(tps * SECONDS_AHEAD))
  const maximumConcurrency = between(2, 10, Math.ceil((tps * CYCLE_SECONDS) / batchSize) + 1)
  return { batchSize, maximumConcurrency }
}

const between = (least, most, value) => Math.min(most, Math.max(least, value))
