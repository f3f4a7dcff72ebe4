import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect, test } from 'vitest'
import { readDeployment } from '../../local/deployment.ts'
import { temporaryDirectory } from '../support/child.ts'
import { FIXTURE } from '../support/lambda-host.ts'

const fixture = new URL('serverless.yml', FIXTURE)

/** The fixture's serverless.yml with a part of it replaced. */
async function changed(from: string, to: string): Promise<URL> {
  const text = await readFile(fixture, 'utf8')
  expect(text).toContain(from)
  const file = join(await temporaryDirectory(), 'serverless.yml')
  await writeFile(file, text.replace(from, to))
  return pathToFileURL(file)
}

test('functions have their own figures, or else those of the provider, or else the defaults', async () => {
  const { functions } = await readDeployment(fixture)
  const figures = functions.map(({ name, timeoutSeconds, memoryMB }) => [name, timeoutSeconds, memoryMB])
  expect(figures).toContainEqual(['echo', 2, 256])
  expect(figures).toContainEqual(['misbehave', 1, 128])
  expect(figures).toContainEqual(['broken', 6, 128])
})

test('a function is known by its module, its export, and its name in AWS', async () => {
  const { functions } = await readDeployment(fixture)
  expect(functions[0]).toMatchObject({
    deployedName: 'fixture-local-echo',
    module: 'functions/echo',
    export: 'handler',
  })
})

test('variables are resolved: of the file, parameters, the stage, and their fallbacks', async () => {
  const environment = async (params?: Record<string, string>) =>
    (await readDeployment(fixture, params)).functions[0]?.environment
  expect(await environment()).toMatchObject({ GREETING: 'hello from local', ATTEMPTS: '3' })
  expect(await environment({ greeting: 'good evening' })).toMatchObject({ GREETING: 'good evening' })
})

test('what YAML merges is merged', async () => {
  const { functions } = await readDeployment(fixture)
  expect(functions[1]?.environment).toMatchObject({ ATTEMPTS: '3', MISCHIEF: 'all' })
})

test('what is set in this shell does not reach the local system', async () => {
  process.env.GREETING = 'from the shell'
  try {
    const { functions } = await readDeployment(fixture)
    expect(functions[0]?.environment.GREETING).toBe('hello from local')
  } finally {
    delete process.env.GREETING
  }
})

test('queues have their attributes as SQS takes them, and are found by their references', async () => {
  const { queues, functions } = await readDeployment(fixture)
  const dead = 'arn:aws:sqs:eu-west-1:000000000000:fixture-local-dead'
  expect(queues).toEqual([
    {
      logicalId: 'Work',
      name: 'fixture-local-work',
      arn: 'arn:aws:sqs:eu-west-1:000000000000:fixture-local-work',
      attributes: {
        VisibilityTimeout: '2',
        RedrivePolicy: JSON.stringify({ deadLetterTargetArn: dead, maxReceiveCount: 2 }),
      },
    },
    {
      logicalId: 'Dead',
      name: 'fixture-local-dead',
      arn: dead,
      attributes: {
        RedriveAllowPolicy: JSON.stringify({
          redrivePermission: 'byQueue',
          sourceQueueArns: ['arn:aws:sqs:eu-west-1:000000000000:fixture-local-work'],
        }),
      },
    },
  ])
  expect(functions[0]?.environment.QUEUE_URL).toEqual({ urlOfQueue: 'Work' })
})

test('event sources and schedules are read with their defaults', async () => {
  const { functions } = await readDeployment(fixture)
  const find = (name: string) => functions.find((one) => one.name === name)
  expect(find('consumer')?.eventSources).toEqual([
    {
      queueArn: 'arn:aws:sqs:eu-west-1:000000000000:fixture-local-work',
      batchSize: 4,
      batchingWindow: 1,
      maximumConcurrency: 2,
      reportsBatchItemFailures: true,
    },
  ])
  expect(find('undertaker')?.eventSources).toMatchObject([
    { batchSize: 10, batchingWindow: 0, reportsBatchItemFailures: false },
  ])
  expect(find('ticking')?.schedules).toEqual([{ everySeconds: 300, input: { from: 'schedule' } }])
})

test.each([
  [
    `'hello from \${sls:stage}'`,
    'aws:region',
    `variable \${aws:region} cannot be resolved without a deployment`,
  ],
  [
    `env:GREETING, 'hello from \${sls:stage}'`,
    'env:GREETING',
    `variable \${param:greeting, env:GREETING} has no value`,
  ],
  ['QUEUE_URL: !Ref Work', 'QUEUE_URL: !Ref Lost', '!Ref Lost: only a queue is known here'],
  ['!GetAtt Work.Arn', 'arn:aws:sqs:eu-west-1:1:other', "other, a function's event source, is no queue"],
  ['!GetAtt Work.Arn', '!GetAtt Lost.Arn', '!GetAtt Lost.Arn: only the Arn of a queue is known here'],
  [
    `sqs:\${AWS::Region}`,
    `sqs:\${AWS::StackName}`,
    `!Sub \${AWS::StackName}: only pseudo parameters are known here`,
  ],
  ['rate(5 minutes)', 'cron(0 12 * * ? *)', 'cron(0 12 * * ? *) is not understood here'],
  ['batchSize: 4', 'batchSize: four', 'expected number'],
])('what cannot be understood is named, with the file: %s → %s', async (from, to, problem) => {
  const file = await changed(from, to)
  const error = await readDeployment(file).catch((error) => error)
  expect(error.message).toContain('serverless.yml: ')
  expect(error.message).toContain(problem)
})

test("the project's own serverless.yml is understood", async () => {
  const { functions, queues } = await readDeployment(new URL('../../serverless.yml', import.meta.url))
  expect(functions.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['scheduler', 'nudge', 'worker', 'finalizer']),
  )
  expect(queues.map(({ logicalId }) => logicalId)).toEqual(
    expect.arrayContaining(['WorkQueue', 'DeadLetterQueue']),
  )
})
