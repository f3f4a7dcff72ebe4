import './quiet.ts'
import { Command, InvalidArgumentError, Option } from 'commander'
import type { Violation } from './invariants.ts'
import { type Calls, type Outcome, REST_BOUND_MINUTES, simulate, simulateOutage } from './simulation.ts'
import { openStage, type Stage } from './stage.ts'
import { OUTAGES, type OutageName } from './trouble.ts'

const whole = (text: string) => {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1)
    throw new InvalidArgumentError('It must be a whole number from 1.')
  return value
}

interface Options {
  seeds: number
  seed: number
  minutes?: number
  attendees: number
  events: number
  quiet?: true
  stop?: true
  outage?: OutageName
  tps: number
}

const options = new Command('chaos')
  .description(
    'Runs the whole system through seeded trouble, lets it come to rest, and checks its promises from outside.',
  )
  .option('--seeds <n>', 'how many seeds', whole, 20)
  .option('--seed <n>', 'the first of them', whole, 1)
  .option('--minutes <n>', 'of trouble, simulated (8)', whole)
  .option('--attendees <n>', 'consents of attendees at the start', whole, 200)
  .option('--events <n>', 'events at the start', whole, 5)
  .option(
    '--quiet',
    'no call fails and nobody dies: only messages twice, late and in any order, and lost nudges',
  )
  .addOption(
    new Option(
      '--outage <what>',
      'instead: one thing is out for --minutes (2) while events are being indexed',
    ).choices(Object.keys(OUTAGES)),
  )
  .option('--tps <n>', 'IndexFaces calls a second that the account allows, with --outage', whole, 5)
  .option('--stop', 'stop at the first violation')
  .parse()
  .opts<Options>()

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

/** Runs the seeds; returns how many broke a promise. */
async function runSeeds(stage: Stage): Promise<number> {
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
  for (let seed = options.seed; seed < options.seed + options.seeds; seed++) {
    const began = performance.now()
    const outcome = await simulate(seed, stage, { ...options, minutes: options.minutes ?? 8 })
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

  const { seeds, broken, changes, deaths, failedJobs, longestRest } = totals
  console.log(
    `${seeds} seeds, ${broken} broken. ${changes} changes of the app, ${deaths} invocations killed, ${failedJobs} failed jobs replayed; ` +
      `${sayCalls(totals)}; ` +
      `longest way to rest ${longestRest.toFixed(1)} of ${REST_BOUND_MINUTES} simulated minutes.`,
  )
  return broken
}

/** Has something be out and tells of the way back; returns how many promises were found broken. */
async function runOutage(name: OutageName, stage: Stage): Promise<number> {
  const { attendees, events, minutes = 2, tps } = options
  const outcome = await simulateOutage(name, stage, { attendees, events, minutes, indexFacesTps: tps })
  const { openBefore, openAfter, calls, deadLetters, failedJobs, replay, violations } = outcome
  const lines = [
    `${name} out for ${minutes} min, at ${tps} IndexFaces calls a second, simulated; ${outcome.attendees} attendees of ${events} events:`,
    `  without an outcome when it began ${openBefore}, when it ended ${openAfter}: ${(openAfter / tps / 60).toFixed(1)} min of calls at least`,
    `  everything has an end ${outcome.minutes.toFixed(1)} min after it was over, ${failedJobs} attendees as failed`,
    ...(replay
      ? [
          `  one replay: everything has an end after ${replay.minutes.toFixed(1)} min, ${replay.failedJobs} failed again`,
        ]
      : []),
    `  ${deadLetters} dead letters; ${sayCalls(calls)}`,
    ...violations.map((violation) => `  BROKEN: ${say(violation)}`),
  ]
  console.log(lines.join('\n'))
  return violations.length
}

const stage = await openStage()
let broken: number
try {
  broken = options.outage ? await runOutage(options.outage, stage) : await runSeeds(stage)
} finally {
  await stage.close()
}
process.exit(broken > 0 ? 1 : 0)
