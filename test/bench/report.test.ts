import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { costOf, replaceBetween, resultsOf } from '../../bench/report/markdown.ts'
import { svgOf, thinned } from '../../bench/report/picture.ts'
import type { Report } from '../../bench/report/report.ts'
import { markdownOf, textOf } from '../../bench/report/table.ts'
import { median, quantile } from '../../bench/scenario.ts'

describe('a table', () => {
  const table = {
    head: ['what', 'ms', 'share', 'goal'],
    rows: [
      ['one | two', 12, '3.5 %', ''],
      ['first\nsecond', 1.25, '100 %', '≤ 1.05'],
    ],
  }

  it('becomes Markdown with figures to the right, and cells that stay cells', () => {
    expect(markdownOf(table)).toBe(
      [
        '| what | ms | share | goal |',
        '| --- | --: | --: | --- |',
        '| one \\| two | 12 | 3.5 % |  |',
        '| first<br>second | 1.25 | 100 % | ≤ 1.05 |',
      ].join('\n'),
    )
  })

  it('becomes text for a terminal with every cell in it', () => {
    const text = textOf(table)
    for (const cell of [...table.head, 'one | two', '12', '3.5 %', 'first', 'second', '≤ 1.05'])
      expect(text).toContain(cell)
  })
})

describe('a page', () => {
  const page = 'Before.\n<!-- results -->\nold\n<!-- /results -->\nAfter.\n'

  it('gets a text in the place of the one before, and is otherwise left alone', () => {
    const once = replaceBetween(page, 'results', 'new')
    expect(once).toBe('Before.\n<!-- results -->\n\nnew\n\n<!-- /results -->\nAfter.\n')
    expect(replaceBetween(once, 'results', 'new')).toBe(once)
  })

  it('without that place is refused', () => {
    expect(() => replaceBetween(page, 'cost', 'new')).toThrow('<!-- cost -->')
    expect(() => replaceBetween('<!-- /cost --><!-- cost -->', 'cost', 'new')).toThrow('<!-- cost -->')
  })
})

const report: Report = {
  machine: {
    cpu: 'A processor',
    cores: 2,
    memory_gb: 8,
    system: 'Linux 6',
    node: 'v20.19.0',
    postgres: '17.1',
    load_before: 0.2,
  },
  scenarios: { idle: { idle_run_ms: 40 }, cold: { error: 'Error: no such file' } },
  shown: {
    idle: {
      title: 'an idle run',
      table: { head: ['ms'], rows: [[40]] },
      notes: ['A note.'],
      broken: ['it reads what has settled'],
      picture: { title: 'A curve', x: { label: 'x' }, y: { label: 'y' }, curves: [] },
    },
  },
}

describe('the results of a run', () => {
  const text = resultsOf(report, 'pictures')

  it('say what machine they are of, and what stood beside them on it', () => {
    expect(text).toContain('2 cores (A processor), 8 GB, Linux 6, Node v20.19.0, Postgres 17.1; load 0.2')
  })

  it('show each scenario with its notes, its picture, and what did not hold', () => {
    expect(text).toContain('### `idle`: an idle run\n\n| ms |')
    expect(text).toContain('A note.')
    expect(text).toContain('**Broken:** it reads what has settled.')
    expect(text).toContain('![A curve](pictures/idle.svg)')
  })

  it('say of a scenario that failed why', () => {
    expect(text).toContain('### `cold`\n\nCould not be measured: Error: no such file')
  })

  it('have no cost where what it is computed from is missing', () => {
    expect(costOf(report, { memoryGb: 0.5, logBytes: 1000 })).toMatch(/has not measured/)
  })
})

describe('a picture', () => {
  const points = Array.from({ length: 1001 }, (_, x): [number, number] => [x / 3, x * x])
  const picture = {
    title: 'How it went',
    x: { label: 'seconds' },
    y: { label: 'attendees' },
    curves: [{ name: 'ours', points }],
  }

  it('is an SVG with its title, axes and curves named', () => {
    const svg = svgOf(picture)
    expect(svg).toMatch(/^<svg /)
    for (const name of ['How it went', 'seconds', 'attendees', 'ours']) expect(svg).toContain(name)
  })

  it('keeps its first and last point when it is thinned', () => {
    const [curve] = thinned(picture).curves
    expect(curve?.points.length).toBeLessThanOrEqual(301)
    expect(curve?.points.at(0)).toEqual([0, 0])
    expect(curve?.points.at(-1)).toEqual([333.33, 1e6])
  })
})

describe('a distribution', () => {
  it('has a median, of an even number of values the mean of the two in the middle', () => {
    expect(median([3, 1, 2])).toBe(2)
    expect(median([4, 1, 3, 2])).toBe(2.5)
    expect(median([])).toBeNaN()
  })

  it('has quantiles that are values of it', () => {
    const values = Array.from({ length: 100 }, (_, index) => 100 - index)
    expect(quantile(values, 0.95)).toBe(95)
    expect(quantile(values, 1)).toBe(100)
    expect(quantile([7], 0.95)).toBe(7)
  })
})

it('the README compares this system with others as the bench has measured it', async () => {
  const page = await readFile(new URL('../../bench/README.md', import.meta.url), 'utf8')
  const measured = (row: string) => {
    const cells = page.match(new RegExp(`^\\| ${row} \\|(.*)\\|$`, 'm'))?.[1]?.split('|') ?? []
    return { ours: Number(cells[0]), naive: Number(cells[2]), sequential: Number(cells[3]) }
  }
  const ratio = measured('as a ratio to N / quota')
  const throttled = measured('throttled share of IndexFaces calls').naive * 100
  const said = /takes ([\d.]+) times.* latencies, ([\d.]+) times.* quota: ([\d.]+) %.* take ([\d.]+) times/s
    .exec(await readFile(new URL('../../README.md', import.meta.url), 'utf8'))
    ?.slice(1)
    .map(Number)
  // A run is not like the other.
  for (const [index, figure] of [ratio.ours, ratio.sequential, throttled, ratio.naive].entries())
    expect(Math.abs((said?.[index] ?? 0) / figure - 1)).toBeLessThan(0.15)
})
