import { createClient } from '@supabase/supabase-js'
import { SignJWT } from 'jose'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Gateway, startGateway } from '../../local/gateway/server.ts'
import { runSql } from '../../local/migrations.ts'
import type { Database } from '../../local/postgres.ts'
import { postgres } from '../support/database.ts'

const USER = '11111111-1111-4111-8111-111111111111'

let database: Database
let gateway: Gateway

beforeAll(async () => {
  database = await postgres.createDatabase()
  await runSql(
    database.url,
    `
    create function add(a integer, b integer default 10) returns integer language sql as 'select a + b';
    create function echo(value jsonb) returns jsonb language sql as 'select value';
    create function nothing() returns void language sql as '';
    create function numbers(amount integer) returns setof integer language sql as 'select generate_series(1, amount)';
    create function people(amount integer) returns table (id integer, name text)
      language sql as $$ select i, 'n' || i from generate_series(1, amount) i $$;
    create function whole(amount integer) returns jsonb
      language sql as 'select jsonb_agg(i) from generate_series(1, amount) i';
    create function who() returns jsonb language sql as
      $$ select jsonb_build_object('role', current_user, 'uid', auth.uid(),
           'timeout', current_setting('statement_timeout')) $$;
    create function slow(seconds float) returns void language sql as 'select pg_sleep(seconds)';
    create function fail(code text, message text) returns void language plpgsql as
      $$ begin raise exception '%', message using errcode = code, detail = 'more', hint = 'try'; end $$;
    create function twice(a integer) returns integer language sql as 'select 2 * a';
    create function twice(a text) returns text language sql as 'select a || a';
    create function guarded() returns integer language sql as 'select 1';
    revoke all on function guarded() from public, anon, authenticated;
    create table written (value integer);
    grant all on written to service_role;
    create function write(number integer) returns integer language sql as 'insert into written values (number) returning value';
    create function write_stable(number integer) returns integer language sql stable as 'select write(number)';
    `,
  )
  gateway = await startGateway(database)
})

afterAll(async () => {
  await gateway.close()
  await database.drop()
})

/** A client as apps make it: the anonymous key, and the token of an attendee where one has signed in. */
const connect = (key = gateway.serviceRoleKey, token?: string) =>
  createClient(gateway.url, key, {
    auth: { persistSession: false },
    realtime: { transport: class {} as never },
    ...(token !== undefined && { accessToken: async () => token }),
  })

const written = async () => {
  const client = new pg.Client(database.url)
  await client.connect()
  const { rows } = await client.query('select value from written')
  await client.end()
  return rows.map((row) => row.value)
}

test('a function is called with its arguments by name, and those with a default may be left out', async () => {
  expect((await connect().rpc('add', { b: 2, a: 1 })).data).toBe(3)
  expect((await connect().rpc('add', { a: 1 })).data).toBe(11)
})

test('a value comes back bare, jsonb as it went in', async () => {
  const value = { text: "it's", list: [1, null, { deep: true }], nothing: null }
  expect((await connect().rpc('echo', { value })).data).toEqual(value)
  expect((await connect().rpc('echo', { value: null })).data).toBeNull()
})

test('a function that returns nothing answers 204', async () => {
  const { status, data, error } = await connect().rpc('nothing')
  expect({ status, data, error }).toEqual({ status: 204, data: null, error: null })
})

test('rows come as an array, cut at 1,000; one jsonb is never cut', async () => {
  expect((await connect().rpc('people', { amount: 2 })).data).toEqual([
    { id: 1, name: 'n1' },
    { id: 2, name: 'n2' },
  ])
  expect((await connect().rpc('people', { amount: 0 })).data).toEqual([])
  expect((await connect().rpc('people', { amount: 1500 })).data).toHaveLength(1000)
  expect((await connect().rpc('numbers', { amount: 1500 })).data).toHaveLength(1000)
  expect((await connect().rpc('whole', { amount: 1500 })).data).toHaveLength(1500)
})

test('the key decides the role, its settings, and who auth.uid() is', async () => {
  expect((await connect().rpc('who')).data).toEqual({ role: 'service_role', uid: null, timeout: '8s' })
  expect((await connect(gateway.anonKey).rpc('who')).data).toEqual({
    role: 'anon',
    uid: null,
    timeout: '3s',
  })
  const signedIn = connect(gateway.anonKey, await gateway.keyFor(USER))
  expect((await signedIn.rpc('who')).data).toEqual({ role: 'authenticated', uid: USER, timeout: '8s' })
})

test('the keys that are no JWT decide the role by themselves, with a token of theirs and without one', async () => {
  const { publishableKey, secretKey } = gateway
  expect([publishableKey, secretKey]).toEqual([
    expect.stringMatching(/^sb_publishable_\S{31}$/),
    expect.stringMatching(/^sb_secret_\S{31}$/),
  ])
  const roleOf = async (headers: Record<string, string>) => {
    const answer = await fetch(`${gateway.url}/rest/v1/rpc/who`, { method: 'POST', body: '{}', headers })
    return ((await answer.json()) as { role?: string }).role
  }
  expect(await roleOf({ apikey: secretKey })).toBe('service_role')
  expect(await roleOf({ apikey: publishableKey })).toBe('anon')
  expect((await connect(secretKey).rpc('who')).data).toMatchObject({ role: 'service_role' })
  const signedIn = connect(publishableKey, await gateway.keyFor(USER))
  expect((await signedIn.rpc('who')).data).toMatchObject({ role: 'authenticated', uid: USER })
  expect(await roleOf({ apikey: secretKey.replace(/.$/, '!') })).toBeUndefined()
})

test('a role without the right to execute a function is refused: 401 for anon, 403 for others', async () => {
  const anonymous = await connect(gateway.anonKey).rpc('guarded')
  expect(anonymous).toMatchObject({ status: 401, error: { code: '42501' } })
  expect(anonymous.error?.message).toBe('permission denied for function guarded')
  const signedIn = await connect(gateway.anonKey, await gateway.keyFor(USER)).rpc('guarded')
  expect(signedIn).toMatchObject({ status: 403, error: { code: '42501' } })
})

test('a key that is unknown, and a token that is malformed, forged or expired, are refused with 401', async () => {
  expect(await connect('no-key').rpc('who')).toMatchObject({
    status: 401,
    error: { message: 'Invalid API key' },
  })
  const refusals: [token: string, code: string, message: string][] = [
    ['abc', 'PGRST301', 'Expected 3 parts in JWT; got 1'],
    [await forged(), 'PGRST301', 'No suitable key or wrong key type'],
    [await gateway.keyFor(USER, '-1 hour'), 'PGRST303', 'JWT expired'],
  ]
  for (const [token, code, message] of refusals) {
    const { status, error } = await connect(gateway.anonKey, token).rpc('who')
    expect({ status, code: error?.code, message: error?.message }).toEqual({ status: 401, code, message })
  }
  const { status } = await fetch(`${gateway.url}/rest/v1/rpc/who`, { method: 'POST', body: '{}' })
  expect(status).toBe(401)
})

const forged = () =>
  new SignJWT({ role: 'service_role' }).setProtectedHeader({ alg: 'HS256' }).sign(new Uint8Array(32))

test('an unknown function, and arguments that fit none, answer 404 with what was looked for', async () => {
  expect(await connect().rpc('addd', { b: 2, a: 1 })).toMatchObject({
    status: 404,
    error: {
      code: 'PGRST202',
      message: 'Could not find the function public.addd(a, b) in the schema cache',
      details:
        'Searched for the function public.addd with parameters a, b or with a single unnamed json/jsonb parameter, but no matches were found in the schema cache.',
      hint: null,
    },
  })
  expect(await connect().rpc('add', { b: 2 })).toMatchObject({
    status: 404,
    error: { code: 'PGRST202', hint: 'Perhaps you meant to call the function public.add(a, b)' },
  })
  expect(await connect().rpc('who_else')).toMatchObject({
    status: 404,
    error: { message: 'Could not find the function public.who_else without parameters in the schema cache' },
  })
})

test('a function made after the first call is found', async () => {
  expect((await connect().rpc('newcomer')).status).toBe(404)
  await runSql(database.url, "create function newcomer() returns text language sql as $$ select 'here' $$")
  expect((await connect().rpc('newcomer')).data).toBe('here')
})

test('two functions that fit the same arguments answer 300', async () => {
  expect(await connect().rpc('twice', { a: 1 })).toMatchObject({ status: 300, error: { code: 'PGRST203' } })
})

test('a schema that is not exposed cannot be reached', async () => {
  const { status, error } = await connect().schema('indexing').rpc('settle', { events: [] })
  expect(status).toBe(406)
  expect(error).toMatchObject({
    code: 'PGRST106',
    message: 'Invalid schema: indexing',
    hint: 'Only the following schemas are exposed: public',
  })
})

test.each([
  ['P0001', 400],
  ['22023', 400],
  ['23505', 409],
  ['40001', 500],
  ['40P01', 500],
  ['53300', 503],
  ['57014', 500],
  ['PT418', 418],
])('what a function raises comes back with its code: %s as %i', async (code, status) => {
  const result = await connect().rpc('fail', { code, message: 'no such luck' })
  expect(result.status).toBe(status)
  expect(result.error).toMatchObject({ code, message: 'no such luck', details: 'more', hint: 'try' })
})

test('a statement ends at the timeout of its role', async () => {
  const { status, error } = await connect(gateway.anonKey).rpc('slow', { seconds: 20 })
  expect(status).toBe(500)
  expect(error).toMatchObject({ code: '57014', message: 'canceling statement due to statement timeout' })
}, 15_000)

test('a function that is stable cannot write', async () => {
  expect(await connect().rpc('write_stable', { number: 9 })).toMatchObject({
    status: 405,
    error: { code: '25006' },
  })
  expect(await written()).not.toContain(9)
})

test('a body that is no JSON object answers 400', async () => {
  const headers = { apikey: gateway.serviceRoleKey, authorization: `Bearer ${gateway.serviceRoleKey}` }
  for (const body of ['', 'abc', '[1]']) {
    const response = await fetch(`${gateway.url}/rest/v1/rpc/who`, { method: 'POST', headers, body })
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ code: 'PGRST102' })
  }
})

test('what is not served is refused with a word of what is', async () => {
  const { error } = await connect().from('events').select()
  expect(error).toMatchObject({
    code: 'PGRST127',
    details: expect.stringContaining('POST /rest/v1/rpc/{function}'),
  })
})

test('a hundred calls at once are all answered', async () => {
  const client = connect()
  const answers = await Promise.all(Array.from({ length: 100 }, (_, i) => client.rpc('add', { a: i, b: i })))
  expect(answers.map((answer) => answer.data)).toEqual(Array.from({ length: 100 }, (_, i) => 2 * i))
})

test('a connection can be made to break before the work, and after it', async () => {
  gateway.setFaults(({ attempt }) => ['drop-before' as const, 'drop-after-commit' as const][attempt - 1])
  const answers = [
    await connect().rpc('write', { number: 1 }),
    await connect().rpc('write', { number: 2 }),
    await connect().rpc('write', { number: 3 }),
  ]
  gateway.setFaults(undefined)
  expect(answers.map((answer) => answer.status)).toEqual([0, 0, 200])
  expect(await written()).toEqual([2, 3])
  expect(gateway.calls.get('write')).toBe(3)
})

test('a database that cannot be reached is said at the start', async () => {
  const authenticatorUrl = database.authenticatorUrl.replace(/\/\w+$/, '/nowhere')
  await expect(startGateway({ authenticatorUrl })).rejects.toThrow('database "nowhere" does not exist')
})
