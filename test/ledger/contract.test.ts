import { describe, expect, it } from 'vitest'
import {
  type Argument,
  COLLECTION_STATES,
  CONTRACT,
  type FunctionName,
  JOB_STATES,
  RUN_STATES,
} from '../../src/core/contract.ts'
import { answersOf } from '../support/answers.ts'
import { one, openLedger } from '../support/ledger.ts'

const PREFIX = 'indexing_'

describe('the contract of src/core with the database', () => {
  it('names every function that the API serves, with its arguments, their types and which of them may be left out', async () => {
    const { owner } = await openLedger()
    const { rows } = await owner.query<{ name: string; args: [string, string, boolean][] | null }>(`
      select p.proname as name, (
        select jsonb_agg(jsonb_build_array(a.name, format_type(a.type, null), a.n > p.pronargs - p.pronargdefaults) order by a.n)
        from unnest(p.proargnames, p.proargtypes::oid[]) with ordinality as a(name, type, n)
      ) as args
      from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname like 'indexing\\_%'`)
    const served = Object.fromEntries(
      rows.map(({ name, args }) => [
        name.slice(PREFIX.length),
        Object.fromEntries((args ?? []).map(readArgument)),
      ]),
    )
    const written = Object.fromEntries(
      Object.entries(CONTRACT).map(([name, { args }]) => [
        name,
        Object.fromEntries(Object.entries(args).map(told)),
      ]),
    )
    expect(served).toEqual(written)
  })

  it.each([
    ['face_jobs_state', JOB_STATES],
    ['event_runs_state', RUN_STATES],
    ['event_runs_collection', COLLECTION_STATES],
  ])('has the states of the check constraint %s', async (constraint, states) => {
    const { owner } = await openLedger()
    const definition = await one<string>(
      owner,
      'select pg_get_constraintdef(oid) from pg_constraint where conname = $1',
      [constraint],
    )
    expect([...definition.matchAll(/'(\w+)'/g)].map(([, state]) => state)).toEqual(states)
  })

  it('has the answers of all functions, as they are with an event under way', async () => {
    for (const [name, answer] of Object.entries(await answersOf(await openLedger()))) {
      const read = CONTRACT[name as FunctionName].answer.safeParse(answer)
      expect(read.success, `${name}: ${JSON.stringify(answer)} ${read.error?.message}`).toBe(true)
    }
  })
})

const readArgument = ([name, type, optional]: [string, string, boolean]) => [name, { type, optional }]
const told = ([name, { type, optional }]: [string, Argument<unknown>]) => [name, { type, optional }]
