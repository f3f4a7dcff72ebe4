import type {
  CollectionState,
  Drift,
  Forecast,
  Job,
  JobState,
  Progress,
  RunState,
  Unclaimed,
} from '../src/core/contract.ts'
import { EXIT, OperatorError } from './exit.ts'
import type { Ledger } from './ledger.ts'
import { reasonOf } from './reasons.ts'

/** An event that waits for its claim, or is none to claim. */
export interface UnclaimedEvent {
  event_id: string
  name: string | null
  /** The app's indexing_status. */
  status: string | null
  state: 'unclaimed'
  starts_at: string | null
  active: boolean
  /** What an operator has paused: it, or everything. */
  paused: 'event' | 'everything' | null
  /** How many consent. */
  attendees: number
  /** The transaction of the app that holds its row locked, so that it cannot be claimed. */
  held_by: Unclaimed['held_by']
}

/** A claimed event. */
export interface ClaimedEvent {
  event_id: string
  name: string | null
  /** The app's indexing_status; null when the event was deleted. */
  status: string | null
  /** The ledger's own. */
  state: RunState
  /** Why it was settled so, where its attendees do not say it. */
  reason: string | null
  starts_at: string
  ends_at: string
  claimed_at: string
  settled_at: string | null
  /** When the collection was last compared with the ledger. */
  reconciled_at: string | null
  collection: CollectionState
  collection_error: string | null
  attendees: Attendees
  skipped: Record<string, number>
  failed: Record<string, number>
  /** Attendees without an outcome by the error of their last attempt, '' for those without one. */
  open: Record<string, number>
  /** Attendees of other events whose turn comes first. */
  ahead: number
  index_calls: number
  /** Since when the oldest attendee waits. */
  oldest_open: string | null
  /** When an attendee last had an outcome, and how many had one in the last two minutes. */
  last_ended: string | null
  ended_lately: number
  /** When the last attendee is expected to be done; null once the event is settled, and as long as its jobs are not written. */
  ready_at: string | null
  /** Whether that is after the start. */
  late: boolean
  /** How many attendees will have no outcome at the start, if it is late. */
  missing_at_start: number
  /** What an operator has paused: it, or everything. Only erasures are sent then. */
  paused: 'event' | 'everything' | null
}

/** Attendees by outcome, and those without one: queued, or in flight between the queue and their worker's report. */
export type Attendees = Record<'indexed' | 'skipped' | 'failed' | 'erased' | 'queued' | 'in_flight', number>

export type EventStatus = ClaimedEvent | UnclaimedEvent

/** The attendees of an event who are not in its collection though they consent, each with what happened in words; and what reconcile found. */
export interface Details {
  failures: Pick<Job, 'user_id' | 'reason' | 'error' | 'attempts'>[]
  skips: (Pick<Job, 'user_id' | 'reason' | 'photo_key'> & { to_attendee: string | null })[]
  /** The latest first. */
  drift: Drift[]
}

/** One attendee of an event, with the words for their reason. */
export interface AttendeeRow extends Job {
  /** Null unless the operator has asked for names. */
  name: string | null
  to_attendee: string | null
}

/** What `ready_at` and `late` rest on, in IndexFaces calls a second. */
export interface Pace {
  /** Of the account, as the scheduler said it last. */
  tps: number
  /** At this moment: fewer for a while after Rekognition has throttled. */
  rate: number
}

/** How events stand: these, or all that are in progress or start around now; the soonest start first. */
export async function lookAt(
  ledger: Pick<Ledger, 'progress' | 'unclaimed' | 'forecast'>,
  events: string[] | null,
): Promise<{ events: EventStatus[]; pace: Pace }> {
  const [progress, unclaimed, forecast] = await Promise.all([
    ledger.progress(events),
    ledger.unclaimed(events),
    ledger.forecast(),
  ])
  const statuses = [
    ...progress.map((event) => claimedEvent(event, forecast)),
    ...unclaimed.map(unclaimedEvent),
  ]
  const { tps, rate } = forecast
  return { events: statuses.sort((a, b) => timeOf(a) - timeOf(b)), pace: { tps, rate } }
}

/** What an operator sees at a glance: all events that are in progress or start around now, and what concerns no event. */
export interface Glance {
  events: EventStatus[]
  pace: Pace
  /** Messages of the dead-letter queue that were kept, and that nobody has acknowledged. */
  letters: number
  /** Since when an operator has paused everything, or null. */
  pausedSince: string | null
}

export async function lookAtAll(ledger: Ledger): Promise<Glance> {
  const [seen, { total }, { everything }] = await Promise.all([
    lookAt(ledger, null),
    ledger.deadLetters(1),
    ledger.pauses(),
  ])
  return { ...seen, letters: total, pausedSince: everything }
}

const timeOf = ({ starts_at }: EventStatus) => (starts_at === null ? Infinity : Date.parse(starts_at))

/**
 * How one event stands.
 * @throws {OperatorError} when there is none of this id
 */
export async function lookAtEvent(
  ledger: Pick<Ledger, 'progress' | 'unclaimed' | 'forecast'>,
  event: string,
): Promise<{ status: EventStatus; pace: Pace }> {
  const {
    events: [status],
    pace,
  } = await lookAt(ledger, [event])
  if (status) return { status, pace }
  throw new OperatorError(
    EXIT.notDone,
    `There is no event ${event}. Is the id right, and is this the right system?`,
  )
}

/** The attendees of an event in these states, or in any: with their names where the operator has said which column holds them. */
export async function lookAtAttendees(
  ledger: Ledger,
  event: string,
  states: JobState[] | null,
  nameColumn: string | null,
): Promise<AttendeeRow[]> {
  return withNames(ledger, await ledger.jobs(event, states), nameColumn)
}

/** Jobs with the words for their reasons, and with names where they are wanted. */
export async function withNames(
  ledger: Pick<Ledger, 'names'>,
  jobs: Job[],
  nameColumn: string | null,
): Promise<AttendeeRow[]> {
  const names = nameColumn
    ? await ledger.names(
        jobs.map(({ user_id }) => user_id),
        nameColumn,
      )
    : {}
  return jobs.map((job) => ({
    ...job,
    name: names[job.user_id] ?? null,
    to_attendee: reasonOf(job.reason).toAttendee ?? null,
  }))
}

/** Who of an event is not in its collection, and why; and what reconcile found. */
export async function lookAtDetails(ledger: Ledger, event: string): Promise<Details> {
  const [jobs, drift] = await Promise.all([ledger.jobs(event, ['failed', 'skipped']), ledger.drift(event)])
  return {
    drift,
    failures: jobs
      .filter(({ state }) => state === 'failed')
      .map(({ user_id, reason, error, attempts }) => ({ user_id, reason, error, attempts })),
    skips: jobs
      .filter(({ state }) => state === 'skipped')
      .map(({ user_id, reason, photo_key }) => ({
        user_id,
        reason,
        photo_key,
        to_attendee: reasonOf(reason).toAttendee ?? null,
      })),
  }
}

function unclaimedEvent(event: Unclaimed): UnclaimedEvent {
  return { ...event, state: 'unclaimed' }
}

function claimedEvent({ jobs, ...event }: Progress, { events, rate }: Forecast): ClaimedEvent {
  const { indexed = 0, skipped = 0, failed = 0, erased = 0, queued = 0, sent = 0, running = 0 } = jobs
  const written = event.collection === 'ready'
  const turn = events.findIndex(({ event_id }) => event_id === event.event_id) // they are in the order of their turns
  const forecast = events[turn]
  const known = written && forecast !== undefined
  const late = known && forecast.late
  const lateness = late ? (Date.parse(forecast.done_at) - Date.parse(event.starts_at)) / 1000 : 0
  return {
    ...event,
    attendees: { indexed, skipped, failed, erased, queued, in_flight: sent + running },
    ahead: events
      .slice(0, Math.max(0, turn))
      .filter(({ paused }) => !paused)
      .reduce((sum, { open }) => sum + open, 0),
    ready_at: known && event.paused === null ? forecast.done_at : null,
    late,
    missing_at_start: Math.min(queued + sent + running, Math.ceil(lateness * rate)),
  }
}

/** How many attendees have no outcome yet. */
export const openOf = ({ attendees }: ClaimedEvent): number => attendees.queued + attendees.in_flight

/** Whether nothing is left to do for the event. */
export const isSettled = (event: EventStatus): boolean =>
  event.state === 'unclaimed' || (event.state !== 'in_progress' && openOf(event) === 0)
