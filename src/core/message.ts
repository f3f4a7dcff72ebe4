import * as z from './zod.ts'

/** One attendee of one event. */
export interface Attendee {
  event_id: string
  user_id: string
}

/** A job of the ledger at a version: all that a message carries. */
export interface JobRef extends Attendee {
  version: number
}

/** Thrown for a body that is no message of ours; the error's message says what is wrong with it. */
export class MessageError extends Error {
  override name = 'MessageError'
}

/**
 * The format of the messages. Adding a field that older workers may ignore leaves it as it is; anything else raises it, and
 * a worker that does not know the new one refuses the message, which then waits in the dead-letter queue for one that does.
 */
const FORMAT = 1

const MAX_INTEGER = 2_147_483_647 // of Postgres

const schema = z.object({
  format: z.literal(FORMAT),
  event_id: z.guid().check(z.toLowerCase()),
  user_id: z.guid().check(z.toLowerCase()),
  version: z.int().check(z.positive(), z.maximum(MAX_INTEGER)),
})

/** The body of the message for a job. */
export const writeMessage = ({ event_id, user_id, version }: JobRef): string =>
  JSON.stringify({ format: FORMAT, event_id, user_id, version })

/** @throws {MessageError} when the body is no message of ours, or of a format we do not know. */
export function readMessage(body: string): JobRef {
  let parsed: unknown
  try {
    parsed = JSON.parse(body)
  } catch (cause) {
    throw new MessageError('not a message of the event indexer: its body is not JSON', { cause })
  }
  const read = schema.safeParse(parsed)
  if (!read.success) {
    const problems = read.error.issues.map((issue) => `${issue.path.join('.') || 'body'}: ${issue.message}`)
    throw new MessageError(`not a message of the event indexer: ${problems.join('; ')}`)
  }
  const { event_id, user_id, version } = read.data
  return { event_id, user_id, version }
}

/** One string for an attendee of an event, for maps and sets. */
export const attendeeKey = ({ event_id, user_id }: Attendee) => `${event_id}/${user_id}`
