import { EXIT, OperatorError } from './exit.ts'
import type { Ledger, ReplayRequest } from './ledger.ts'
import { type ClaimedEvent, type EventStatus, isSettled, lookAt, lookAtEvent } from './status.ts'
import type { System } from './system.ts'
import { plain } from './terminal.ts'
import { amount, figure } from './words.ts'

/** What a replay has begun. */
export interface Replay {
  /** Jobs queued again. */
  jobs: number
  /** Whether the events were put back in progress now; else they were under way already. */
  begun: boolean
  /** The events to follow. */
  events: string[]
  /** Events that the app holds at this moment: they are left as they are. */
  held: string[]
}

/**
 * Queues failed jobs again, or those skipped for the given reason. Asked a second time it begins nothing, and says what is
 * under way.
 * @throws {OperatorError} when there is nothing to replay, saying why, or when the app holds the only events that there are
 */
export async function replay(ledger: Ledger, system: System, request: ReplayRequest): Promise<Replay> {
  const { jobs, events, held } = await ledger.replay(request)
  if (events.length > 0) return { jobs, begun: true, events, held }
  if (held.length > 0)
    throw new OperatorError(
      EXIT.held,
      `The app is changing ${held.length === 1 ? `event ${held[0]}` : amount(held.length, 'event')} at this moment. Nothing was replayed: try again.`,
    )
  const open = await underWay(ledger, request)
  if (open.length > 0) return { jobs, begun: false, events: open, held }
  throw new OperatorError(EXIT.notDone, await whyNothing(ledger, system, request))
}

/** What a replay has begun, in words. */
export function announce({ jobs, begun, events, held }: Replay): string {
  const of = amount(events.length, 'event')
  const first = begun
    ? jobs > 0
      ? `${amount(jobs, 'attendee')} of ${of} queued again.`
      : `${of} begun anew.`
    : `Nothing new to replay: ${of} under way already.`
  if (held.length === 0) return first
  return `${first}\nThe app is changing ${amount(held.length, 'more event')} at this moment (${held.join(', ')}): replay again for the rest.`
}

async function underWay(ledger: Ledger, { event, attendee }: ReplayRequest): Promise<string[]> {
  if (event && attendee) {
    const open = await ledger.jobs(event, ['queued', 'sent', 'running'])
    return open.some(({ user_id }) => user_id === attendee) ? [event] : []
  }
  const { events } = await lookAt(ledger, event ? [event] : null)
  return events.filter((each) => !isSettled(each)).map(({ event_id }) => event_id)
}

async function whyNothing(
  ledger: Ledger,
  { option }: System,
  { event, attendee, why }: ReplayRequest,
): Promise<string> {
  if (event === null) return 'Nothing to replay: no job has failed.'
  const { status } = await lookAtEvent(ledger, event)
  if (status.state === 'unclaimed')
    return 'Nothing to replay: the event is not claimed yet. The scheduler claims it before its start.'
  if (attendee) {
    const job = (await ledger.jobs(event, null)).find(({ user_id }) => user_id === attendee)
    if (!job) return `The event knows no attendee ${attendee}: did they ever consent to it?`
    const reason = job.reason ? ` (${job.reason})` : ''
    const skipped = job.state === 'skipped' && why === null
    return `Nothing to replay: the attendee is ${job.state}${reason}.${skipped ? ` To look at them again all the same: --reason ${job.reason}` : ''}`
  }
  if (why) return `Nothing to replay: no attendee of the event has failed or was skipped for ${why}.`
  const skipped = Object.keys(status.skipped)
  const hint =
    skipped.length > 0
      ? ` Skipped: ${amount(status.attendees.skipped, 'attendee')}. To look at them again: npx event-indexer replay${option} --event ${event} --reason ${skipped[0]}`
      : ''
  return `Nothing to replay: no attendee of the event has failed.${hint}`
}

/** What a replay would touch. */
export interface Preview {
  jobs: number
  events: string[]
  /** The same in words: in all, and event by event. */
  lines: string[]
}

const PREVIEWED = 20 // events

/** What a replay would touch at this moment; null for nothing at all. */
export async function previewOf(ledger: Ledger, request: ReplayRequest): Promise<Preview | null> {
  const { jobs, events, held } = await ledger.previewReplay(request)
  if (events.length === 0) return null
  const runs = await ledger.progress(events.slice(0, PREVIEWED))
  const reasons = (counts: Record<string, number>) =>
    Object.entries(counts)
      .filter(([reason]) => request.why === null || reason === request.why)
      .map(([reason, count]) => `${figure(count)} × ${reason}`)
      .join(', ')
  const more = events.length - runs.length
  return {
    jobs,
    events,
    lines: [
      `${amount(jobs, 'attendee')} of ${amount(events.length, 'event')} would be tried again:`,
      ...(request.attendee === null
        ? runs.map((run) => {
            const why = [reasons(run.failed), request.why === null ? '' : reasons(run.skipped)]
            return `  ${plain(run.name ?? '') || run.event_id}: ${why.filter(Boolean).join(', ') || 'its collection'}`
          })
        : [`  ${request.attendee}`]),
      ...(more > 0 ? [`  … and ${amount(more, 'more event')}`] : []),
      ...(held.length > 0
        ? [`Not ${amount(held.length, 'event')} that the app is changing at this moment.`]
        : []),
    ],
  }
}

/** How a replay ended. */
export interface Outcome {
  /** Attendees who have failed since the replay began. */
  failedAgain: number
  /** Attendees of its events who had failed before and were not replayed. */
  stillFailed: number
}

/**
 * Compares events with what they were when the replay had just begun. An event that could not be indexed at all counts as one
 * failure.
 */
export function outcomeOf(begun: EventStatus[], ended: EventStatus[]): Outcome {
  const failedOf = (events: EventStatus[]) =>
    new Map(events.filter(isClaimed).map((event) => [event.event_id, event.attendees.failed]))
  const before = failedOf(begun)
  const outcome = { failedAgain: 0, stillFailed: 0 }
  for (const event of ended.filter(isClaimed)) {
    const still = before.get(event.event_id) ?? 0
    const again = Math.max(0, event.attendees.failed - still)
    outcome.stillFailed += still
    outcome.failedAgain += again || (event.state === 'failed' && event.reason !== null ? 1 : 0)
  }
  return outcome
}

const isClaimed = (event: EventStatus): event is ClaimedEvent => event.state !== 'unclaimed'
