import { once } from 'node:events'
import { createInterface } from 'node:readline/promises'
import { styleText } from 'node:util'
import Table from 'cli-table3'

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan'

/** What is written to, as far as it decides on how things look. */
export interface Terminal {
  columns: number
  /** Infinity where nothing scrolls out of sight. */
  rows: number
  /** Whether it can be redrawn. */
  live: boolean
  /** Colours text, where colours are wanted. */
  paint: (style: Style, text: string) => string
  write: (text: string) => void
  /** Asks whether to go on, where somebody is there to answer. */
  ask?: (question: string) => Promise<boolean>
}

const USUAL_COLUMNS = 100
const MOST_COLUMNS = 120

/** A stream as a terminal: with colours on a TTY without NO_COLOR. */
export function terminalOf(
  stream: NodeJS.WriteStream,
  environment: Record<string, string | undefined>,
): Terminal {
  const colours = stream.isTTY && !environment.NO_COLOR
  return {
    get columns() {
      return Math.min(stream.columns || USUAL_COLUMNS, MOST_COLUMNS)
    },
    get rows() {
      return (stream.isTTY && stream.rows) || Infinity
    },
    live: stream.isTTY && environment.TERM !== 'dumb',
    paint: (style, text) => (colours ? styleText(style, text, { validateStream: false }) : text),
    write: (text) => void stream.write(text),
    ...(stream.isTTY && process.stdin.isTTY ? { ask: askOn(stream) } : {}),
  }
}

const askOn = (output: NodeJS.WriteStream) => async (question: string) => {
  const lines = createInterface({ input: process.stdin, output })
  const closed = once(lines, 'close').then(() => '') // Ctrl-C and Ctrl-D are a no
  const answer = await Promise.race([lines.question(question), closed])
  lines.close()
  return /^y(es)?$/i.test(answer.trim())
}

const CURSOR_UP = (lines: number) => (lines > 0 ? `\x1b[${lines}A` : '')
const CLEAR_BELOW = '\x1b[J'
// Lines that are too long are cut, so that as many lines are drawn as there are.
const [CUT_LINES, WRAP_LINES] = ['\x1b[?7l', '\x1b[?7h']

/** Draws text over what it drew before; what does not fit on the screen is left out. */
export function redrawer(terminal: Terminal): (text: string) => void {
  let drawn = 0
  return (text) => {
    const lines = text.trimEnd().split('\n')
    const room = terminal.rows - 1
    if (lines.length > room) {
      const hidden = lines.length - room + 1
      lines.splice(room - 1, hidden, `… ${hidden} more lines: a taller window shows them`)
    }
    terminal.write(`${CURSOR_UP(drawn)}\r${CLEAR_BELOW}${CUT_LINES}${lines.join('\n')}\n${WRAP_LINES}`)
    drawn = lines.length
  }
}

// Also those that turn the direction of writing.
const CONTROL = '[\\p{Cc}\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]'
const CONTROLS = new RegExp(`${CONTROL}+`, 'gu')
const CONTROLS_BUT_NEWLINES = new RegExp(`(?!\\n)${CONTROL}`, 'gu')

/** Text of others on one line, without what would steer the terminal. */
export const plain = (text: string): string => text.replace(CONTROLS, ' ').trim()

/** Such text of several lines, with its indents. */
export const plainLines = (text: string): string => text.replace(CONTROLS_BUT_NEWLINES, ' ')

/** A value as JSON that parses to the same, in which such characters are escaped, those too that JSON lets through. */
export const jsonOf = (value: unknown, indent?: number): string =>
  JSON.stringify(value, null, indent).replace(
    CONTROLS_BUT_NEWLINES,
    (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )

/** Text cut to so many characters. */
export const cut = (text: string, length: number): string =>
  text.length > length ? `${text.slice(0, length - 1)}…` : text

/** Breaks text into lines between words, each after an indent of so many spaces. */
export function wrap(text: string, columns: number, indent: number): string {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line && indent + line.length + 1 + word.length > columns) {
      lines.push(line)
      line = word
    } else line = line ? `${line} ${word}` : word
  }
  return [...lines, line].map((each) => ' '.repeat(indent) + each).join('\n')
}

export interface Column {
  head: string
  align?: 'left' | 'right'
  width: number
}

const NO_LINES = {
  ...{ top: '', 'top-mid': '', 'top-left': '', 'top-right': '' },
  ...{ bottom: '', 'bottom-mid': '', 'bottom-left': '', 'bottom-right': '' },
  ...{ left: '', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: '  ' },
}

export interface Row {
  cells: string[]
  /** Lines of their own that follow it. */
  below?: string[]
}

/** A table without lines between its cells; what is too long for its column is cut. */
export function tableOf(columns: Column[], rows: Row[], { paint }: Terminal): string {
  const table = new Table({
    chars: NO_LINES,
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [], compact: true },
    colAligns: columns.map(({ align = 'left' }) => align),
    colWidths: columns.map(({ width }) => width),
  })
  table.push(
    columns.map(({ head }) => paint('dim', head)),
    ...rows.map(({ cells }) => cells),
  )
  const [head = '', ...lines] = table.toString().split('\n')
  return [head, ...lines.flatMap((line, index) => [line, ...(rows[index]?.below ?? [])])]
    .map((line) => line.trimEnd())
    .join('\n')
}
