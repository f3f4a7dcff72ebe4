import type pg from 'pg'
import { describe, expect, it } from 'vitest'
import * as z from 'zod'
import {
  type ReleasedArgument,
  type ReleasedContract,
  releasedContract,
} from '../../supabase/released-contract.ts'
import { answersOf } from '../support/answers.ts'
import { openLedger } from '../support/ledger.ts'

const MINE = { ofItsOwn: true }

/** What in a database breaks the functions of a release. */
async function breaksFor(
  { functions }: ReleasedContract,
  owner: pg.Pool,
  answers: Record<string, unknown>,
): Promise<string[]> {
  const { rows } = await owner.query<{ name: string; args: Record<string, ReleasedArgument> | null }>(`
    select substr(p.proname, 10) as name, (
      select jsonb_object_agg(a.name, jsonb_build_object('type', format_type(a.type, null), 'optional', a.n > p.pronargs - p.pronargdefaults))
      from unnest(p.proargnames, p.proargtypes::oid[]) with ordinality as a(name, type, n)
    ) as args
    from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname like 'indexing\\_%'
      and has_function_privilege('service_role', p.oid, 'EXECUTE')`)
  const served = new Map(rows.map(({ name, args }) => [name, args ?? {}]))
  return Object.entries(functions).flatMap(([name, { args, answer }]) => {
    const now = served.get(name)
    if (now === undefined) return [`${name} is gone`]
    const read = z.fromJSONSchema(answer).safeParse(answers[name])
    return [
      ...Object.entries(args)
        .filter(([arg, { type }]) => now[arg]?.type !== type)
        .map(([arg]) => `${name} does not take ${arg} any more`),
      ...Object.entries(now)
        .filter(([arg, { optional }]) => !optional && (args[arg] === undefined || args[arg].optional))
        .map(([arg]) => `${name} insists on ${arg}`),
      ...(read.success ? [] : [`${name} answers otherwise: ${z.prettifyError(read.error)}`]),
    ]
  })
}

/** A copy of the contract in which one function is another. */
const withFunction = (contract: ReleasedContract, name: string, other: object): ReleasedContract => ({
  ...contract,
  functions: {
    ...contract.functions,
    [name]: { args: {}, answer: {}, ...contract.functions[name], ...other },
  },
})

describe('while the functions of the last release are deployed beside the migrated database', () => {
  const released = releasedContract()

  it('all that they call is there, takes what they give, and answers what they read; or the schema version stops them', async () => {
    const ledger = await openLedger()
    const answers = await answersOf(ledger)
    if (answers.schema_version !== released.schema_version) return // tested in test/system/side-by-side.test.ts
    expect(await breaksFor(released, ledger.owner, answers)).toEqual([])
  })

  it.each([
    ['a function that is gone', withFunction(released, 'sweep', {}), 'sweep is gone'],
    [
      'an argument that is gone',
      withFunction(released, 'claim', {
        args: {
          window_minutes: { type: 'double precision', optional: false },
          now: { type: 'text', optional: true },
        },
      }),
      'claim does not take now any more',
    ],
    [
      'an argument of another type',
      withFunction(released, 'claim', { args: { window_minutes: { type: 'integer', optional: false } } }),
      'claim does not take window_minutes any more',
    ],
    [
      'an argument that has to be given now',
      withFunction(released, 'claim', { args: {} }),
      'claim insists on window_minutes',
    ],
    [
      'an answer that lacks what is read of it',
      withFunction(released, 'rescue', {
        answer: {
          type: 'object',
          properties: { jobs: { type: 'number' }, swept: { type: 'number' } },
          required: ['jobs', 'swept'],
        },
      }),
      'rescue answers otherwise',
    ],
    [
      'an answer of another type',
      withFunction(released, 'claim', { answer: { type: 'array', items: { type: 'string' } } }),
      'claim answers otherwise',
    ],
  ])('%s is found', async (_, contract, found) => {
    const ledger = await openLedger()
    const breaks = await breaksFor(contract, ledger.owner, await answersOf(ledger))
    expect(breaks).toEqual([expect.stringContaining(found)])
  })

  it('a new function, a new argument that may be left out and a new field of an answer do not disturb them', async () => {
    const ledger = await openLedger(MINE)
    await ledger.owner.query(`
      create function public.indexing_of_tomorrow(arg text) returns integer language sql as 'select 1';
      drop function public.indexing_pauses();
      create function public.indexing_pauses(since timestamptz default null) returns jsonb language sql as $$
        select jsonb_build_array(jsonb_build_object('event_id', null, 'since', now(), 'by', 'somebody')) $$`)
    expect(await breaksFor(released, ledger.owner, await answersOf(ledger))).toEqual([])
  })

  it('a function that service_role may not execute any more is found', async () => {
    const ledger = await openLedger(MINE)
    const answers = await answersOf(ledger)
    await ledger.owner.query('revoke execute on function public.indexing_lease from service_role, public')
    expect(await breaksFor(released, ledger.owner, answers)).toEqual(['lease is gone'])
  })
})
