import { styleText } from 'node:util'
import { Presets, SingleBar } from 'cli-progress'
import Table from 'cli-table3'

const colours = process.stdout.isTTY && !process.env.NO_COLOR
const style = (format: Parameters<typeof styleText>[0], text: string) =>
  colours ? styleText(format, text) : text

export const heading = (text: string) => console.log(`\n${style('bold', text)}`)
export const say = (text: string) => console.log(`  ${text}`)
export const good = (text: string) => style('green', text)
export const bad = (text: string) => style('red', text)
export const faint = (text: string) => style('dim', text)

/** A table without rules, indented like everything that is said. */
export function table(head: string[], rows: string[][]): void {
  const lines = new Table({
    head: head.map((title) => faint(title)),
    style: { head: [], border: [], 'padding-left': 2, 'padding-right': 0 },
    chars: Object.fromEntries(RULES.map((place) => [place, ''])),
    colWidths: [],
  })
  lines.push(...rows)
  console.log(lines.toString())
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
    return { update: (done) => bar.update(done), stop: () => bar.stop() }
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
