import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { describe, expect, it, onTestFinished } from 'vitest'
import { EXIT, EXIT_CODES } from '../../cli/exit.ts'
import { startGateway } from '../../local/gateway/server.ts'
import { runSql } from '../../local/migrations.ts'
import { freshDatabase } from '../support/database.ts'
import { openOperated, startCli } from '../support/operator.ts'
import { startSqsFront } from '../support/sqs-front.ts'

const EVENT = '8c1e7a52-5c0d-4c55-9d8e-6b1e6d1b9a11'

/** Answers each request with this, and keeps what was asked; SSM, or a Supabase project, for the length of a test. */
async function answering(status: number, content: object) {
  const asked: string[] = []
  const server = createServer(async (request, response) => {
    asked.push(await text(request))
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(content))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return { asked, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

describe('wrong usage is said, and ends with 1', () => {
  it.concurrent.each([
    ['an id that is none', ['status', '--event', '12'], "'12' is invalid. It is not an id such as"],
    [
      'a user id that is none',
      ['replay', '--event', EVENT, '--user', 'me'],
      "'me' is invalid. It is not an id",
    ],
    [
      'a reason that there is not',
      ['replay', '--event', EVENT, '--reason', 'bored'],
      'It is none of: no_profile,',
    ],
    ['a replay of nothing', ['replay'], 'either --event ID or --all-failed'],
    [
      'a replay of one and of all',
      ['replay', '--event', EVENT, '--all-failed'],
      'either --event ID or --all-failed',
    ],
    [
      'a user without an event',
      ['replay', '--all-failed', '--user', EVENT],
      '--user and --reason go with --event',
    ],
    ['a stage that can be none', ['status', '--stage', 'a/b'], 'It is not the name of a stage.'],
    ['a command that there is not', ['stats'], "unknown command 'stats'"],
  ])('%s', async (_, args, said) => {
    const { code, error, out } = await startCli(args, {}).ended
    expect({ code, out }).toEqual({ code: 1, out: '' })
    expect(error).toContain(said)
    expect(error).toContain('See --help.')
  })

  it('an event that there is not', async () => {
    const { start } = await openOperated()
    const { code, error, out } = await start(['status', '--event', EVENT]).ended
    expect({ code, out }).toEqual({ code: 1, out: '' })
    expect(error).toBe(`There is no event ${EVENT}. Is the id right, and is this the right system?\n`)
  })
})

describe('no connection and no permission are said, and end with 3', () => {
  it('a database that does not answer', async () => {
    const { start } = await openOperated()
    const { code, error } = await start(['status'], { SUPABASE_URL: 'http://127.0.0.1:1' }).ended
    expect(code).toBe(3)
    expect(error).toMatch(/^No answer from http:\/\/127\.0\.0\.1:1\. Is SUPABASE_URL right/m) // a slow one is waited for aloud
  })

  it('a key that is not of this project, and one that anybody may have', async () => {
    const { gateway, start } = await openOperated()
    for (const key of ['of another project', gateway.anonKey, gateway.publishableKey]) {
      const { code, error } = await start(['status'], { SUPABASE_SERVICE_ROLE_KEY: key }).ended
      expect(code).toBe(3)
      expect(error).toContain('does not let us in: the key is neither a secret key (sb_secret_…) nor')
      expect(error).not.toContain(key)
    }
  })

  it('a database without this version of the functions', async () => {
    const database = await freshDatabase()
    await runSql(database.url, 'drop function public.indexing_unclaimed')
    const gateway = await startGateway(database)
    onTestFinished(gateway.close)
    const { code, error } = await startCli(['status'], {
      SUPABASE_URL: gateway.url,
      SUPABASE_SERVICE_ROLE_KEY: gateway.serviceRoleKey,
    }).ended
    expect(code).toBe(3)
    expect(error).toContain("has not all of this version's functions: apply supabase/migrations to it.")
  })

  it('a URL of something else', async () => {
    const { url } = await answering(404, { message: 'no such page' })
    const { start } = await openOperated()
    const { code, error } = await start(['status'], { SUPABASE_URL: url }).ended
    expect(code).toBe(3)
    expect(error).toContain('The database of the environment refuses')
  })

  it('a permission that AWS denies', async () => {
    const system = await openOperated()
    const front = await startSqsFront(system.sqs, system.endpoint, { refuse: () => 'AccessDenied' })
    const { code, error } = await system.start(['redrive'], front.environment(system.workQueueUrl)).ended
    expect(code).toBe(3)
    expect(error).toContain('AWS does not allow it; your role or user lacks the permission')
  })

  it('AWS without credentials, and without a region', async () => {
    const { start } = await openOperated()
    const nowhere = { HOME: '/nowhere', AWS_EC2_METADATA_DISABLED: 'true' }
    const without = await start(['redrive'], { ...nowhere, AWS_ACCESS_KEY_ID: '', AWS_SECRET_ACCESS_KEY: '' })
      .ended
    expect(without.code).toBe(3)
    expect(without.error).toContain('AWS accepts no credentials of yours: set AWS_PROFILE, or sign in again.')
    const nowhereInTheWorld = await start(['redrive'], { ...nowhere, AWS_REGION: undefined }).ended
    expect(nowhereInTheWorld.code).toBe(3)
    expect(nowhereInTheWorld.error).toContain('Which AWS region? Set AWS_REGION')
  })

  it('a stage that is not deployed', async () => {
    const { start } = await openOperated()
    const { code, error } = await start(['redrive', '--stage', 'prod']).ended
    expect(code).toBe(3)
    expect(error).toContain('There is no such queue: is stage prod deployed in this region and account?')
  })

  it('AWS that does not answer', async () => {
    const { start } = await openOperated()
    const away = { AWS_ENDPOINT_URL_SQS: 'http://127.0.0.1:1', WORK_QUEUE_URL: 'http://127.0.0.1:1/0/work' }
    const { code, error } = await start(['redrive'], away).ended
    expect(code).toBe(3)
    expect(error).toContain('No answer from AWS.')
  })
})

describe('the key of a stage', () => {
  it("comes from the stage's SSM parameter, decrypted", async () => {
    const { gateway, start } = await openOperated()
    const ssm = await answering(200, { Parameter: { Value: gateway.serviceRoleKey } })
    const parameter = { SUPABASE_SERVICE_ROLE_KEY: undefined, AWS_ENDPOINT_URL_SSM: ssm.url }
    const { code, error } = await start(['status', '--stage', 'test'], parameter).ended
    expect({ code, error }).toEqual({ code: 0, error: '' })
    expect(ssm.asked.map((body) => JSON.parse(body))).toEqual([
      { Name: '/event-indexer/test/supabase-service-role-key', WithDecryption: true },
    ])
  })

  it('may come from another parameter', async () => {
    const { gateway, start } = await openOperated()
    const ssm = await answering(200, { Parameter: { Value: gateway.serviceRoleKey } })
    const parameter = {
      SUPABASE_SERVICE_ROLE_KEY: undefined,
      SUPABASE_SERVICE_ROLE_KEY_PARAMETER: '/keys/supabase',
      AWS_ENDPOINT_URL_SSM: ssm.url,
    }
    expect((await start(['status', '--stage', 'test'], parameter).ended).code).toBe(0)
    expect(JSON.parse(ssm.asked[0] ?? '')).toMatchObject({ Name: '/keys/supabase' })
  })

  it('is reported missing, with the place where it was looked for', async () => {
    const { start } = await openOperated()
    const ssm = await answering(400, { __type: 'ParameterNotFound', message: '' })
    const parameter = { SUPABASE_SERVICE_ROLE_KEY: undefined, AWS_ENDPOINT_URL_SSM: ssm.url }
    const { code, error } = await start(['status', '--stage', 'test'], parameter).ended
    expect(code).toBe(3)
    expect(error).toContain(
      "The SSM parameter of the project's secret key is not there: is stage test deployed",
    )
  })
})

it('--help says what each exit code means', async () => {
  const { code, out } = await startCli(['--help'], {}).ended
  expect(code).toBe(0)
  for (const [name, meaning] of Object.entries(EXIT_CODES))
    expect(out).toMatch(
      new RegExp(`^  ${EXIT[name as keyof typeof EXIT]} +${meaning.replaceAll(' ', '\\s+')}$`, 'm'),
    )
  for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(80)
})

it('the error of an unknown server is printed without the markup of its answer', async () => {
  const server = createServer((_, response) =>
    response
      .writeHead(404, { 'content-type': 'application/xml' })
      .end('<?xml version="1.0"?>\n<Error><Code>NoSuchBucket</Code><Message>not here</Message></Error>'),
  )
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const environment = { SUPABASE_URL: url, SUPABASE_SERVICE_ROLE_KEY: 'sb_secret_key' }
  const { code, error } = await startCli(['status'], environment).ended
  expect(code).toBe(EXIT.unreachable)
  expect(error).toContain('NoSuchBucket')
  expect(error).not.toMatch(/[<>]/)
})

it('an answer that takes long is said to be waited for, and is no error', async () => {
  const { gateway, start } = await openOperated()
  gateway.setFaults(({ function: name, attempt }) =>
    name === 'indexing_progress' && attempt === 1 ? { delayMs: 4_000 } : undefined,
  )
  const { code, error, out } = await start(['status']).ended
  expect({ code, error }).toEqual({ code: 0, error: 'Waiting for an answer from the environment …\n' })
  expect(out).toContain('No event is in progress')
})

it('help and --version answer without a system', async () => {
  const [version, help] = await Promise.all([
    startCli(['--version'], {}).ended,
    startCli(['help', 'pause'], {}).ended,
  ])
  expect(version).toMatchObject({ code: 0, out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) })
  expect(help).toMatchObject({ code: 0, out: expect.stringContaining('Erasures go on') })
})
