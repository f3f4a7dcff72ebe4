import type pg from 'pg'
import { describe, expect, it } from 'vitest'
import { openLedger } from '../support/ledger.ts'

const OURS = `
  select p.oid, p.oid::regprocedure::text as signature, n.nspname as schema, p.proname as name, p.prosecdef as definer,
    p.prosrc as source, (select l.lanname from pg_language l where l.oid = p.prolang) as language, p.prorettype = 'trigger'::regtype as trigger, coalesce(p.proconfig, '{}') as settings
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace
  where n.nspname = 'indexing' or (n.nspname = 'public' and p.proname ~ '^indexing_')`

interface OurFunction {
  signature: string
  schema: string
  name: string
  definer: boolean
  source: string
  language: string
  trigger: boolean
  settings: string[]
}

const ourFunctions = async (owner: pg.Pool) => (await owner.query<OurFunction>(`${OURS} order by 2`)).rows

const executableBy = async (owner: pg.Pool, role: string) =>
  (
    await owner.query<{ name: string }>(
      `select name from (${OURS}) f where has_function_privilege($1, f.oid, 'execute') order by name`,
      [role],
    )
  ).rows.map(({ name }) => name)

describe('the rights on our functions', () => {
  it.each(['anon', 'authenticated', 'authenticator'])('are none for %s', async (role) => {
    const { owner } = await openLedger()
    expect(await executableBy(owner, role)).toEqual([])
  })

  it("are the API's functions and no other for service_role", async () => {
    const { owner } = await openLedger()
    const served = (await ourFunctions(owner)).filter(({ schema }) => schema === 'public')
    expect(served.length).toBeGreaterThan(10)
    expect(await executableBy(owner, 'service_role')).toEqual(served.map(({ name }) => name).sort())
  })

  it('are refused to a caller with one of the public keys', async () => {
    const { owner } = await openLedger()
    for (const role of ['anon', 'authenticated']) {
      const client = await owner.connect()
      await client.query(`set role ${role}`)
      const refused = { code: '42501' }
      await expect(client.query('select public.indexing_claim(20)')).rejects.toMatchObject(refused)
      await expect(
        client.query("select public.indexing_lease('[]', gen_random_uuid(), 60)"),
      ).rejects.toMatchObject(refused)
      await expect(client.query("select indexing.nudge('photos')")).rejects.toMatchObject(refused)
      await expect(client.query('select * from indexing.face_jobs')).rejects.toMatchObject(refused)
      client.release(true)
    }
  })
})

describe('the rights on our tables', () => {
  it('are none, for any role of the API, on any table, view and sequence', async () => {
    const { owner } = await openLedger()
    const { rows } = await owner.query(`
      select role, c.relname, p from pg_class c,
        unnest(array['anon', 'authenticated', 'service_role', 'authenticator']) role,
        unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) p
      where c.relnamespace = 'indexing'::regnamespace and c.relkind in ('r', 'v', 'm', 'p', 'f')
        and has_table_privilege(role, c.oid, p)
      union all
      select role, c.relname, p from pg_class c,
        unnest(array['anon', 'authenticated', 'service_role', 'authenticator']) role, unnest(array['usage', 'select', 'update']) p
      where c.relnamespace = 'indexing'::regnamespace and c.relkind = 'S' and has_sequence_privilege(role, c.oid, p)
      union all
      select role, 'schema indexing', p from unnest(array['anon', 'authenticated', 'service_role', 'authenticator']) role,
        unnest(array['usage', 'create']) p
      where has_schema_privilege(role, 'indexing', p)`)
    expect(rows).toEqual([])
  })

  it('would be none still if somebody granted them: row-level security has no policy', async () => {
    const { owner } = await openLedger()
    const { rows } = await owner.query(`
      select c.relname, c.relrowsecurity as secured, (select count(*)::int from pg_policy where polrelid = c.oid) as policies
      from pg_class c where c.relnamespace = 'indexing'::regnamespace and c.relkind = 'r' order by 1`)
    expect(rows.length).toBeGreaterThan(4)
    for (const row of rows) expect(row).toMatchObject({ secured: true, policies: 0 })
  })
})

describe('every function', () => {
  it('has an empty search_path, or is a plain expression that is inlined into functions that have', async () => {
    const { owner } = await openLedger()
    for (const { signature, definer, language, settings } of await ourFunctions(owner)) {
      const inlined = settings.length === 0 && language === 'sql' && !definer
      expect({ signature, empty: inlined || settings.includes('search_path=""') }).toEqual({
        signature,
        empty: true,
      })
    }
  })

  it("runs with its owner's rights where the API or the app calls it, and only there", async () => {
    const { owner } = await openLedger()
    for (const { signature, schema, trigger, definer } of await ourFunctions(owner))
      expect({ signature, definer }).toEqual({ signature, definer: schema === 'public' || trigger })
  })

  it('names rows in every update and delete, without which the API of Supabase refuses them (pg-safeupdate)', async () => {
    const { owner } = await openLedger()
    const unsafe = (await ourFunctions(owner)).flatMap(({ signature, source }) =>
      statementsOf(source)
        .filter((statement) => /^(update (?!skip)|delete )/.test(statement) && !/\bwhere\b/.test(statement))
        .map((statement) => `${signature}: ${statement}`),
    )
    expect(unsafe).toEqual([])
  })
})

/** The statements of a function, those inside of others too, from their first word on and without what they contain. */
function statementsOf(source: string): string[] {
  const text = source.replace(/--.*/g, '').replace(/\s+/g, ' ')
  return [...text.matchAll(/(?<!for )\b(update|delete) (?=from |indexing\.|public\.)/g)].map((start) => {
    let depth = 0
    let statement = ''
    for (const character of text.slice(start.index)) {
      if (character === ')') depth--
      if (depth < 0 || (depth === 0 && character === ';')) break
      if (depth === 0) statement += character
      if (character === '(') depth++
    }
    return statement
  })
}
