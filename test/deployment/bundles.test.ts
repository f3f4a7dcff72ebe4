import { mkdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import {
  copyService,
  FUNCTIONS,
  type FunctionName,
  type Package,
  packageService,
  run,
  type Service,
  textOf,
} from './serverless.ts'

const PATIENCE_MS = 180_000 // for the framework, on a busy machine
let service: Service
let packaged: Package

beforeAll(async () => {
  service = await copyService()
  packaged = await packageService(service, {
    SUPABASE_URL: 'https://project.supabase.co',
    S3_BUCKET_NAME: 'profile-photos',
  })
  for (const { files } of Object.values(packaged.zips))
    for (const [path, content] of Object.entries(files)) {
      await mkdir(dirname(unzipped(path)), { recursive: true })
      await writeFile(unzipped(path), content)
    }
}, PATIENCE_MS)
afterAll(() => service.remove())

const unzipped = (path: string) => join(packaged.directory, 'unzipped', path)

/** ImageMagick, which only the converter has. */
const MAGICK = 'node_modules/@imagemagick/magick-wasm/dist/x86/magick.wasm'

/** Runs a script in a fresh process, in which `load()` imports the function as it is deployed. */
const runWith = (name: FunctionName, environment: Record<string, string>, script: string) =>
  run(
    process.execPath,
    [
      '--input-type=module',
      '--eval',
      `const load = () => import(${JSON.stringify(unzipped(`src/${name}/handler.mjs`))})\n${script}`,
    ],
    environment,
    packaged.directory,
  )

/** A function's environment: what the template gives it, and what Lambda gives every function. */
function environmentOf(name: FunctionName): Record<string, string> {
  const deployed = Object.values(packaged.resources).find(
    ({ Type, Properties }) =>
      Type === 'AWS::Lambda::Function' && Properties.Handler === `src/${name}/handler.handler`,
  )
  if (!deployed) throw new Error(`the template has no function ${name}`)
  const { Variables } = deployed.Properties.Environment as { Variables: Record<string, unknown> }
  const texts = Object.entries(Variables).map(([key, value]) => [key, textOf(value)])
  return {
    ...Object.fromEntries(texts),
    WORK_QUEUE_URL: 'https://sqs.eu-central-1.amazonaws.com/123456789012/event-indexer-prod-work',
    URGENT_QUEUE_URL: 'https://sqs.eu-central-1.amazonaws.com/123456789012/event-indexer-prod-urgent',
    AWS_REGION: 'eu-central-1',
    AWS_ENDPOINT_URL: 'http://127.0.0.1:1', // what would go to AWS goes nowhere
    AWS_ACCESS_KEY_ID: 'none',
    AWS_SECRET_ACCESS_KEY: 'none',
    AWS_SESSION_TOKEN: 'none',
    AWS_LAMBDA_FUNCTION_NAME: `event-indexer-prod-${name}`,
  }
}

describe.each(FUNCTIONS)('the bundle of the %s', (name) => {
  it('is one file and its source map, small when zipped', () => {
    const { files, size } = packaged.zips[name]
    const beside = name === 'converter' ? [MAGICK] : []
    expect(Object.keys(files).sort()).toEqual([
      ...beside,
      `src/${name}/handler.mjs`,
      `src/${name}/handler.mjs.map`,
    ])
    expect(size).toBeLessThan((name === 'converter' ? 7 * 1024 : 350) * 1024)
  })

  it('is made of ES modules, and holds nothing of what is known to be large and not used', () => {
    const map = Buffer.from(packaged.zips[name].files[`src/${name}/handler.mjs.map`] ?? []).toString()
    const { sources } = JSON.parse(map) as { sources: string[] }
    expect(sources.filter((source) => source.includes('/@aws-sdk/'))).not.toEqual([])
    const unwanted = [
      /dist-cjs/,
      /zod\/v4\/(classic|locales\/(?!en\.))/,
      /@aws-sdk\/(client-ssm|credential-provider-(ini|sso|process|web-identity))\//,
      /@supabase\/(auth|functions|realtime|storage)-js/,
    ]
    expect(sources.filter((source) => unwanted.some((part) => part.test(source)))).toEqual([])
  })

  it('starts with what the template and Lambda give it', async () => {
    const { code, output } = await runWith(
      name,
      environmentOf(name),
      'console.log(typeof (await load()).handler); process.exit()',
    )
    expect(output).toBe('function\n')
    expect(code).toBe(0)
  })

  it('refuses to start with one message that names every setting that is missing or malformed', async () => {
    const { output } = await runWith(
      name,
      {
        NODE_OPTIONS: '--enable-source-maps',
        S3_BUCKET_NAME: 'x',
        COLLECTION_PREFIX: 'a b',
        INDEX_FACES_TPS: 'fast',
        MAX_RECEIVE_COUNT: '0',
      },
      'await load().catch(({ name, message, stack }) => console.log(JSON.stringify({ name, message, stack })))',
    )
    const error = JSON.parse(output) as Error
    expect(error.name).toBe('SettingsError')
    for (const problem of [
      'SUPABASE_URL is missing',
      'SUPABASE_SERVICE_ROLE_KEY_PARAMETER is missing',
      'S3_BUCKET_NAME is not',
      'AWS_REGION is missing',
      'WORK_QUEUE_URL is missing',
      'URGENT_QUEUE_URL is missing',
      'COLLECTION_PREFIX is not',
      'INDEX_FACES_TPS is not',
      'MAX_RECEIVE_COUNT is not',
    ])
      expect(error.message).toContain(problem)
    expect(error.stack).toMatch(/src\/core\/settings\.ts:\d+/) // by way of the source map
  })
})

/** What SSM and the Supabase project, both at `url`, were asked. */
interface Asked {
  url: string
  ssm: unknown[]
  /** The signatures of its requests, without the part that is a secret's. */
  signed: (string | undefined)[]
  rpc: { path: string | undefined; apikey: unknown; authorization: string | undefined }[]
}

/** How SSM answers a read: with a value, with an error of that name, or by cutting the connection. */
type Parameter = { value: string } | { error: string; status: number } | 'reset'

/**
 * Answers for SSM, as its protocol has it, in turn, the last one for ever; and for the database functions: as `answers` says, ''
 * for an empty body, and 1 otherwise.
 */
async function startServices(
  parameters: Parameter[],
  refusedKeys: ReadonlySet<string> = new Set(),
  answers: Record<string, unknown> = {},
): Promise<Asked> {
  const asked: Asked = { url: '', ssm: [], signed: [], rpc: [] }
  const server = createServer(async (request, response) => {
    const answer = (status: number, body: unknown) => {
      response.writeHead(status, { 'content-type': 'application/x-amz-json-1.1' }).end(JSON.stringify(body))
    }
    const body: unknown = JSON.parse(await text(request))
    if (request.headers['x-amz-target'] === 'AmazonSSM.GetParameter') {
      const parameter = parameters[Math.min(asked.ssm.length, parameters.length - 1)]
      asked.ssm.push(body)
      asked.signed.push(request.headers.authorization?.replace(/, Signature=[0-9a-f]{64}$/, ''))
      if (parameter === undefined || parameter === 'reset') return request.socket.destroy()
      if ('error' in parameter) return answer(parameter.status, { __type: parameter.error, message: 'no' })
      return answer(200, { Parameter: { Value: parameter.value, Type: 'SecureString' } })
    }
    const { apikey, authorization } = request.headers
    asked.rpc.push({ path: request.url, apikey, authorization })
    if (refusedKeys.has(String(apikey))) return answer(401, { message: 'Invalid API key' })
    const said = answers[request.url?.split('indexing_')[1] ?? ''] ?? 1
    if (said === '') return response.writeHead(200, { 'content-type': 'application/json' }).end()
    answer(200, said)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  asked.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return asked
}

const PARAMETER = '/event-indexer/prod/supabase-service-role-key'

/** Invokes a function in one container, so many times, with messages that are none of ours; prints how each ended. */
const invoke = (
  name: FunctionName,
  services: Asked,
  times: number,
  environment = {},
  bodies = ['no message of ours'],
) =>
  runWith(
    name,
    {
      ...environmentOf(name),
      SUPABASE_URL: services.url,
      AWS_ENDPOINT_URL_SSM: services.url,
      ...environment,
    },
    `
    const { handler } = await load()
    const bodies = ${JSON.stringify(bodies)}
    const event = ${name === 'scheduler' ? '{}' : "{ Records: bodies.map((body, n) => ({ messageId: 'm' + (n || ''), body, attributes: {}, eventSourceARN: 'arn:aws:sqs:eu-central-1:123456789012:x-work', receiptHandle: 'r' })) }"}
    const context = { getRemainingTimeInMillis: () => 60_000 }
    for (let i = 0; i < ${times}; i++)
      await handler(event, context).then(
        (answer) => console.log('ANSWER', JSON.stringify(answer ?? null)),
        (error) => console.log('ERROR', error.name, error.message),
      )
    process.exit()`,
  )

const endsOf = (output: string) => output.split('\n').filter((line) => /^(ANSWER|ERROR)/.test(line))

describe('the key of the database', () => {
  it('is read from SSM Parameter Store once per container and is what the database is called with', async () => {
    const services = await startServices([{ value: 'the-key' }])
    const { output } = await invoke('finalizer', services, 2)
    expect(endsOf(output)).toEqual(['ANSWER null', 'ANSWER null'])
    expect(services.ssm).toEqual([{ Name: PARAMETER, WithDecryption: true }])
    expect(services.signed).toEqual([
      expect.stringMatching(
        /^AWS4-HMAC-SHA256 Credential=none\/\d{8}\/eu-central-1\/ssm\/aws4_request, SignedHeaders=content-length;content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token;x-amz-target$/,
      ),
    ])
    expect(services.rpc).toEqual(
      ['schema_version', 'keep_dead_letters', 'keep_dead_letters'].map((name) => ({
        path: `/rest/v1/rpc/indexing_${name}`,
        apikey: 'the-key',
        authorization: 'Bearer the-key',
      })),
    )
    expect(output).not.toContain('the-key')
  })

  it('of the new kind, which is no JWT, is sent as apikey alone', async () => {
    const services = await startServices([{ value: 'sb_secret_of-the-project' }])
    await invoke('finalizer', services, 1)
    expect(services.rpc[0]).toMatchObject({ apikey: 'sb_secret_of-the-project', authorization: undefined })
  })

  it('that was exchanged is read again, without a deployment', async () => {
    const services = await startServices([{ value: 'old' }, { value: 'new' }], new Set(['old']))
    const { output } = await invoke('finalizer', services, 2)
    expect(endsOf(output)).toEqual(['ANSWER null', 'ANSWER null'])
    expect(services.ssm).toHaveLength(2)
    expect(services.rpc.map(({ apikey }) => apikey)).toEqual(['old', 'new', 'new', 'new'])
  })

  it('that is not there fails the invocation with the name of its parameter', async () => {
    const services = await startServices([{ error: 'ParameterNotFound', status: 400 }])
    const { output } = await invoke('finalizer', services, 1)
    expect(endsOf(output)).toEqual([expect.stringMatching(/^ERROR SecretError .*ParameterNotFound/)])
    expect(output).toContain(PARAMETER)
    expect(services.rpc).toEqual([])
  })

  it('is not asked for where the environment has it', async () => {
    const services = await startServices([{ value: 'of-ssm' }])
    const { output } = await invoke('finalizer', services, 1, {
      SUPABASE_SERVICE_ROLE_KEY: 'of-the-environment',
    })
    expect(endsOf(output)).toEqual(['ANSWER null'])
    expect(services.ssm).toEqual([])
    expect(services.rpc[0]?.apikey).toBe('of-the-environment')
  })

  it.each([
    ['a line break', 'first\nsecond-half-of-the-key'],
    ['nothing', '  '],
  ])('with %s in it is refused, and is printed nowhere', async (_what, value) => {
    const services = await startServices([{ value }])
    const { output } = await invoke('finalizer', services, 1)
    expect(output).toContain(PARAMETER)
    expect(output).toMatch(/ERROR SecretError/)
    expect(output).not.toContain('second-half-of-the-key')
    expect(services.rpc).toEqual([])
  })
})

describe('the nudge', () => {
  it('refuses a wrong secret with nothing but a count, reads no key, and is no scheduled run', async () => {
    const services = await startServices([{ value: 'the-secret-of-the-nudge' }])
    const { output } = await runWith(
      'nudge',
      { ...environmentOf('nudge'), SUPABASE_URL: services.url, AWS_ENDPOINT_URL_SSM: services.url },
      `
      const { handler } = await load()
      for (const headers of [{}, { 'x-nudge-secret': 'wrong' }])
        console.log('ANSWER', JSON.stringify(await handler({ headers }, { getRemainingTimeInMillis: () => 60_000 })))
      process.exit()`,
    )
    expect(endsOf(output)).toEqual(['ANSWER {"statusCode":403}', 'ANSWER {"statusCode":403}'])
    expect(output.match(/"NudgesRefused":1\b/g)).toHaveLength(2)
    expect(output).not.toContain('ScheduledRuns')
    expect(services.ssm).toEqual([{ Name: '/event-indexer/prod/nudge-secret', WithDecryption: true }])
    expect(services.rpc).toEqual([])
  })
})

it('a secret is read again after five minutes, so that an exchanged one needs no deployment', async () => {
  const services = await startServices(
    [{ value: 'the-secret-of-before' }, { value: 'the-secret-of-today' }],
    new Set(),
    { begin_nudged_run: false },
  )
  const { output } = await runWith(
    'nudge',
    {
      ...environmentOf('nudge'),
      SUPABASE_URL: services.url,
      SUPABASE_SERVICE_ROLE_KEY: 'the-key',
      AWS_ENDPOINT_URL_SSM: services.url,
    },
    `
    const { handler } = await load()
    const ask = async () => console.log('ANSWER', (await handler(
      { headers: { 'x-nudge-secret': 'the-secret-of-today' } }, { getRemainingTimeInMillis: () => 60_000 })).statusCode)
    await ask()
    const { now } = Date
    Date.now = () => now() + 290_000
    await ask()
    Date.now = () => now() + 301_000
    await ask()
    process.exit()`,
  )
  expect(endsOf(output)).toEqual(['ANSWER 403', 'ANSWER 403', 'ANSWER 202'])
  expect(services.ssm).toHaveLength(2)
})

describe('a message with a version that Postgres has no integer for', () => {
  const ID = '3f0c6f0e-9a3b-4a57-8d0c-0f6f3a1b2c4d'
  const bodies = [1, 2_147_483_648, 1].map((version) =>
    JSON.stringify({ format: 1, event_id: ID, user_id: ID, version }),
  )

  it('is no message of ours for the finalizer: it is kept, and the others are handled', async () => {
    const services = await startServices([{ value: 'the-key' }], new Set(), {
      fail_dead_letters: { failed: 1, requeued: 0 },
    })
    const { output } = await invoke('finalizer', services, 1, {}, bodies)
    expect(endsOf(output)).toEqual(['ANSWER null'])
    expect(services.rpc.map(({ path }) => path?.split('indexing_')[1])).toEqual([
      'schema_version',
      'fail_dead_letters',
      'keep_dead_letters',
    ])
    expect(output).toMatch(/"Unreadable":1\b/)
  })

  it('comes again alone, while the worker acts on the others', async () => {
    const services = await startServices([{ value: 'the-key' }], new Set(), {
      lease: { jobs: [], pace: { first_ms: 0, every_ms: 0 } },
    })
    const { output } = await invoke('worker', services, 1, {}, bodies)
    expect(endsOf(output)).toEqual(['ANSWER {"batchItemFailures":[{"itemIdentifier":"m1"}]}'])
    expect(services.rpc.map(({ path }) => path?.split('indexing_')[1])).toEqual(['schema_version', 'lease'])
  })
})

describe('an answer of the database that is empty', () => {
  it('fails the finalizer, whose dead letters stay in their queue', async () => {
    const services = await startServices([{ value: 'the-key' }], new Set(), { keep_dead_letters: '' })
    const { output } = await invoke('finalizer', services, 1)
    expect(endsOf(output)).toEqual([expect.stringMatching(/^ERROR DatabaseError .*keep_dead_letters/)])
  })

  it('returns the messages of the worker, with a log line and a metric', async () => {
    const ID = '3f0c6f0e-9a3b-4a57-8d0c-0f6f3a1b2c4d'
    const services = await startServices([{ value: 'the-key' }], new Set(), { lease: '' })
    const { output } = await invoke('worker', services, 1, {}, [
      JSON.stringify({ format: 1, event_id: ID, user_id: ID, version: 1 }),
    ])
    expect(endsOf(output)).toEqual(['ANSWER {"batchItemFailures":[{"itemIdentifier":"m"}]}'])
    expect(output).toContain('the jobs come again: the database failed')
    expect(output).toMatch(/"DatabaseFailed":1\b/)
  })
})

const FAILURES: [string, Parameter[], RegExp][] = [
  ['is denied', [{ error: 'AccessDeniedException', status: 400 }], /AccessDeniedException/],
  ['is throttled', Array(2).fill({ error: 'ThrottlingException', status: 400 }), /ThrottlingException/],
  ['fails', Array(2).fill({ error: 'InternalServerError', status: 500 }), /InternalServerError/],
  ['is cut off', ['reset', 'reset'], /ECONNRESET|socket hang up/],
  ['finds it empty', [{ value: ' ' }], /it is empty/],
  ['finds a line break in it', [{ value: 'half\nhalf' }], /line breaks/],
]

describe.each(FAILURES)('a first read of the key that %s', (_how, failures, cause) => {
  const services = () => startServices([...failures, { value: 'the-key' }])

  it('fails one run of the scheduler, with the cause in the log; the next run of the container reads it', async () => {
    const { output } = await invoke('scheduler', await services(), 2)
    const [first, second] = endsOf(output)
    expect(first).toMatch(/^ERROR SecretError/)
    expect(output.match(/"ScheduledRuns":1\b/g)).toHaveLength(2)
    expect(output).toMatch(cause)
    expect(output).toContain(PARAMETER)
    expect(second).not.toContain('SecretError')
  })

  it('returns the messages of one batch of the worker, with a critical log line and a metric', async () => {
    const { output } = await invoke('worker', await services(), 2, {
      POWERTOOLS_METRICS_NAMESPACE: 'EventIndexer',
    })
    expect(endsOf(output)[0]).toBe('ANSWER {"batchItemFailures":[{"itemIdentifier":"m"}]}')
    expect(output).toMatch(/"level":"CRITICAL"/)
    expect(output).toMatch(cause)
    expect(output).toMatch(/"InvocationsFailed":1\b/)
    expect(output.match(/"InvocationsFailed":/g)).toHaveLength(1)
  })
})
