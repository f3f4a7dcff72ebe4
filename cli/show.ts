import type { EventStatus } from './status.ts'
import { redrawer, type Terminal } from './terminal.ts'
import { viewLine } from './views/view.ts'
import type { Watching } from './watch.ts'
import { span } from './words.ts'

export interface Shown<T> {
  events: (seen: T) => EventStatus[]
  /** All of it, for a terminal. */
  text: (seen: T) => string
  /** What Ctrl-C does. */
  hint: string
}

/** Shows what a watch sees: drawn over itself on a terminal; elsewhere a line for each event that has changed. */
export function showAgain<T>(terminal: Terminal, { events, text, hint }: Shown<T>): Watching<T>['show'] {
  if (!terminal.live) return lineByLine(terminal, events)
  const redraw = redrawer(terminal)
  return (seen, silentSince) => {
    const silence = silentSince && span(Date.now() - silentSince.getTime())
    const foot = silence
      ? terminal.paint('red', `No answer from the database for ${silence}: still waiting for it.`)
      : terminal.paint('dim', `As of ${timeOfDay()}. ${hint}.`)
    redraw(`${text(seen)}\n\n${foot}`)
  }
}

function lineByLine<T>(terminal: Terminal, eventsOf: Shown<T>['events']): Watching<T>['show'] {
  const shown = new Map<string, string>()
  let wasSilent = false
  return (seen, silentSince) => {
    if (silentSince && !wasSilent)
      terminal.write(`${timeOfDay()}  No answer from the database: still waiting for it.\n`)
    wasSilent = silentSince !== null
    for (const event of eventsOf(seen)) {
      const line = viewLine(event)
      if (shown.get(event.event_id) !== line) terminal.write(`${timeOfDay()}  ${line}\n`)
      shown.set(event.event_id, line)
    }
  }
}

const timeOfDay = () => new Date().toLocaleTimeString('en-GB')
