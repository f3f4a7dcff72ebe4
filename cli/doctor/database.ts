import { createHash } from 'node:crypto'
import type { DoctorAnswer } from '../../src/core/contract.ts'
import type { Database, SchemaVersionError } from '../../src/core/database.ts'
import { amount } from '../words.ts'
import { type Check, note, ok, problem, unknown } from './check.ts'

/** What the database said, and how far its clock is ahead of this machine's, in ms. */
export interface Diagnosis {
  answer: DoctorAnswer
  ahead: number
}

/** @param nudgeSecret the secret that the nudge's function has, if it is known */
export async function askDatabase(database: Database, nudgeSecret: string | undefined): Promise<Diagnosis> {
  const nudge_digest =
    nudgeSecret === undefined ? null : createHash('sha256').update(nudgeSecret).digest('hex')
  const before = Date.now()
  const answer = await database.doctor({ nudge_digest })
  return { answer, ahead: Date.parse(answer.now) - (before + Date.now()) / 2 }
}

const LEGACY = 'eyJ' // how a JWT begins

export const checkKey = (key: string): Check =>
  key.startsWith(LEGACY)
    ? note(
        'connection',
        'The database answers; the key is a legacy service_role key.',
        'Supabase retires these keys: make a secret key (sb_secret_…), and put it in the place of this one.',
      )
    : ok('connection', 'The database answers.')

export const checkSchema = (error: SchemaVersionError | null): Check =>
  error === null
    ? ok('schema', 'The database has the schema version of this program.')
    : problem('schema', `${error.message}.`, 'First npx event-indexer migrate, then npx serverless deploy.')

export function checkTables({ misfits }: DoctorAnswer): Check {
  if (misfits.length === 0) return ok('tables', 'The app’s tables have the columns and types that are read.')
  return problem(
    'tables',
    misfits.join('; '),
    'Give the columns back their names and types; or name the new ones in app-tables.yml, see "When the names change" in docs/your-tables.md.',
  )
}

export function checkTriggers({ triggers }: DoctorAnswer): Check {
  const of = (state: string) => triggers.filter((trigger) => trigger.state === state)
  const [missing, disabled] = [of('missing'), of('disabled')]
  if (missing.length + disabled.length === 0)
    return ok('triggers', `All ${triggers.length} triggers on the app’s tables are there and enabled.`)
  const list = (state: string, some: typeof triggers) =>
    some.length > 0
      ? [`${state}: ${some.map(({ table, trigger }) => `${trigger} on ${table}`).join(', ')}`]
      : []
  return problem(
    'triggers',
    `${[...list('Missing', missing), ...list('Disabled', disabled)].join('. ')}.`,
    'As the database’s owner: npx event-indexer migrate --again. Then, for what was not noted: npx event-indexer audit --all --repair.',
  )
}

export function checkRights({ exposed, withheld }: DoctorAnswer): Check {
  const found = [
    ...(exposed.length > 0 ? [`Others may use: ${exposed.join(', ')}.`] : []),
    ...(withheld.length > 0 ? [`service_role may not execute: ${withheld.join(', ')}.`] : []),
  ]
  if (found.length === 0)
    return ok('rights', 'Our functions are executed by service_role alone, our tables are open to nobody.')
  return problem(
    'rights',
    found.join(' '),
    'As the database’s owner: npx event-indexer migrate --again sets the rights of all functions; revoke those on tables by hand.',
  )
}

const SKEW_MS = 30_000 // what a token may be ahead of the clock that checks it

/**
 * @param ahead how far the database's clock is ahead of this machine's, in ms
 * @param awsAhead AWS's likewise, if it is known
 */
export function checkClocks(ahead: number, awsAhead: number | undefined): Check {
  const seconds = (ms: number) => `${ms < 0 ? '−' : '+'}${(Math.abs(ms) / 1000).toFixed(1)} s`
  const ofAws = awsAhead === undefined ? '' : `, AWS ${seconds(awsAhead)}`
  const found = `Against this machine’s clock: the database ${seconds(ahead)}${ofAws}.`
  if (Math.abs(ahead) <= SKEW_MS && Math.abs(awsAhead ?? 0) <= SKEW_MS) return ok('clocks', found)
  return problem(
    'clocks',
    found,
    awsAhead === undefined || Math.abs(ahead - awsAhead) <= SKEW_MS
      ? 'Set this machine’s clock by NTP: AWS refuses requests that are five minutes off.'
      : 'Database and AWS disagree. If the database is yours, set the clock of its server by NTP: keys are refused, and times in the ledger are wrong.',
  )
}

/** What is known of the nudge beside the database. */
export interface NudgeFacts {
  /** The URL of the deployed function, if it is known. */
  deployedUrl: string | undefined
  /** What the URL answers to a request without the secret; the error when it does not. */
  ask: (url: string) => Promise<number | Error>
}

export async function checkNudge(
  { now, pg_net, nudge_url, nudge_secret, nudged_at }: DoctorAnswer,
  { deployedUrl, ask }: NudgeFacts,
): Promise<Check> {
  const configure = `As the database’s owner: select indexing.configure_nudge('${deployedUrl ?? '<NudgeUrl>'}', '<the nudge secret>');`
  if (nudge_url === null)
    return note('nudge', 'No nudge is configured: changes are followed within a minute.', configure)
  if (!pg_net)
    return problem(
      'nudge',
      'The extension pg_net is not there, so that no nudge can be sent.',
      'As the database’s owner: create extension pg_net;',
    )
  if (deployedUrl !== undefined && new URL(deployedUrl).href !== new URL(nudge_url).href)
    return problem(
      'nudge',
      `Nudges go to ${nudge_url}, and the function of this stage is at ${deployedUrl}.`,
      configure,
    )
  if (nudge_secret === false)
    return problem('nudge', 'The database has another nudge secret than the function.', configure)
  const status = await ask(nudge_url)
  if (status instanceof Error)
    return problem(
      'nudge',
      `${nudge_url} does not answer: ${status.message}.`,
      `Is the nudge function deployed? ${configure}`,
    )
  if (status !== 403)
    return problem(
      'nudge',
      `${nudge_url} answers ${status} to a request without the secret, where the nudge function answers 403.`,
      `Is it the URL of the nudge function? ${configure}`,
    )
  if (nudge_secret === null)
    return unknown(
      'nudge',
      'The function answers; whether the database has its secret is not known.',
      'Your role or user needs ssm:GetParameter on the parameter of the nudge’s secret.',
    )
  if (nudged_at === null)
    return note(
      'nudge',
      'The function answers, and the database has its secret; no nudge has arrived since it was configured.',
      'The next change of an attendee of a claimed event sends one. If it does not arrive: select * from net._http_response order by created desc limit 5;',
    )
  const minutes = Math.round((Date.parse(now) - Date.parse(nudged_at)) / 60_000)
  return ok(
    'nudge',
    `The function answers, and the database has its secret. The last nudge arrived ${minutes < 1 ? 'within the last minute' : `${amount(minutes, 'minute')} ago`}.`,
  )
}

export function checkLastRun(
  { last_run_tps }: DoctorAnswer,
  bucket: string | null,
  tps: number | undefined,
): Check {
  if (bucket === null)
    return problem(
      'last run',
      'The scheduler has not run yet.',
      'Deploy it, or invoke it by hand; if it runs and fails, its log says why.',
    )
  if (tps !== undefined && tps !== last_run_tps)
    return note(
      'last run',
      `The scheduler last ran with ${amount(last_run_tps, 'IndexFaces call')} a second, and is deployed with ${tps}.`,
      'If it does not change within two minutes, the scheduler does not run.',
    )
  return ok('last run', `The scheduler has run, with ${amount(last_run_tps, 'IndexFaces call')} a second.`)
}
