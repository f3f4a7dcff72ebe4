/**
 * How long things take and how often they are tried. The receives of a message, the visibility timeout and the functions'
 * timeouts are stated in serverless.yml. A test holds the inequalities between all of them.
 */

/** How long one call of Rekognition or S3 may take, in ms, before it counts as not answered. */
export const CALL_TIMEOUT_MS = 10_000

/** How long the worker waits for the converter, in ms: its time-out, and its start. */
export const CONVERT_TIMEOUT_MS = 30_000

/** No call that was under way when its maker gave up can land after this. */
export const QUIET_SECONDS = 30

/** No call of a worker that began before an event was closed can land after this. */
export const CLOSING_QUIET_SECONDS = 120

/** How long one call of the database may take: more than the API's statement timeout of 8 s. */
export const DATABASE_TIMEOUT_MS = 10_000

/** After the last Rekognition call of a worker could be begun: the call itself, and `complete` with its repetitions. */
export const WORKER_RESERVE_MS = CALL_TIMEOUT_MS + 5_000

/** What a scheduler run leaves of its time: the slowest call that may be under way then. */
export const SCHEDULER_RESERVE_MS = DATABASE_TIMEOUT_MS + 2_000

/** The desired state that a call of IndexFaces rests on is no older than this, or is read again. */
export const DESIRED_STATE_MAX_AGE_MS = 2_000

/** Work in the work queue at most, so that the order of the rest stays the outbox's; and in the urgent queue. */
export const QUEUE_SECONDS = 90
export const URGENT_QUEUE_SECONDS = 30

/** The longest backoff of a message, without its jitter of a fifth. */
export const LONGEST_BACKOFF_SECONDS = 300

/** A message is taken for lost after this: longer than QUEUE_SECONDS and than any backoff. */
export const LOST_AFTER_SECONDS = 480

/** A scheduler that has not confirmed its send batch by then has died. */
export const SEND_BATCH_SECONDS = 90

/** The object of a profile may be missing for so long: without an earlier face, and with one. */
export const MISSING_PATIENCE_SECONDS = 4
export const MISSING_GRACE_SECONDS = 600

/** Rows that nobody needs any more are kept for so long; the receipts of erasures for longer, as a proof. */
export const KEEP_DAYS = 30
export const RECEIPT_DAYS = 3 * 365

/** ListFaces may lag behind by so much. */
export const LISTING_LAG_SECONDS = 30
