import { type Audited, auditEvents, differs, finishRepair } from '../audit.ts'
import { collectionsOf } from '../collections.ts'
import { differencesInWords } from '../differences.ts'
import { EXIT, OperatorError } from '../exit.ts'
import type { Ledger } from '../ledger.ts'
import { sendOutboxAndTell } from '../outbox.ts'
import { pause, resume } from '../pause.ts'
import { countDeadLetters, redriveDeadLetters } from '../queues.ts'
import { REPLAYABLE } from '../reasons.ts'
import { announce, previewOf, replay } from '../replay.ts'
import { type EventStatus, lookAt, lookAtEvent, openOf } from '../status.ts'
import type { System } from '../system.ts'
import { nameOf } from '../views/view.ts'
import { amount, figure } from '../words.ts'
import type { Question } from './pages/confirm.ts'

/** What an action is about: an event, or everything for a null, and what narrows it. */
export interface Subject {
  event: string | null
  user: string | null
  reason: string | null
  message: string | null
}

export interface ActionParts {
  ledger: Ledger
  system: System
}

/** What has been done, in words; or what is to be asked next. */
export type Done =
  | { said: string[] }
  | { ask: Omit<Question, 'to' | 'fields' | 'back'> & { action: ActionName } }

/** A button: what it asks, with how many it would touch, and what it does. It calls what the command of its name calls. */
export interface Action {
  ask: (parts: ActionParts, subject: Subject) => Promise<Omit<Question, 'to' | 'fields' | 'back'>>
  act: (parts: ActionParts, subject: Subject) => Promise<Done>
}

export const EVENT_ACTIONS = ['pause', 'resume', 'replay', 'audit', 'repair'] as const
export const ALL_ACTIONS = ['pause', 'resume', 'replay'] as const
export const LETTER_ACTIONS = ['acknowledge', 'redrive'] as const

export type ActionName = (typeof EVENT_ACTIONS)[number] | (typeof LETTER_ACTIONS)[number]

export const ACTIONS: Record<ActionName, Action> = {
  pause: {
    ask: async ({ ledger }, { event }) => ({
      title: `Pause ${await nameOfSubject(ledger, event)}?`,
      lines: [await heldBy(ledger, event), 'Erasures go on, and the ledger is kept up to date.'],
      button: 'Pause',
    }),
    act: async ({ ledger }, { event }) => ({ said: [(await pause(ledger, event)).said] }),
  },

  resume: {
    ask: async ({ ledger }, { event }) => ({
      title: `Go on with ${await nameOfSubject(ledger, event)}?`,
      lines: [await heldBy(ledger, event), 'What has waited is sent at once.'],
      button: 'Resume',
    }),
    act: async ({ ledger, system }, { event }) => ({ said: [(await resume(ledger, system, event)).said] }),
  },

  replay: {
    ask: async ({ ledger }, subject) => {
      const preview = await previewOf(ledger, requestOf(subject))
      return {
        title: `Try ${subject.user ? 'one attendee' : 'attendees'} of ${await nameOfSubject(ledger, subject.event)} again?`,
        lines: preview?.lines ?? ['Nobody would be tried again.'],
        button: preview && 'Replay',
      }
    },
    act: async ({ ledger, system }, subject) => {
      const begun = await replay(ledger, system, requestOf(subject))
      return { said: [announce(begun), await sendOutboxAndTell(ledger, system)] }
    },
  },

  audit: {
    ask: async ({ ledger }, { event }) => {
      const { status } = await lookAtEvent(ledger, idOf(event))
      const indexed = status.state === 'unclaimed' ? 0 : status.attendees.indexed
      return {
        title: `Compare the collection of ${nameOf(status)}?`,
        lines: [
          `Its faces are listed, ${figure(indexed)} of them known, and compared with the ledger, the app's tables and the photos. Nothing is changed.`,
        ],
        button: 'Compare',
      }
    },
    act: async (parts, { event }) => {
      const audited = await compare(parts, idOf(event), false)
      const lines = linesOf(audited)
      if (!differs(audited)) return { said: lines }
      return {
        ask: { action: 'repair', title: 'The collection differs. Repair it?', lines, button: 'Repair' },
      }
    },
  },

  repair: {
    ask: async (parts, { event }) => {
      const audited = await compare(parts, idOf(event), false)
      return {
        title: 'Repair the collection?',
        lines: linesOf(audited),
        button: differs(audited) ? 'Repair' : null,
      }
    },
    act: async (parts, { event }) => {
      const audited = await compare(parts, idOf(event), true)
      const sent = await finishRepair(parts.ledger, parts.system, [audited])
      return { said: ['Repairing:', ...linesOf(audited), sent] }
    },
  },

  acknowledge: {
    ask: async ({ ledger }, { message }) => {
      const { total } = await ledger.deadLetters(1)
      const count = message === null ? total : 1
      return {
        title: 'Acknowledge dead letters?',
        lines: [
          `${amount(count, 'message')}${message ? ` (${message})` : ''} would be listed no more, and stay in the table.`,
        ],
        button: count > 0 ? 'Acknowledge' : null,
      }
    },
    act: async ({ ledger }, { message }) => {
      const count = await ledger.acknowledge(message === null ? null : [message])
      return { said: [`${amount(count, 'message')} acknowledged.`] }
    },
  },

  redrive: {
    ask: async ({ system }) => {
      const { waiting } = await countDeadLetters(system)
      return {
        title: 'Move dead letters back to the work queue?',
        lines: [`${amount(waiting, 'message')} would be moved and tried again.`],
        button: waiting > 0 ? 'Redrive' : null,
      }
    },
    act: async ({ ledger, system }) => {
      const { error, moved } = await redriveDeadLetters(system)
      await ledger.note({ action: 'redrive', touched: moved })
      const rest = error ? [`The rest is where it was: ${error.message}`] : []
      return { said: [`${amount(moved, 'message')} moved.`, ...rest] }
    },
  },
}

const requestOf = ({ event, reason, user }: Subject) => ({ event, attendee: user, why: reason })

/** @throws {OperatorError} for a reason that nobody is tried again for */
export function checkSubject({ reason }: Subject): void {
  if (reason !== null && !REPLAYABLE.includes(reason))
    throw new OperatorError(EXIT.notDone, `Nobody is tried again for the reason ${reason}.`)
}

function idOf(event: string | null): string {
  if (event === null) throw new OperatorError(EXIT.notDone, 'This is about one event.')
  return event
}

const nameOfSubject = async (ledger: Ledger, event: string | null): Promise<string> =>
  event === null ? 'all events' : nameOf((await lookAtEvent(ledger, event)).status)

/** How many a pause holds back. */
async function heldBy(ledger: Ledger, event: string | null): Promise<string> {
  const { events } = await lookAt(ledger, event === null ? null : [event])
  const open = events.reduce((sum, each) => sum + openOrWaiting(each), 0)
  return `${amount(open, 'attendee')} of ${amount(events.length, 'event')} without an outcome at this moment.`
}

const openOrWaiting = (event: EventStatus) => (event.state === 'unclaimed' ? event.attendees : openOf(event))

async function compare({ ledger, system }: ActionParts, event: string, repair: boolean): Promise<Audited> {
  const [audited] = await auditEvents([event], await collectionsOf(ledger, system), repair)
  if (audited) return audited
  throw new OperatorError(
    EXIT.notDone,
    'The event has no collection that could be compared: it is not made yet, is deleted, or somebody else compares it at this moment.',
  )
}

function linesOf(audited: Audited): string[] {
  const { differences, faces, foreign, recreated } = audited
  if (!differs(audited)) return [`The collection is as it should be: ${amount(faces, 'face')} of attendees.`]
  return [
    `The collection holds ${amount(faces, 'face')} of attendees.`,
    ...differencesInWords({ ...differences, recreated }).map((line) => `${line}.`),
    ...(foreign > 0
      ? [`${amount(foreign, 'face')} whose ExternalImageId is no user id: never touched.`]
      : []),
  ]
}
