import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  copyService,
  type Package,
  packageService,
  type Resource,
  type Service,
  textOf,
} from './serverless.ts'

const SECRET = 'a-canary-that-sings-in-no-template'
const PATIENCE_MS = 180_000 // for the framework, on a busy machine
let service: Service
let packaged: Package

beforeAll(async () => {
  service = await copyService()
  packaged = await packageService(service, {
    SUPABASE_URL: 'https://project.supabase.co',
    SUPABASE_SERVICE_ROLE_KEY: SECRET,
    SUPABASE_ANON_KEY: SECRET,
    SUPABASE_JWT_SECRET: SECRET,
    NUDGE_SECRET: SECRET,
    S3_BUCKET_NAME: 'profile-photos',
    COLLECTION_PREFIX: 'gala_',
  })
}, PATIENCE_MS)
afterAll(() => service.remove())

const functions = ['Scheduler', 'Worker', 'Finalizer', 'Photos']

/** The properties of a resource of the template. */
const propertiesOf = (logicalId: string): Record<string, unknown> => {
  const resource = packaged.resources[logicalId]
  if (!resource) throw new Error(`the template has no ${logicalId}`)
  return resource.Properties
}

const ofType = (type: string): [string, Resource][] =>
  Object.entries(packaged.resources).filter(([, { Type }]) => Type === type)

describe('no secret', () => {
  it('of the environment is in any file of the package, zipped or not', async () => {
    const files = await readdir(packaged.directory)
    expect(files).toHaveLength(7) // two templates, the state, four zips
    const contents = await Promise.all(files.map((file) => readFile(join(packaged.directory, file))))
    const zipped = Object.values(packaged.zips).flatMap(({ files }) => Object.values(files))
    for (const content of [...contents, ...zipped]) expect(Buffer.from(content).includes(SECRET)).toBe(false)
  })
})

describe('each function', () => {
  it.each(functions)('runs on Node 24 and ARM, in its own role: %s', (name) => {
    expect(propertiesOf(`${name}LambdaFunction`)).toMatchObject({
      Runtime: 'nodejs24.x',
      Architectures: ['arm64'],
      Handler: `src/${name.toLowerCase()}/handler.handler`,
      Role: { 'Fn::GetAtt': [`${name}IamRoleLambdaExecution`, 'Arn'] },
    })
  })

  it.each(functions)('keeps its logs for 30 days: %s', (name) => {
    expect(propertiesOf(`${name}LogGroup`)).toEqual({
      LogGroupName: `/aws/lambda/event-indexer-prod-${name.toLowerCase()}`,
      RetentionInDays: 30,
    })
  })

  it('has the settings of its stage', () => {
    expect(propertiesOf('WorkerLambdaFunction').Environment).toMatchObject({
      Variables: {
        SUPABASE_URL: 'https://project.supabase.co',
        SUPABASE_SERVICE_ROLE_KEY_PARAMETER: '/event-indexer/prod/supabase-service-role-key',
        S3_BUCKET_NAME: 'profile-photos',
        COLLECTION_PREFIX: 'gala_',
        MAX_RECEIVE_COUNT: '5',
      },
    })
  })
})

describe('the scheduler', () => {
  it('runs every minute, and a run that failed is not repeated', () => {
    expect(ofType('AWS::Events::Rule').map(([logicalId]) => logicalId)).toEqual([
      'SchedulerEventsRuleSchedule1',
      'PhotoEventsRule',
    ])
    expect(propertiesOf('SchedulerEventsRuleSchedule1')).toMatchObject({
      ScheduleExpression: 'rate(1 minute)',
      State: 'ENABLED',
    })
    expect(propertiesOf('SchedulerLambdaEvConf').MaximumRetryAttempts).toBe(0)
  })

  it('is the only function with a URL', () => {
    expect(ofType('AWS::Lambda::Url').map(([logicalId]) => logicalId)).toEqual(['SchedulerLambdaFunctionUrl'])
    expect(packaged.outputs).toMatchObject({
      NudgeUrl: { Value: { 'Fn::GetAtt': ['SchedulerLambdaFunctionUrl', 'FunctionUrl'] } },
    })
  })
})

describe('an event source', () => {
  it.each([
    ['WorkerEventSourceMappingSQSWorkQueue', 'WorkQueue.Arn'],
    ['WorkerEventSourceMappingSQSUrgentQueue', 'UrgentQueue.Arn'],
    ['PhotosEventSourceMappingSQSPhotoEventsQueue', 'PhotoEventsQueue.Arn'],
    ['FinalizerEventSourceMappingSQSDeadLetterQueue', 'DeadLetterQueue.Arn'],
  ])('takes partial batch responses and has a maximum concurrency: %s', (mapping, queue) => {
    const properties = propertiesOf(mapping)
    expect(textOf(properties.EventSourceArn)).toBe(queue)
    expect(properties).toMatchObject({
      FunctionResponseTypes: ['ReportBatchItemFailures'],
      ScalingConfig: { MaximumConcurrency: expect.any(Number) },
    })
  })
})

describe('a queue', () => {
  const queues = ['WorkQueue', 'UrgentQueue', 'PhotoEventsQueue', 'DeadLetterQueue']

  it('is one of four', () => {
    expect(ofType('AWS::SQS::Queue').map(([logicalId]) => logicalId)).toEqual(queues)
  })

  it.each(queues)('is encrypted: %s', (queue) => {
    expect(propertiesOf(queue).SqsManagedSseEnabled).toBe(true)
  })

  it.each(queues)('denies everybody everything without TLS: %s', (queue) => {
    const { Queues, PolicyDocument } = propertiesOf(`${queue}Policy`)
    expect(Queues).toEqual([{ Ref: queue }])
    const { Statement } = PolicyDocument as { Statement: { Effect: string }[] }
    expect(Statement.filter(({ Effect }) => Effect === 'Deny')).toMatchObject([
      {
        Effect: 'Deny',
        Principal: '*',
        Action: 'sqs:*',
        Resource: { 'Fn::GetAtt': [queue, 'Arn'] },
        Condition: { Bool: { 'aws:SecureTransport': false } },
      },
    ])
    if (queue !== 'PhotoEventsQueue') expect(Statement).toHaveLength(1)
  })

  it.each([
    ['WorkQueue', 'WorkerLambdaFunction'],
    ['UrgentQueue', 'WorkerLambdaFunction'],
    ['PhotoEventsQueue', 'PhotosLambdaFunction'],
    ['DeadLetterQueue', 'FinalizerLambdaFunction'],
  ])('hides what was received for six times the timeout of its function: %s', (queue, logicalId) => {
    expect(propertiesOf(queue).VisibilityTimeout).toBe(Number(propertiesOf(logicalId).Timeout) * 6)
  })

  it('of photo events takes them from the rule of the photo bucket alone', () => {
    expect(propertiesOf('PhotoEventsQueuePolicy').PolicyDocument).toMatchObject({
      Statement: [
        { Effect: 'Deny' },
        {
          Effect: 'Allow',
          Principal: { Service: 'events.amazonaws.com' },
          Action: 'sqs:SendMessage',
          Condition: { ArnEquals: { 'aws:SourceArn': { 'Fn::GetAtt': ['PhotoEventsRule', 'Arn'] } } },
        },
      ],
    })
    expect(propertiesOf('PhotoEventsRule')).toMatchObject({
      State: 'ENABLED',
      EventPattern: {
        source: ['aws.s3'],
        'detail-type': ['Object Created', 'Object Deleted'],
        detail: { bucket: { name: ['profile-photos'] } },
      },
    })
  })

  it.each(['WorkQueue', 'UrgentQueue'])(
    'gives a message up after five receives to the dead-letter queue, which keeps it for 14 days: %s',
    (queue) => {
      expect(propertiesOf(queue).RedrivePolicy).toEqual({
        deadLetterTargetArn: { 'Fn::GetAtt': ['DeadLetterQueue', 'Arn'] },
        maxReceiveCount: 5,
      })
      expect(propertiesOf('DeadLetterQueue').MessageRetentionPeriod).toBe(14 * 24 * 3600)
    },
  )
})

interface Statement {
  Effect: string
  Action: string | string[]
  Resource: unknown
}

/** What a role allows: for each action the resources, as `textOf` writes them. */
function allowedBy(role: string): Record<string, string[]> {
  const { Policies, ManagedPolicyArns } = propertiesOf(role) as {
    Policies: { PolicyDocument: { Statement: Statement[] } }[]
    ManagedPolicyArns: unknown[]
  }
  expect(ManagedPolicyArns).toEqual([])
  const statements = Policies.flatMap(({ PolicyDocument }) => PolicyDocument.Statement)
  expect(statements.filter(({ Effect }) => Effect !== 'Allow')).toEqual([])
  return Object.fromEntries(
    statements.flatMap(({ Action, Resource }) =>
      [Action].flat().map((action) => [action, [Resource].flat().map(textOf)]),
    ),
  )
}

describe('the role of', () => {
  const parameter = (name: string) =>
    `arn:aws:ssm:eu-central-1:123456789012:parameter/event-indexer/prod/${name}`
  const collections = ['arn:aws:rekognition:eu-central-1:123456789012:collection/gala_*']
  const logs = (name: string) => {
    const group = [
      `arn:aws:logs:eu-central-1:123456789012:log-group:/aws/lambda/event-indexer-prod-${name}:*:*`,
    ]
    return { 'logs:CreateLogGroup': group, 'logs:CreateLogStream': group, 'logs:PutLogEvents': group }
  }

  it('the scheduler allows to send messages and to make and delete our collections', () => {
    expect(allowedBy('SchedulerIamRoleLambdaExecution')).toEqual({
      ...logs('scheduler'),
      'ssm:GetParameter': [parameter('supabase-service-role-key'), parameter('nudge-secret')],
      'sqs:SendMessage': ['WorkQueue.Arn', 'UrgentQueue.Arn'],
      'rekognition:CreateCollection': collections,
      'rekognition:DeleteCollection': collections,
      'rekognition:ListFaces': collections,
      'rekognition:ListCollections': ['*'],
      's3:GetObject': ['arn:aws:s3:::profile-photos/*'],
      's3:ListBucket': ['arn:aws:s3:::profile-photos'],
    })
  })

  it('the worker allows to work the queue, to keep faces in our collections, and to read photos', () => {
    expect(allowedBy('WorkerIamRoleLambdaExecution')).toEqual({
      ...logs('worker'),
      'ssm:GetParameter': [parameter('supabase-service-role-key')],
      'sqs:ReceiveMessage': ['WorkQueue.Arn', 'UrgentQueue.Arn'],
      'sqs:DeleteMessage': ['WorkQueue.Arn', 'UrgentQueue.Arn'],
      'sqs:GetQueueAttributes': ['WorkQueue.Arn', 'UrgentQueue.Arn'],
      'sqs:ChangeMessageVisibility': ['WorkQueue.Arn', 'UrgentQueue.Arn'],
      'rekognition:CreateCollection': collections,
      'rekognition:IndexFaces': collections,
      'rekognition:ListFaces': collections,
      'rekognition:DeleteFaces': collections,
      's3:GetObject': ['arn:aws:s3:::profile-photos/*'],
      's3:GetObjectVersion': ['arn:aws:s3:::profile-photos/*'],
      's3:ListBucket': ['arn:aws:s3:::profile-photos'],
    })
  })

  it.each([
    ['Photos', 'PhotoEventsQueue'],
    ['Finalizer', 'DeadLetterQueue'],
  ])('%s allows to take messages from %s', (name, queue) => {
    expect(allowedBy(`${name}IamRoleLambdaExecution`)).toEqual({
      ...logs(name.toLowerCase()),
      'ssm:GetParameter': [parameter('supabase-service-role-key')],
      'sqs:ReceiveMessage': [`${queue}.Arn`],
      'sqs:DeleteMessage': [`${queue}.Arn`],
      'sqs:GetQueueAttributes': [`${queue}.Arn`],
    })
  })

  it('nobody else is there', () => {
    expect(ofType('AWS::IAM::Role')).toHaveLength(4)
    expect(ofType('AWS::IAM::Policy')).toEqual([])
    expect(ofType('AWS::IAM::ManagedPolicy')).toEqual([])
  })
})

describe('the alarms', () => {
  const alarms = () => ofType('AWS::CloudWatch::Alarm')
  const OWN_METRICS = [
    'FailedJobs',
    'FailedEvents',
    'LateEvents',
    'OverdueEvents',
    'ErasureAge',
    'UnprovenErasureAge',
    'ErasureSeconds',
    'ChangeAge',
    'ChangesFull',
    'CollectionsFailing',
    'FailedSteps',
    'ScheduledRuns',
    'InvocationsFailed',
    'DatabaseFailed',
    'Unreadable',
  ]
  const own = () =>
    alarms().filter(([, { Properties }]) => String(Properties.Namespace).startsWith('EventIndexer'))

  it('watch these metrics of ours, each of which the code writes', async () => {
    expect(own().map(([, { Properties }]) => Properties.MetricName)).toEqual(OWN_METRICS)
    const sources = await Promise.all(
      [
        'scheduler/handler',
        'scheduler/scheduler',
        'scheduler/retention',
        'worker/handler',
        'worker/worker',
        'finalizer/finalizer',
      ].map((name) => readFile(new URL(`../../src/${name}.ts`, import.meta.url), 'utf8')),
    )
    for (const metric of OWN_METRICS) expect(sources.join()).toContain(`('${metric}'`)
  })

  it('watch the errors of every function', () => {
    const watched = alarms()
      .filter(([, { Properties }]) => Properties.MetricName === 'Errors')
      .map(([, { Properties }]) => Properties.Dimensions)
    expect(watched).toEqual(
      functions.map((name) => [{ Name: 'FunctionName', Value: { Ref: `${name}LambdaFunction` } }]),
    )
  })

  it('beside these watch what waits in the queues, and a worker that is not started', () => {
    const others = alarms().filter(
      ([, { Properties }]) =>
        Properties.MetricName !== 'Errors' && !String(Properties.Namespace).startsWith('EventIndexer'),
    )
    expect(others.map(([logicalId]) => logicalId)).toEqual([
      'WorkerThrottled',
      'WorkWaits',
      'UrgentWaits',
      'DeadLettersStay',
    ])
  })

  it('fire when the scheduler says nothing, since a metric that is missing fires no other alarm', () => {
    expect(propertiesOf('SchedulerSilent').TreatMissingData).toBe('breaching')
  })

  it('watch where the functions write their metrics', () => {
    const { Variables } = propertiesOf('FinalizerLambdaFunction').Environment as {
      Variables: Record<string, string>
    }
    for (const [, { Properties }] of own())
      expect(Properties).toMatchObject({
        Namespace: Variables.POWERTOOLS_METRICS_NAMESPACE,
        Dimensions: [{ Name: 'service', Value: Variables.POWERTOOLS_SERVICE_NAME }],
      })
  })
})
