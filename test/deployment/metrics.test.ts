import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { DAYS_A_MONTH, standingCost, sum } from '../../bench/cost/cost.ts'
import { PRICES } from '../../bench/cost/prices.ts'
import { ALARMS, METRICS, QUEUES, sizesOf, standingOf } from '../../bench/cost/usage.ts'
import { dashboard } from '../../deployment/dashboard.js'

const IDLE_RUN_MS = 60 // about what is measured; a cent a month
const root = fileURLToPath(new URL('../../', import.meta.url))
const read = (path: string) => readFile(join(root, path), 'utf8')

/** The metrics that the functions write, each with the dimension that splits it, '' for none. */
async function writtenMetrics(): Promise<Map<string, string>> {
  const files = (await readdir(join(root, 'src'), { recursive: true })).filter((file) => file.endsWith('.ts'))
  const sources = await Promise.all(files.map((file) => read(join('src', file))))
  const written = sources
    .join('\n')
    .matchAll(/\b(?:count|gauge|observe|countBy)\(\s*'([A-Za-z]+)'(?:, '([a-z]+)',)?/g)
  return new Map([...written].map(([, name = '', dimension = '']) => [name, dimension]))
}

/** The part of docs/operations.md under a heading, up to the next one of its level. */
async function section(heading: string): Promise<string> {
  const [, ...parts] = (await read('docs/operations.md')).split(/^## /m)
  const found = parts.find((part) => part.startsWith(`${heading}\n`))
  if (!found) throw new Error(`docs/operations.md has no section ${heading}`)
  return found
}

const sorted = (names: Iterable<string>) => [...names].toSorted()

it('docs/operations.md lists every metric that the functions write, with its dimension, and no other', async () => {
  const rows = (await section('Metrics')).matchAll(
    /^\| ((?:`\w+`(?:, )?)+) \| [^|]+ \| (?:`(\w+)`)? ?\| [^|]+ \| [^|]+ \|$/gm,
  )
  const listed = [...rows].flatMap(([, names = '', dimension = '']) =>
    [...names.matchAll(/\w+/g)].map(([name]) => `${name} ${dimension}`),
  )
  const written = [...(await writtenMetrics())].map(([name, dimension]) => `${name} ${dimension}`)
  expect(written.length).toBeGreaterThan(30)
  expect(sorted(listed)).toEqual(sorted(written))
})

it('docs/operations.md has a runbook for every alarm, and for no other', async () => {
  const runbooks = [...(await section('Runbooks')).matchAll(/^### (.*)$/gm)].flatMap(([, names = '']) =>
    names.split(', '),
  )
  const alarms = [...(await read('serverless.yml')).matchAll(/AlarmName: .*\$\{sls:stage\}-([\w-]+)$/gm)]
  expect(alarms.length).toBeGreaterThan(20)
  expect(sorted(runbooks)).toEqual(sorted(alarms.map(([, name = '']) => name)))
})

interface Widget {
  x: number
  y: number
  width: number
  properties: { title: string; region: string; metrics: (string | Record<string, unknown>)[][] }
}
const { widgets } = JSON.parse(dashboard({ service: 'event-indexer', stage: 'prod' })) as {
  widgets: Widget[]
}
const shown = widgets.flatMap(({ properties }) => properties.metrics)

it('the dashboard shows metrics that the functions write, split as they are', async () => {
  const written = await writtenMetrics()
  const names = shown.filter(([namespace]) => namespace === 'EventIndexer/prod')
  expect(names.length).toBeGreaterThan(20)
  for (const [, name, dimension, value] of names) {
    expect([name, written.get(String(name))]).toEqual([name, ''])
    expect([dimension, value]).toEqual(['service', 'event-indexer'])
  }
  const searches = shown.flatMap(([first]) => {
    const { expression = '' } = first as { expression?: string }
    return [...expression.matchAll(/^SEARCH\('\{"EventIndexer\/prod",(\w+),service\} MetricName="(\w+)"'/g)]
  })
  expect(searches.map(([, dimension, name]) => [name, dimension])).toEqual([
    ['Skipped', 'reason'],
    ['FailedAttempts', 'reason'],
    ['Drift', 'kind'],
  ])
  for (const [, dimension, name = ''] of searches) expect(written.get(name)).toBe(dimension)
})

it('the dashboard shows functions and queues that are deployed', async () => {
  const template = await read('serverless.yml')
  const functions = [...template.matchAll(/^ {4}handler: src\/(\w+)\//gm)].map(([, name]) => name)
  const queues = [...template.matchAll(/QueueName: \$\{self:service\}-\$\{sls:stage\}-([\w-]+)/g)].map(
    ([, name]) => name,
  )
  const valuesOf = (dimension: string) =>
    sorted(new Set(shown.filter((metric) => metric[2] === dimension).map((metric) => String(metric[3]))))
  expect(valuesOf('FunctionName')).toEqual(sorted(functions.map((name) => `event-indexer-prod-${name}`)))
  expect(valuesOf('LogGroupName')).toEqual(
    sorted(functions.map((name) => `/aws/lambda/event-indexer-prod-${name}`)),
  )
  expect(valuesOf('QueueName')).toEqual(sorted(queues.map((name) => `event-indexer-prod-${name}`)))
})

it('the dashboard fits: inside the grid, no widget on another, each id once in its widget', () => {
  const places = widgets.map(({ x, y }) => `${x}/${y}`)
  expect(new Set(places).size).toBe(places.length)
  for (const { x, width, properties } of widgets) {
    expect(x + width).toBeLessThanOrEqual(24)
    const ids = properties.metrics.flatMap((metric) => {
      const options = metric.at(-1)
      return typeof options === 'object' && options.id !== undefined ? [options.id] : []
    })
    expect(new Set(ids).size).toBe(ids.length)
  }
})

it('the cost of a day counts the alarms, queues and metrics that there are', async () => {
  const template = await read('serverless.yml')
  expect(template.match(/Type: AWS::CloudWatch::Alarm/g)).toHaveLength(ALARMS)
  expect(template.match(/Type: AWS::SQS::Queue$/gm)).toHaveLength(QUEUES)
  expect(METRICS).toBeGreaterThanOrEqual((await writtenMetrics()).size)
})

it('the pages have the prices that the cost is computed with, of a day and of a month without anybody', async () => {
  const dollars = (amount: number) => `$${amount.toFixed(2)} |`
  const sizes = sizesOf(512)
  const month = standingCost(standingOf(IDLE_RUN_MS), sizes)
  const about = `about $${sum(month).toFixed(0)} a month`
  const costs = await section('Costs')
  expect(costs).toContain(about)
  expect(costs).toContain(`IndexFaces calls | ${dollars(10_000 * (PRICES.indexFaces[0]?.each ?? 0))}`)
  expect(await read('README.md')).toContain(about)

  const page = await read('bench/README.md')
  for (const part of ['metrics', 'alarms', 'polls'] as const) expect(page).toContain(dollars(month[part]))
  const perDay = [...page.matchAll(/^\| 10,000 \| .* \| ours \| .* \| (\S+) \| \S+ \|$/gm)]
  expect(perDay.map(([, figure]) => figure)).toEqual(
    perDay.map(() => `$${(sum(month) / DAYS_A_MONTH).toFixed(2)}`),
  )
  expect(perDay).toHaveLength(2)
})
