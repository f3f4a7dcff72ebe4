import { mkdir, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import {
  copyService,
  type FunctionName,
  type Package,
  packageService,
  run,
  type Service,
  textOf,
} from './serverless.ts'

const FUNCTIONS: FunctionName[] = ['scheduler', 'worker', 'finalizer']

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
    AWS_REGION: 'eu-central-1',
    AWS_ENDPOINT_URL: 'http://127.0.0.1:1', // what would go to AWS goes nowhere
    AWS_ACCESS_KEY_ID: 'none',
    AWS_SECRET_ACCESS_KEY: 'none',
    AWS_LAMBDA_FUNCTION_NAME: `event-indexer-prod-${name}`,
  }
}

describe.each(FUNCTIONS)('the bundle of the %s', (name) => {
  it('is one file and its source map, small when zipped', () => {
    const { files, size } = packaged.zips[name]
    expect(Object.keys(files).sort()).toEqual([`src/${name}/handler.mjs`, `src/${name}/handler.mjs.map`])
    expect(size).toBeLessThan(600_000)
  })

  it('is made of ES modules, with no language of zod but English and no credentials that Lambda never uses', () => {
    const map = Buffer.from(packaged.zips[name].files[`src/${name}/handler.mjs.map`] ?? []).toString()
    const { sources } = JSON.parse(map) as { sources: string[] }
    expect(sources.filter((source) => source.includes('/@aws-sdk/'))).not.toEqual([])
    const unwanted = /dist-cjs|zod\/v4\/locales\/(?!en\.)|credential-provider-(ini|sso|process|web-identity)/
    expect(sources.filter((source) => unwanted.test(source))).toEqual([])
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
  rpc: { path: string | undefined; key: string | undefined }[]
}

/** Answers for SSM, as its protocol has it, and for the database functions. */
async function startServices(parameters: Record<string, string>): Promise<Asked> {
  const asked: Asked = { url: '', ssm: [], rpc: [] }
  const answer = async (request: IncomingMessage): Promise<unknown> => {
    const body: unknown = JSON.parse(await text(request))
    if (request.headers['x-amz-target'] !== 'AmazonSSM.GetParameters') {
      asked.rpc.push({ path: request.url, key: request.headers.authorization })
      return 1
    }
    asked.ssm.push(body)
    const { Names } = body as { Names: string[] }
    return {
      Parameters: Names.flatMap((Name) => {
        const Value = parameters[Name]
        return Value ? [{ Name, Value, Type: 'SecureString' }] : []
      }),
      InvalidParameters: Names.filter((name) => !(name in parameters)),
    }
  }
  const server = createServer((request, response) => {
    void answer(request).then((body) => {
      response.setHeader('content-type', 'application/json').end(JSON.stringify(body))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  asked.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return asked
}

describe('the service role key', () => {
  const PARAMETER = '/event-indexer/prod/supabase-service-role-key'
  const invokeTwice = `
    const { handler } = await load()
    const event = { Records: [{ messageId: 'm', body: 'no message of ours', attributes: {} }] }
    const context = { getRemainingTimeInMillis: () => 10_000 }
    for (let i = 0; i < 2; i++) await handler(event, context)
    process.exit()`

  it('is read from SSM Parameter Store once per container and is what the database is called with', async () => {
    const services = await startServices({ [PARAMETER]: 'the-key' })
    const { output, code } = await runWith(
      'finalizer',
      { ...environmentOf('finalizer'), SUPABASE_URL: services.url, AWS_ENDPOINT_URL_SSM: services.url },
      invokeTwice,
    )
    expect(code, output).toBe(0)
    expect(services.ssm).toEqual([{ Names: [PARAMETER], WithDecryption: true }])
    expect(services.rpc).toEqual(
      Array(2).fill({ path: '/rest/v1/rpc/indexing_keep_dead_letters', key: 'Bearer the-key' }),
    )
    expect(output).not.toContain('the-key')
  })

  it('that is not there fails the invocation with the name of its parameter', async () => {
    const services = await startServices({})
    const { output, code } = await runWith(
      'finalizer',
      { ...environmentOf('finalizer'), SUPABASE_URL: services.url, AWS_ENDPOINT_URL_SSM: services.url },
      invokeTwice,
    )
    expect(code).not.toBe(0)
    expect(output).toContain(PARAMETER)
    expect(services.rpc).toEqual([])
  })

  it('is not asked for where the environment has it', async () => {
    const services = await startServices({})
    const { output, code } = await runWith(
      'finalizer',
      {
        ...environmentOf('finalizer'),
        SUPABASE_URL: services.url,
        AWS_ENDPOINT_URL_SSM: services.url,
        SUPABASE_SERVICE_ROLE_KEY: 'of-the-environment',
      },
      invokeTwice,
    )
    expect(code, output).toBe(0)
    expect(services.ssm).toEqual([])
    expect(services.rpc[0]?.key).toBe('Bearer of-the-environment')
  })
})
