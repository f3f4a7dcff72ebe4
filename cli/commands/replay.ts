import { EXIT, type ExitCode } from '../exit.ts'
import type { ReplayRequest } from '../ledger.ts'
import { replay as begin, outcomeOf, type Replay, send } from '../replay.ts'
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
}

export async function replay(session: Session, options: ReplayOptions): Promise<ExitCode> {
  const { system, terminal } = session
  const ledger = await session.ledger()
  const request: ReplayRequest = {
    event: options.event ?? null,
    attendee: options.user ?? null,
    why: options.reason ?? null,
  }
  const begun = await begin(ledger, system, request)
  const look = async () => (await lookAt(ledger, begun.events)).events
  const before = await look()
  terminal.write(`${titleOf(session)}\n\n${announce(begun)}\n`)
  terminal.write(`${await send(ledger, session)}\n\n`)
  const heldCode = begun.held.length > 0 ? EXIT.held : EXIT.done
  if (!options.wait) return heldCode

  const show = showAgain<EventStatus[]>(terminal, {
    events: (events) => events,
    text: (events) => viewOverview(events, { terminal, now: new Date(), option: system.option }),
    hint: 'Ctrl-C leaves it running',
  })
  const { seen, interrupted } = await watch({ look, show, isOver: (events) => events.every(isSettled) })
  if (interrupted) {
    terminal.write(`\nLeft running. To follow it again: npx event-indexer status${system.option} --watch\n`)
    return EXIT.interrupted
  }
  return conclude(before, seen ?? [], begun.begun ? ' again' : '', session) ?? heldCode
}

function announce({ jobs, begun, events, held }: Replay): string {
  const of = amount(events.length, 'event')
  const first = begun
    ? jobs > 0
      ? `${amount(jobs, 'attendee')} of ${of} queued again.`
      : `${of} begun anew.`
    : `Nothing new to replay: ${of} under way already.`
  if (held.length === 0) return first
  return `${first}\nThe app is changing ${amount(held.length, 'more event')} at this moment (${held.join(', ')}): replay again for the rest.`
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
