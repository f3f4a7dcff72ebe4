import { reasonOf } from '../reasons.ts'
import { type ClaimedEvent, type EventStatus, openOf, type UnclaimedEvent } from '../status.ts'
import { plain, type Terminal, wrap } from '../terminal.ts'
import { amount, away, clock, figure, span } from '../words.ts'
import { byCount, errorsOf, lateOf, type View } from './view.ts'

/** Something about an event that needs somebody. */
export interface Concern {
  label: 'LATE' | 'FAILED' | 'STUCK' | 'WAITS' | 'PAUSED' | 'SKIPPED' | 'LETTERS'
  text: string
  /** What to type, and the words that lead to it. */
  command?: string
  lead?: string
}

const INDENT = 8

/** The label, the text behind it, and the command below. */
export function viewConcern({ label, text, command, lead }: Concern, { paint, columns }: Terminal): string {
  const words = [text, lead].filter(Boolean).join(' ')
  const said = paint('red', label.padEnd(INDENT)) + wrap(words, columns, INDENT).trimStart()
  return command ? `${said}\n${' '.repeat(INDENT)}${command}` : said
}

/** All of an event that needs somebody: for a list of events, where its attendees are not listed. */
export function allConcernsOf(event: EventStatus, view: Pick<View, 'now' | 'option'>): Concern[] {
  const more = `npx event-indexer status${view.option} --event ${event.event_id}`
  return [
    ...concernsOf(event, view).map((concern) =>
      concern.label === 'STUCK' ? { command: more, ...concern } : concern,
    ),
    ...failureOf(event).map((concern) => ({ ...concern, lead: 'Why:', command: more })),
    ...skippedOf(event).map((concern) => ({ ...concern, lead: 'Who:', command: more })),
  ]
}

/** That messages which are not ours came out of our queues. */
export const lettersOf = (letters: number, { option }: Pick<View, 'option'>): Concern[] =>
  letters === 0
    ? []
    : [
        {
          label: 'LETTERS',
          text: `${amount(letters, 'message')} of the dead-letter queue ${letters === 1 ? 'was' : 'were'} not sent by this system. Who else may send to its queues?`,
          lead: 'What they are:',
          command: `npx event-indexer dead-letters${option}`,
        },
      ]

/** What of an event needs somebody, failed and skipped attendees aside. */
export function concernsOf(event: EventStatus, { now, option }: Pick<View, 'now' | 'option'>): Concern[] {
  if (event.state === 'unclaimed') {
    const text = whyUnclaimed(event, now)
    return [...pausedOf(event, option), ...(text ? [{ label: 'WAITS' as const, text }] : [])]
  }
  const concerns = pausedOf(event, option)
  if (event.late && event.ready_at) {
    const text = `ready at ${clock(event.ready_at, now)}, ${lateOf(event)} after its start, at the present pace; ${amount(event.missing_at_start, 'attendee')} will be missing then. ${FASTER}`
    concerns.push({ label: 'LATE', text })
  }
  if (event.state === 'failed' && event.reason === 'collection_failed') {
    const error = plain(event.collection_error ?? '')
    concerns.push({
      label: 'FAILED',
      text: `its collection could not be made. ${error} It is tried again by itself while the event lasts.`,
      lead: 'At once by:',
      command: `npx event-indexer replay${option} --event ${event.event_id}`,
    })
  } else if (event.collection_error !== null)
    concerns.push({
      label: 'STUCK',
      text: `its collection could not be ${event.collection === 'closing' ? 'deleted' : 'made'} yet. ${plain(event.collection_error)}`,
    })
  else if (isStuck(event, now)) concerns.push(stuck(event, now))
  return concerns
}

const FASTER =
  "If the account's quota of IndexFaces is higher than INDEX_FACES_TPS, deploy with that value; else ask AWS for more."

/** That an operator has paused it, while it has somebody to index. */
function pausedOf(event: EventStatus, option: string): Concern[] {
  const open = event.state === 'unclaimed' ? event.attendees : openOf(event)
  if (event.paused === null || open === 0) return []
  const what = event.paused === 'event' ? 'an operator has paused it' : 'an operator has paused everything'
  const late =
    event.state !== 'unclaimed' && event.late
      ? ` Even if it is resumed now, ${amount(event.missing_at_start, 'attendee')} will be missing at its start.`
      : ''
  return [
    {
      label: 'PAUSED',
      text: `${what}; ${amount(open, 'attendee')} wait, erasures go on.${late}`,
      lead: 'To go on:',
      command: `npx event-indexer resume${option} ${event.paused === 'event' ? `--event ${event.event_id}` : '--all'}`,
    },
  ]
}

const STUCK_AFTER_MS = 120_000 // what `ended_lately` looks back

/** Whether nobody of it has had an outcome of late though somebody waits, and it is its turn, as attempts show that went wrong. */
const isStuck = (event: ClaimedEvent, now: Date): boolean =>
  event.paused === null &&
  event.ended_lately === 0 &&
  (event.ahead === 0 || errorsOf(event).length > 0) &&
  event.oldest_open !== null &&
  now.getTime() - Date.parse(event.oldest_open) > STUCK_AFTER_MS

function stuck(event: ClaimedEvent, now: Date): Concern {
  const since = span(now.getTime() - Date.parse(event.last_ended ?? event.claimed_at))
  const [error] = errorsOf(event)
  const why = error
    ? ` The error of most: ${plain(error[0])}`
    : ' No attempt left an error: does the worker run?'
  return {
    label: 'STUCK',
    text: `${amount(openOf(event), 'attendee')} wait, and none had an outcome for ${since}.${why}`,
  }
}

/** That attendees have failed. */
function failureOf(event: EventStatus): Concern[] {
  if (event.state === 'unclaimed' || event.attendees.failed === 0) return []
  const { attendees, failed } = event
  return [{ label: 'FAILED', text: `${amount(attendees.failed, 'attendee')}: ${mostOften(failed)}.` }]
}

const MANY_SKIPPED = 0.2 // of all who have an outcome: more than the few whose photo is of no use

/** That many attendees are skipped, which nobody should overlook before the doors open. */
function skippedOf(event: EventStatus): Concern[] {
  if (event.state === 'unclaimed') return []
  const { failed, indexed, skipped } = event.attendees
  const all = indexed + skipped + failed
  if (skipped < 2 || skipped < MANY_SKIPPED * all) return []
  const text = `${figure(skipped)} of ${amount(all, 'attendee')}: ${mostOften(event.skipped)}. Nobody recognises them.`
  return [{ label: 'SKIPPED', text }]
}

/** The most frequent reason in words; with how many it has, where there are others. */
function mostOften(counts: Record<string, number>): string {
  const [[reason, count] = ['', 0], ...others] = byCount(counts)
  const { title } = reasonOf(reason)
  return others.length === 0 ? title : `${figure(count)} × ${title}, and others`
}

const CLAIM_MINUTES = 20 // before the start, unless the scheduler is called with another window
const GRACE_MINUTES = 3 // of the scheduler, which runs every minute

/** What keeps an event from its claim that should have been claimed by now. */
export function whyUnclaimed(
  { active, held_by, starts_at, status }: UnclaimedEvent,
  now: Date,
): string | undefined {
  if (starts_at === null) return undefined
  const minutes = (Date.parse(starts_at) - now.getTime()) / 60_000
  if (minutes > CLAIM_MINUTES - GRACE_MINUTES) return undefined
  const start = `${minutes < 0 ? 'started' : 'starts'} ${away(starts_at, now)}`
  if (!active) return `${start} and is not active: nobody is indexed.`
  if (status !== 'pending')
    return `${start}, and its indexing_status is ${status}: only pending events are claimed.`
  if (held_by) return `${start} and cannot be claimed: ${heldBy(held_by, now)}`
  return `${start} and is not claimed yet. The scheduler comes every minute: if this stays, its log says why.`
}

/** Which transaction of the app keeps the event from its claim, and how to end it. */
function heldBy({ pid, role, since }: NonNullable<UnclaimedEvent['held_by']>, now: Date): string {
  const who = [
    pid === null ? '' : `process ${pid} of the database`,
    role === null ? '' : `role ${role}`,
    since === null ? '' : `open for ${span(Math.max(0, now.getTime() - Date.parse(since)))}`,
  ].filter(Boolean)
  const end = pid === null ? '' : ` To end it, as the database's owner: select pg_terminate_backend(${pid}).`
  return `a transaction of the app holds its row locked${who.length > 0 ? ` (${who.join(', ')})` : ''}. Once that has ended, the next run of the scheduler claims it.${end}`
}
