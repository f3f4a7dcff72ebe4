import type { OpenErasure } from '../../src/core/contract.ts'
import { EXIT, type ExitCode, OperatorError } from '../exit.ts'
import type { Ledger } from '../ledger.ts'
import { sendOutboxAndTell } from '../outbox.ts'
import { type Asked, isOver, proofOf, verify } from '../receipts.ts'
import { type Session, titleOf } from '../session.ts'
import { viewProof } from '../views/receipts.ts'
import { watch } from '../watch.ts'
import { amount } from '../words.ts'

export interface EraseOptions {
  event?: string
  user?: string
  /** Whether to do it; otherwise it is only told. */
  yes?: boolean
  /** Whether to wait until it is proven. */
  wait: boolean
}

/** Erases an attendee, or the whole of an event, for a request by law, and waits until it is proven. */
export async function erase(session: Session, options: EraseOptions): Promise<ExitCode> {
  const { system, terminal } = session
  const ledger = await session.ledger()
  terminal.write(`${titleOf(session)}\n\n`)
  const told =
    options.user === undefined
      ? await eraseEvent(ledger, options)
      : await eraseAttendee(ledger, options.user, options)
  terminal.write(`${told}\n`)
  const who = `${options.user ? ` --user ${options.user}` : ''}${options.event ? ` --event ${options.event}` : ''}`
  if (!options.yes) {
    terminal.write(`Nothing is done yet. To do it: npx event-indexer erase${system.option}${who} --yes\n`)
    return EXIT.notDone
  }
  if (options.user !== undefined) terminal.write(`${await sendOutboxAndTell(ledger, session.system)}\n`)
  const again = `npx event-indexer prove${system.option}${who}`
  if (!options.wait) {
    terminal.write(`To see whether it is done: ${again}\n`)
    return EXIT.done
  }
  return follow(session, ledger, options, again)
}

async function eraseAttendee(ledger: Ledger, user: string, { event, yes }: EraseOptions): Promise<string> {
  const ask = (act: boolean) => ledger.database.erase_attendee({ attendee: user, event: event ?? null, act })
  const { events, queued } = await ask(yes === true)
  if (events.length === 0)
    throw new OperatorError(
      EXIT.notDone,
      `${event ? `Event ${event} has` : 'No event has'} a collection and a job of attendee ${user}: there is nothing to erase. What was erased before: npx event-indexer prove --user ${user}`,
    )
  const wanted = events.filter((each) => each.wanted)
  if (wanted.length > 0) throw new OperatorError(EXIT.notDone, standing(user, wanted))
  if (yes) await ledger.note({ action: 'erase', event: event ?? null, attendee: user, touched: queued })
  const faces = events.filter(({ face }) => face).length
  const of = `attendee ${user} in ${amount(events.length, 'collection')}, ${amount(faces, 'face')} of theirs known`
  return yes
    ? `Erasing ${of}: ${amount(queued, 'erasure')} queued, before everything else.`
    : `This erases every face of ${of}. Faces that are not known are looked for, too.`
}

const standing = (user: string, events: { event_id: string }[]): string =>
  `Attendee ${user} consents at ${amount(events.length, 'event')} (${events.map(({ event_id }) => event_id).join(', ')}): their face would be indexed again at once. Nothing was erased.
Take the consent back in the app, or have the account deleted there; that erases the face within seconds, by itself:
  update event_consents set allow_recognition = false where user_id = '${user}';
Then run this again: it deletes all faces again, also those that the ledger does not know, and waits for the proof.`

async function eraseEvent(ledger: Ledger, { event = '', yes }: EraseOptions): Promise<string> {
  const ask = (act: boolean) => ledger.database.erase_event({ event, act })
  const first = await ask(yes === true)
  if (first === null)
    throw new OperatorError(
      EXIT.notDone,
      `Event ${event} is not claimed: there is nothing of ours to erase. What was erased before: npx event-indexer prove --event ${event}`,
    )
  if (first.collection === 'deleted')
    throw new OperatorError(
      EXIT.notDone,
      `The collection of event ${event} is deleted already: npx event-indexer prove --event ${event}`,
    )
  if (first.held)
    throw new OperatorError(
      EXIT.held,
      `The app is changing event ${event} at this moment. Nothing was erased: try again.`,
    )
  if (yes) await ledger.note({ action: 'erase', event, touched: first.attendees })
  for (let more = first.more; more; ) more = (await ask(true))?.more === true
  const what = `the collection of event ${event}: ${amount(first.attendees, 'attendee')}, ${amount(first.faces, 'face')} known`
  return yes
    ? `Closing ${what}. The scheduler deletes it within a minute, and once more two minutes later.`
    : `This deletes ${what}. It sets cleanup_status, so the app searches in it no more, and nobody is indexed again.`
}

/** Waits until no erasure is open, says each step, and prints the receipts. */
async function follow({ terminal }: Session, ledger: Ledger, asked: Asked, again: string): Promise<ExitCode> {
  let said = ''
  const { seen, interrupted } = await watch({
    look: async () => (await proofOf(ledger, asked)).open.filter(({ user_id }) => isAsked(user_id, asked)),
    show: (open) => {
      const line = stepOf(open)
      if (line !== said) terminal.write(`${new Date().toLocaleTimeString('en-GB')}  ${line}\n`)
      said = line
    },
    isOver: (open) => open.length === 0 || open.every((each) => !isOver(each) && each.state === 'failed'),
  })
  if (interrupted) {
    terminal.write(`\nIt goes on. To see whether it is done: ${again}\n`)
    return EXIT.interrupted
  }
  const proof = await proofOf(ledger, asked)
  const chain = await verify(ledger, proof.receipts)
  terminal.write(`\n${viewProof({ ...proof, receipts: latestOf(proof.receipts) }, chain, terminal)}\n`)
  return (seen ?? []).length > 0 || chain.broken_at !== null ? EXIT.failed : EXIT.done
}

/** The closing of an event is no matter of one attendee. */
const isAsked = (user: string | null, asked: Asked): boolean => asked.user === undefined || user !== null

function stepOf(open: OpenErasure[]): string {
  const waiting = open.filter((each) => !isOver(each))
  if (open.length === 0) return 'proven'
  if (waiting.length === 0) return 'seen to be gone; the receipt is being written'
  const failed = waiting.filter(({ state }) => state === 'failed')
  if (failed.length === waiting.length) return `failed: ${failed[0]?.error ?? 'without an error'}`
  const deleted = waiting.filter(({ deleted_at }) => deleted_at !== null)
  if (deleted.length === waiting.length) return 'deleted; a later listing has to show it, in a minute or two'
  return `${amount(waiting.length - deleted.length, 'erasure')} under way`
}

/** One of each event. */
const latestOf = <R extends { event_id: string }>(receipts: R[]): R[] => [
  ...new Map(receipts.toReversed().map((receipt) => [receipt.event_id, receipt])).values(),
]
