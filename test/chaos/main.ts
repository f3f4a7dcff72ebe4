import './quiet.ts'
import { Command, InvalidArgumentError } from 'commander'
import type { Violation } from './invariants.ts'
import {
  type Calls,
  type Outcome,
  REST_BOUND_MINUTES,
  type SimulationOptions,
  simulate,
} from './simulation.ts'
import { openStage } from './stage.ts'

const whole = (text: string) => {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1)
    throw new InvalidArgumentError('It must be a whole number from 1.')
  return value
}

const options = new Command('chaos')
  .description(
    'Runs the whole system through seeded trouble, lets it come to rest, and checks its promises from outside.',
  )
  .option('--seeds <n>', 'how many seeds', whole, 20)
  .option('--seed <n>', 'the first of them', whole, 1)
  .option('--minutes <n>', 'of trouble, simulated', whole, 8)
  .option('--attendees <n>', 'consents of attendees at the start', whole, 200)
  .option('--events <n>', 'events at the start', whole, 5)
  .option(
    '--quiet',
    'no call fails and nobody dies: only messages twice, late and in any order, and lost nudges',
  )
  .option('--stop', 'stop at the first violation')
  .parse()
  .opts<SimulationOptions & { seeds: number; seed: number; stop?: true }>()

const SHOWN = 3

function tell(seed: number, { violations, history }: Outcome): void {
  console.log(`seed ${seed}: ${violations.length} violations`)
  for (const violation of violations.slice(0, SHOWN)) {
    console.log(`\n  BROKEN: ${say(violation)}\n  What happened to them:`)
    for (const line of history.of(violation.about)) console.log(`    ${line}`)
  }
  console.log(`\n  Again: npm run chaos -- --seed ${seed} --seeds 1`)
}

const say = ({ promise, about, found }: Violation) =>
  `${promise}: ${found} (event ${about.event ?? '-'}, attendee ${about.user ?? '-'})`

const percent = (part: number, whole: number) => `${((part / whole) * 100).toFixed(1)} %`

/** What was spent beyond the calls that were needed, and why. */
function sayCalls({ made, unusable, needed, idle }: Calls): string {
  const faults = made - unusable - needed - idle
  return (
    `${made} IndexFaces calls: ${needed} needed, ${unusable} for unusable photos, ${faults} met a fault (+${percent(faults, needed)}), ` +
    `${idle} for faces that were there (+${percent(idle, needed)})`
  )
}

const stage = await openStage()
const totals = {
  seeds: 0,
  broken: 0,
  made: 0,
  unusable: 0,
  needed: 0,
  idle: 0,
  changes: 0,
  deaths: 0,
  failedJobs: 0,
  longestRest: 0,
}
try {
  for (let seed = options.seed; seed < options.seed + options.seeds; seed++) {
    const began = performance.now()
    const outcome = await simulate(seed, stage, options)
    totals.seeds++
    for (const kind of ['made', 'unusable', 'needed', 'idle'] as const) totals[kind] += outcome.calls[kind]
    totals.changes += outcome.changes
    totals.deaths += outcome.deaths
    totals.failedJobs += outcome.failedJobs
    totals.longestRest = Math.max(totals.longestRest, outcome.restMinutes)
    if (outcome.violations.length > 0) {
      totals.broken++
      tell(seed, outcome)
      if (options.stop) break
    } else {
      const seconds = ((performance.now() - began) / 1000).toFixed(1)
      console.log(
        `seed ${seed}: kept; at rest after ${outcome.restMinutes.toFixed(1)} min, ${outcome.changes} changes, ` +
          `${outcome.deaths} deaths, ${outcome.failedJobs} failed jobs replayed, ` +
          `${sayCalls(outcome.calls)}${outcome.quiet ? ', quiet' : ''} (${seconds} s)`,
      )
    }
  }
} finally {
  await stage.close()
}

const { seeds, broken, changes, deaths, failedJobs, longestRest } = totals
console.log(
  `${seeds} seeds, ${broken} broken. ${changes} changes of the app, ${deaths} invocations killed, ${failedJobs} failed jobs replayed; ` +
    `${sayCalls(totals)}; ` +
    `longest way to rest ${longestRest.toFixed(1)} of ${REST_BOUND_MINUTES} simulated minutes.`,
)
process.exit(broken > 0 ? 1 : 0)
