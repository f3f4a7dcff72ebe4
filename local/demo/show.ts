import { styleText } from 'node:util'
import { Presets, SingleBar } from 'cli-progress'
import Table from 'cli-table3'

const colours = process.stdout.isTTY && !process.env.NO_COLOR
const style = (format: Parameters<typeof styleText>[0], text: string) =>
  colours ? styleText(format, text, { validateStream: false }) : text

let isMuted = false
let runningBar: SingleBar | undefined

const print = (text: string) => {
  if (!isMuted) console.log(text)
}

export const heading = (text: string) => print(`\n${style('bold', text)}`)
export const say = (text: string) => print(`  ${text}`)
export const good = (text: string) => style('green', text)
export const bad = (text: string) => style('red', text)
export const faint = (text: string) => style('dim', text)

/** Says that the process is stopping; nothing is said after it. */
export function sayStopping(): void {
  runningBar?.stop()
  if (!isMuted) process.stdout.write('\nstopping…\n')
  isMuted = true
}

/** A table without rules, indented like everything that is said. */
export function table(head: string[], rows: string[][]): void {
  const lines = new Table({
    head: head.map((title) => faint(title)),
    style: { head: [], border: [], 'padding-left': 2, 'padding-right': 0 },
    chars: Object.fromEntries(RULES.map((place) => [place, ''])),
    colWidths: [],
  })
  lines.push(...rows)
  print(
    lines
      .toString()
      .split('\n')
      .map((line) => line.trimEnd())
      .join('\n'),
  )
}

const RULES = [
  'top',
  'top-mid',
  'top-left',
  'top-right',
  'bottom',
  'bottom-mid',
  'bottom-left',
  'bottom-right',
  'left',
  'left-mid',
  'mid',
  'mid-mid',
  'right',
  'right-mid',
  'middle',
] as const

/** Progress of a known number of things: a bar on a terminal, elsewhere a line whenever another fifth is done. */
export function progress(total: number, what: string): { update: (done: number) => void; stop: () => void } {
  if (process.stdout.isTTY) {
    const bar = new SingleBar(
      { format: `  {bar} {value}/{total} ${what}, {duration_formatted}`, hideCursor: true },
      Presets.shades_classic,
    )
    bar.start(total, 0)
    runningBar = bar
    return {
      update: (done) => {
        if (!isMuted) bar.update(done)
      },
      stop: () => {
        bar.stop()
        runningBar = undefined
      },
    }
  }
  let said = -1
  return {
    update: (done) => {
      const fifth = Math.floor((done / Math.max(1, total)) * 5)
      if (fifth <= said) return
      said = fifth
      say(`${done}/${total} ${what}`)
    },
    stop: () => {},
  }
}

export const counted = (count: number, one: string, many = `${one}s`) =>
  `${count} ${count === 1 ? one : many}`
