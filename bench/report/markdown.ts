import type { Sizes } from '../cost/cost.ts'
import { PRICES } from '../cost/prices.ts'
import { costTable, standingTable } from '../cost/table.ts'
import { waysOf } from '../cost/usage.ts'
import type { Report } from './report.ts'
import { markdownOf } from './table.ts'

/** All scenarios of a run, with the machine they ran on. `pictures` is where their SVGs are, as the page names it. */
export function resultsOf({ machine, scenarios, shown }: Report, pictures: string): string {
  const { cpu, cores, memory_gb, system, node, postgres, load_before } = machine
  const on = `Measured on ${cores} cores (${cpu}), ${memory_gb} GB, ${system}, Node ${node}, Postgres ${postgres}; load ${load_before} before the run.`
  const sections = Object.entries(scenarios).map(([name, figures]) => {
    const of = shown[name]
    if (!of) return `### \`${name}\`\n\nCould not be measured: ${String(figures.error)}`
    return [
      `### \`${name}\`: ${of.title}`,
      markdownOf(of.table),
      ...of.notes,
      ...of.broken.map((what) => `**Broken:** ${what}.`),
      ...(of.picture ? [`![${of.picture.title}](${pictures}/${name}.svg)`] : []),
    ].join('\n\n')
  })
  return [on, ...sections].join('\n\n')
}

/** What a day costs by the counts of a run. */
export function costOf({ scenarios }: Report, sizes: Sizes): string {
  const ways = waysOf(scenarios)
  const [ours] = ways ?? []
  if (!ways || !ours) return 'This run has not measured `event` and `idle`, of whose counts the cost is made.'
  return [
    markdownOf(costTable(ways, sizes)),
    'In the column of logs, metrics and schedule, for `ours`:',
    markdownOf(standingTable(ours.standing, sizes)),
    `List prices of ${PRICES.region} in ${PRICES.date}, without free tiers; every day of the month alike.`,
  ].join('\n\n')
}

/**
 * Puts a text in the place of what stands between `<!-- name -->` and `<!-- /name -->`.
 * @throws {Error} when the page has no such place
 */
export function replaceBetween(page: string, name: string, text: string): string {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`]
  const from = page.indexOf(begin)
  const to = page.indexOf(end)
  if (from < 0 || to < from) throw new Error(`the page has no ${begin} … ${end}`)
  return `${page.slice(0, from + begin.length)}\n\n${text}\n\n${page.slice(to)}`
}
