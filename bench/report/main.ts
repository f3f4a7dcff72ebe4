import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import { readDeployment } from '../../local/deployment.ts'
import { sizesOf } from '../cost/usage.ts'
import { costOf, replaceBetween, resultsOf } from './markdown.ts'
import { svgOf } from './picture.ts'
import type { Report } from './report.ts'

const README = new URL('../README.md', import.meta.url)
const PICTURES = 'pictures'

const [file = ''] = new Command('npm run bench:report --')
  .description('Writes the figures of a run of the bench, and what they cost, into bench/README.md.')
  .argument('<file>', 'as `npm run bench -- --json FILE` wrote it')
  .parse().args

const report = JSON.parse(await readFile(file, 'utf8')) as Report
const { functions } = await readDeployment(new URL('../../serverless.yml', import.meta.url))
const worker = functions.find(({ name }) => name === 'worker')
if (!worker) throw new Error('serverless.yml has no worker')

const directory = new URL(`${PICTURES}/`, README)
await mkdir(directory, { recursive: true })
for (const [name, { picture }] of Object.entries(report.shown))
  if (picture) await writeFile(new URL(`${name}.svg`, directory), svgOf(picture))

const page = await readFile(README, 'utf8')
const withResults = replaceBetween(page, 'results', resultsOf(report, PICTURES))
await writeFile(README, replaceBetween(withResults, 'cost', costOf(report, sizesOf(worker.memoryMB))))
console.log(`written to ${fileURLToPath(README)}`)
