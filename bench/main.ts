import { mkdir, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { Command, Option } from 'commander'
import { readDeployment } from '../local/deployment.ts'
import { bundleFunctions } from '../local/lambda-host/bundle.ts'
import { Parts } from '../local/parts.ts'
import { startPostgres } from '../local/postgres.ts'
import { closeOnSignals } from '../local/shutdown.ts'
import { describeMachine, load } from './machine.ts'
import { svgOf, thinned } from './report/picture.ts'
import type { Report } from './report/report.ts'
import { textOf } from './report/table.ts'
import type { Bench } from './scenario.ts'
import { scenarios } from './scenarios.ts'

const ROOT = new URL('../', import.meta.url)
const OUTPUT = new URL('output/bench/', ROOT)

const { only, json } = new Command('npm run bench --')
  .description(
    'Measures the system on this machine: its real handlers against real Postgres, SQS and S3, and a Rekognition with a quota.',
  )
  .addOption(new Option('--only <name...>', 'these scenarios').choices(scenarios.map(({ name }) => name)))
  .option('--json <file>', 'write the figures to a file')
  .parse()
  .opts<{ only?: string[]; json?: string }>()

const parts = new Parts()
closeOnSignals(() => parts.close())
const postgres = await parts.start('Postgres', startPostgres())
const deployment = await readDeployment(new URL('serverless.yml', ROOT))
const bundle = await parts.start('bundling the functions', bundleFunctions(deployment, ROOT))
const bench: Bench = { postgres, bundle, say: (line) => console.log(`  ${line}`) }

const database = await postgres.createDatabase()
const report: Report = { machine: await describeMachine(database.url), scenarios: {}, shown: {} }
await database.drop()
await mkdir(OUTPUT, { recursive: true })

for (const { name, title, run } of scenarios) {
  if (only && !only.includes(name)) continue
  console.log(`\n${name}: ${title} (load ${load()})`)
  const began = performance.now()
  try {
    const { figures, table, notes = [], broken = [], picture } = await run(bench)
    report.scenarios[name] = figures
    report.shown[name] = { title, table, notes, broken, ...(picture && { picture: thinned(picture) }) }
    console.log(textOf(table))
    for (const note of notes) console.log(`  ${note}`)
    for (const what of broken) console.error(`  BROKEN: ${what}`)
    if (broken.length > 0) process.exitCode = 1
    if (picture) {
      const file = new URL(`${name}.svg`, OUTPUT)
      await writeFile(file, svgOf(picture))
      console.log(`  drawn in ${fileURLToPath(file)}`)
    }
  } catch (error) {
    report.scenarios[name] = { error: String(error) }
    console.error(error)
    process.exitCode = 1
  }
  console.log(`  took ${((performance.now() - began) / 1000).toFixed(0)} s`)
  if (json) await writeFile(json, `${JSON.stringify(report, null, 2)}\n`)
}
await parts.close()
