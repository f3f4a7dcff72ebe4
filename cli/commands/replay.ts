import { EXIT, type ExitCode } from '../exit.ts'
import type { Ledger, ReplayRequest } from '../ledger.ts'
import { sendOutboxAndTell } from '../outbox.ts'
import { announce, replay as begin, outcomeOf, previewOf } from '../replay.ts'
import { type Session, titleOf } from '../session.ts'
import { showAgain } from '../show.ts'
import { type EventStatus, isSettled, lookAt } from '../status.ts'
import { viewOverview } from '../views/overview.ts'
import { watch } from '../watch.ts'
import { amount } from '../words.ts'

export interface ReplayOptions {
  event?: string
  user?: string
  reason?: string
  /** Whether to follow the events until they are settled. */
  wait: boolean
  /** Whether to replay the failed attendees of all events without asking. */
  yes?: boolean
}

export async function replay(session: Session, options: ReplayOptions): Promise<ExitCode> {
  const { system, terminal } = session
  const ledger = await session.ledger()
  const request: ReplayRequest = {
    event: options.event ?? null,
    attendee: options.user ?? null,
    why: options.reason ?? null,
  }
  if (request.event === null && !options.yes && !(await confirmed(ledger, request, session)))
    return EXIT.notDone
  const begun = await begin(ledger, system, request)
  const look = async () => (await lookAt(ledger, begun.events)).events
  const before = await look()
  terminal.write(`${titleOf(session)}\n\n${announce(begun)}\n`)
  terminal.write(`${await sendOutboxAndTell(ledger, system)}\n\n`)
  const heldCode = begun.held.length > 0 ? EXIT.held : EXIT.done
  const paused = before.filter((event) => event.paused !== null)
  if (paused.length > 0)
    terminal.write(
      `Paused, and so not sent: ${amount(paused.length, 'event')}. npx event-indexer resume${system.option} …\n\n`,
    )
  if (!options.wait || paused.length === before.length) return heldCode

  const show = showAgain<EventStatus[]>(terminal, {
    events: (events) => events,
    text: (events) => viewOverview(events, { terminal, now: new Date(), option: system.option }),
    hint: 'Ctrl-C leaves it running',
  })
  const { seen, interrupted } = await watch({
    look,
    show,
    isOver: (events) => events.every((event) => isSettled(event) || event.paused !== null),
  })
  if (interrupted) {
    terminal.write(`\nLeft running. To follow it again: npx event-indexer status${system.option} --watch\n`)
    return EXIT.interrupted
  }
  return conclude(before, seen ?? [], begun.begun ? ' again' : '', session) ?? heldCode
}

/** Says what a replay of all events would touch, and asks whether to do it. */
async function confirmed(ledger: Ledger, request: ReplayRequest, { terminal }: Session): Promise<boolean> {
  const preview = await previewOf(ledger, request)
  if (preview === null) return true // nothing would be touched, which the replay itself explains
  terminal.write(`${preview.lines.join('\n')}\n`)
  if (terminal.ask === undefined) {
    terminal.write('Nothing was replayed. To do it: the same command with --yes.\n')
    return false
  }
  if (await terminal.ask('Replay them? [y/N] ')) return true
  terminal.write('Nothing was replayed.\n')
  return false
}

/** Says how it ended, `again` where something was replayed; returns the exit code of a failure. */
function conclude(
  before: EventStatus[],
  ended: EventStatus[],
  again: ' again' | '',
  { system, terminal }: Session,
): ExitCode | null {
  const { failedAgain, stillFailed } = outcomeOf(before, ended)
  const [event] = ended
  const why = ended.length === 1 && event ? ` --event ${event.event_id}` : ''
  const rest =
    stillFailed > 0 ? ` Still failed, for they were not replayed: ${amount(stillFailed, 'attendee')}.` : ''
  if (failedAgain > 0) {
    const text = `Failed${again}: ${amount(failedAgain, 'attendee')}.`
    terminal.write(
      `\n${terminal.paint('red', text)} Why: npx event-indexer status${system.option}${why}${rest}\n`,
    )
    return EXIT.failed
  }
  terminal.write(`\n${terminal.paint('green', `Done: nobody has failed${again}.`)}${rest}\n`)
  return null
}
