import { describe, expect, it } from 'vitest'
import {
  cut,
  jsonOf,
  plain,
  plainLines,
  redrawer,
  type Terminal,
  terminalOf,
  wrap,
} from '../../cli/terminal.ts'
import { amount, away, clock, span } from '../../cli/words.ts'

const now = new Date('2026-11-23T18:40:00')

describe('a time span', () => {
  it.each([
    [0, '0 s'],
    [59_400, '59 s'],
    [59_600, '1 min'],
    [20 * 60_000, '20 min'],
    [60 * 60_000, '1 h'],
    [130 * 60_000, '2 h 10 min'],
    [47.9 * 3_600_000, '47 h 54 min'],
    [72 * 3_600_000, '3 days'],
  ])('of %d ms is said as %s', (ms, said) => {
    expect(span(ms)).toBe(said)
  })

  it('lies ahead or behind', () => {
    expect(away('2026-11-23T19:00:00', now)).toBe('in 20 min')
    expect(away('2026-11-23T18:10:00', now)).toBe('30 min ago')
  })
})

describe('a time', () => {
  it('is said without its day when it is less than half a day away, also past midnight', () => {
    expect(clock('2026-11-23T19:00:00', now)).toBe('19:00')
    expect(clock('2026-11-24T00:30:00', now)).toBe('00:30')
  })

  it('is said with its day when it is further away', () => {
    expect(clock('2026-11-25T19:00:00', now)).toBe('Wed 25 Nov 19:00')
    expect(clock('2027-01-02T19:00:00', now)).toBe('Sat 2 Jan 2027 19:00')
  })
})

it('an amount has its noun in the right number', () => {
  expect([0, 1, 12_345].map((value) => amount(value, 'attendee'))).toEqual([
    '0 attendees',
    '1 attendee',
    '12,345 attendees',
  ])
})

describe('text of others', () => {
  it('cannot steer the terminal or turn the direction of writing', () => {
    expect(plain('a\u001b[31mred\u001b[0m\r\nname\u202ereversed\u0007')).toBe('a [31mred [0m name reversed')
  })

  it('keeps its lines where it has some, and nothing else that steers', () => {
    expect(plainLines('one\n  two\u009b2J\u061c')).toBe('one\n  two 2J ')
  })

  it('parses to the same value from JSON, without characters that control the terminal', () => {
    const text = 'a\u001b[2J\u007f\u009b2J\u061c\u202e\u2066b\n'
    const json = jsonOf({ text }, 2)
    expect(json).toBe(String.raw`{
  "text": "a\u001b[2J\u007f\u009b2J\u061c\u202e\u2066b\n"
}`)
    expect(JSON.parse(json)).toEqual({ text })
  })

  it('is cut with a mark', () => {
    expect(cut('abcdef', 4)).toBe('abc…')
    expect(cut('abcd', 4)).toBe('abcd')
  })

  it('is broken between words, and words are left whole', () => {
    expect(wrap('one two three extraordinarily long', 12, 2)).toBe(
      '  one two\n  three\n  extraordinarily\n  long',
    )
  })
})

describe('colours', () => {
  const paintOn = (isTTY: boolean, environment: Record<string, string>) =>
    terminalOf({ isTTY } as NodeJS.WriteStream, environment).paint('red', 'LATE')

  it('are for terminals alone, and only without NO_COLOR', () => {
    expect(paintOn(true, {})).not.toBe('LATE')
    expect(paintOn(true, { NO_COLOR: '1' })).toBe('LATE')
    expect(paintOn(false, {})).toBe('LATE')
  })
})

describe('drawing again', () => {
  function draw(rows: number, texts: string[]): string[] {
    const written: string[] = []
    const terminal: Terminal = {
      columns: 80,
      rows,
      live: true,
      paint: (_, text) => text,
      write: (text) => void written.push(text),
    }
    const redraw = redrawer(terminal)
    for (const text of texts) redraw(text)
    return written
  }

  it('goes up by as many lines as were drawn before', () => {
    const [first, second] = draw(24, ['a\nb\nc', 'd'])
    expect(first).not.toContain('\x1b[3A')
    expect(second?.startsWith('\x1b[3A\r\x1b[J')).toBe(true)
  })

  it('leaves out what does not fit on the screen, and says how much', () => {
    const [written = '', again = ''] = draw(5, ['1\n2\n3\n4\n5\n6', '1'])
    expect(written).toContain('1\n2\n3\n… 3 more lines')
    expect(written).not.toContain('4\n')
    expect(again).toContain('\x1b[4A')
  })
})
