import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, expect, it } from 'vitest'

// docs/faults.md says of every fault which log line, metric and alarm tell of it: held against the code and the template.

const root = fileURLToPath(new URL('../../', import.meta.url))
const read = (path: string) => readFile(join(root, path), 'utf8')

interface Row {
  fault: string
  log: string[]
  metrics: string[]
  alarms: string[]
  time: string
}

interface Alarm {
  metrics: string[]
  minutes: number
}

let rows: Row[]
let typescript: string
let sql: string
let alarms: Map<string, Alarm>

beforeAll(async () => {
  typescript = await sourcesIn('src', '.ts')
  sql = await sourcesIn('supabase/source', '.sql')
  rows = rowsOf(await read('docs/faults.md'))
  alarms = alarmsOf(await read('serverless.yml'))
})

async function sourcesIn(directory: string, extension: string): Promise<string> {
  const files = (await readdir(join(root, directory), { recursive: true })).filter((file) =>
    file.endsWith(extension),
  )
  return (await Promise.all(files.map((file) => read(join(directory, file))))).join('\n')
}

const quoted = (cell = '') => [...cell.matchAll(/`([^`]+)`/g)].map(([, text = '']) => text)

function rowsOf(page: string): Row[] {
  return page
    .split('\n')
    .filter((line) => line.startsWith('| ') && !line.startsWith('| **') && !line.startsWith('| fault |'))
    .map((line) => {
      const [fault = '', log, metrics, alarm = '', time = ''] = line.slice(2, -2).split(' | ')
      return {
        fault,
        log: quoted(log),
        metrics: quoted(metrics),
        alarms: alarm.startsWith('—') ? [] : quoted(alarm),
        time,
      }
    })
}

/** Of each alarm of the template: the metrics that it watches, and the time in which they have to be so. */
function alarmsOf(template: string): Map<string, Alarm> {
  const blocks = template.split('Type: AWS::CloudWatch::Alarm').slice(1)
  return new Map(
    blocks.map((block) => {
      const [own = ''] = block.split(/^ {4}\w+:$/m)
      const [, name = ''] = /AlarmName: .*\$\{sls:stage\}-([\w-]+)$/m.exec(own) ?? []
      const metrics = [...own.matchAll(/MetricName: (\w+)/g)].map(([, metric = '']) => metric)
      const numberOf = (field: string) => Number(new RegExp(`\\b${field}: (\\d+)`).exec(own)?.[1])
      return [name, { metrics, minutes: (numberOf('Period') * numberOf('EvaluationPeriods')) / 60 }]
    }),
  )
}

/** The variable part of a log line, and what it can be. */
const ACT = /\$\{act\}/g
const ACTS = ['create', 'delete']

const LAMBDA_SAYS = ['Task timed out', 'Runtime exited']

/** Whether the code can say this: as a log line (its variable part may be any word), an error's class, or a word of its own. */
function canBeSaid(text: string): boolean {
  const said = text.replace(/ ?…$/, '')
  if (LAMBDA_SAYS.includes(said)) return true
  if (/^\w+Error$/.test(said)) return typescript.includes(`class ${said} extends Error`)
  return ['create', 'delete'].some((act) =>
    `${typescript.replaceAll(/\$\{act\}/g, act)}\n${sql}`.includes(said),
  )
}

it('every log line of the table is one that the code writes', () => {
  expect(rows.length).toBeGreaterThan(50)
  const unsaid = rows.flatMap(({ fault, log }) =>
    log.filter((text) => !canBeSaid(text)).map((text) => `${fault}: ${text}`),
  )
  expect(unsaid).toEqual([])
})

it('every warning and error that the code logs is in the table', () => {
  const logged = [...typescript.matchAll(/logger\.(?:warn|error|critical)\(\s*['`]([^'`]+)['`]/g)].map(
    ([, text = '']) => text,
  )
  const listed = rows.flatMap(({ log }) => log.map((text) => text.replace(/ ?…$/, '')))
  expect(logged.length).toBeGreaterThan(15)
  const missing = logged.filter((text) =>
    ACTS.some((act) => !listed.some((line) => text.replace(ACT, act).startsWith(line))),
  )
  expect(missing).toEqual([])
})

it('every metric of the table is written by the code, or watched of Lambda and SQS', () => {
  const written = [...typescript.matchAll(/\b(?:count|gauge|observe|countBy)\(\s*'([A-Za-z]+)'/g)].map(
    ([, name = '']) => name,
  )
  const watched = [...alarms.values()].flatMap(({ metrics }) => metrics)
  const known = new Set([...written, ...watched])
  const unknown = rows.flatMap(({ fault, metrics }) =>
    metrics.filter((name) => !known.has(name) && !canBeSaid(name)).map((name) => `${fault}: ${name}`),
  )
  expect(unknown).toEqual([])
})

it('every alarm of the template is in the table, beside a fault whose metric it watches, and no other', () => {
  const listed = new Set(rows.flatMap((row) => row.alarms))
  expect([...listed].toSorted()).toEqual([...alarms.keys()].toSorted())
  const deaf = rows.flatMap(({ fault, metrics, alarms: named }) =>
    named
      .filter((name) => {
        const watches = alarms.get(name)?.metrics ?? []
        return !watches.some((metric) => metrics.includes(metric))
      })
      .map((name) => `${fault}: ${name}`),
  )
  expect(deaf).toEqual([])
})

it('no time to alarm is shorter than the alarm’s own periods', () => {
  const tooShort = rows.flatMap(({ fault, time, alarms: named }) => {
    const said = [...time.matchAll(/\d+/g)].map(([minutes]) => Number(minutes))
    const least = Math.min(...named.map((name) => alarms.get(name)?.minutes ?? Number.NaN))
    return named.length > 0 && said.length > 0 && Math.max(...said) < least ? [`${fault}: ${time}`] : []
  })
  expect(tooShort).toEqual([])
  const withoutTime = rows.filter(({ alarms: named, time }) => named.length > 0 && !/\d/.test(time))
  expect(withoutTime.map(({ fault }) => fault)).toEqual(['throttled']) // at the forecast
})
