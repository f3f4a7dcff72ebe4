import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { settleConditions } from '../../deployment/settle-conditions.js'
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
const OWN_KEY = 'arn:aws:kms:eu-central-1:123456789012:key/own'
const OWN_TOPIC = 'arn:aws:sns:eu-central-1:123456789012:on-call'
let service: Service
/** Of the two packages below, that with the settings that are needed; the other has all of them. */
let packaged: Package
let full: Package

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
  full = await packageService(service, {
    ALARM_EMAIL: 'on-call@example.com',
    ALARM_TOPIC_ARN: OWN_TOPIC,
    NUDGE_CONCURRENCY: 'none',
    TRACING: 'Active',
    KMS_KEY_ARN: OWN_KEY,
  })
}, PATIENCE_MS)
afterAll(() => service.remove())

const functions = ['Scheduler', 'Nudge', 'Worker', 'Converter', 'Finalizer', 'Photos']

/** The properties of a resource of the template. */
const propertiesOf = (logicalId: string, of = packaged): Record<string, unknown> => {
  const resource = of.resources[logicalId]
  if (!resource) throw new Error(`the template has no ${logicalId}`)
  return resource.Properties
}

const ofType = (type: string, of = packaged): [string, Resource][] =>
  Object.entries(of.resources).filter(([, { Type }]) => Type === type)

describe('no secret', () => {
  it('of the environment is in any file of the package, zipped or not', async () => {
    const files = await readdir(packaged.directory)
    expect(files).toHaveLength(9) // two templates, the state, six zips
    const contents = await Promise.all(files.map((file) => readFile(join(packaged.directory, file))))
    const zipped = Object.values(packaged.zips).flatMap(({ files }) => Object.values(files))
    for (const content of [...contents, ...zipped]) expect(Buffer.from(content).includes(SECRET)).toBe(false)
  })
})

describe('the template', () => {
  it('says what is there, and nothing of what a setting leaves out', async () => {
    for (const { directory } of [packaged, full]) {
      const text = await readFile(join(directory, 'cloudformation-template-update-stack.json'), 'utf8')
      expect(text).not.toMatch(/"Conditions":|"Fn::If"|AWS::NoValue/)
    }
    const onlyInFull = Object.keys(full.resources).filter((logicalId) => !(logicalId in packaged.resources))
    expect(onlyInFull).toEqual(['SendersUseKey', 'ReceiversUseKey', 'AllAreTraced', 'AlarmTopic'])
    expect(Object.keys(packaged.resources).filter((logicalId) => !(logicalId in full.resources))).toEqual([])
  })

  it('is not made with a condition that hangs on more than settings', () => {
    const Resources = { Queue: { Condition: 'Is' } }
    expect(() => settleConditions({ Resources })).toThrow('no condition Is')
    const Conditions = { Is: { 'Fn::Equals': [{ Ref: 'AWS::Region' }, 'eu-central-1'] } }
    expect(() => settleConditions({ Conditions, Resources })).toThrow('cannot be settled')
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

  it.each(functions)('is traced only where that is set: %s', (name) => {
    expect(propertiesOf(`${name}LambdaFunction`).TracingConfig).toEqual({ Mode: 'PassThrough' })
    expect(propertiesOf(`${name}LambdaFunction`, full).TracingConfig).toEqual({ Mode: 'Active' })
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

  it('has a concurrency that no nudge can take', () => {
    expect(propertiesOf('SchedulerLambdaFunction')).not.toHaveProperty('ReservedConcurrentExecutions')
    expect(propertiesOf('NudgeLambdaFunction').ReservedConcurrentExecutions).toBe('5')
    expect(propertiesOf('NudgeLambdaFunction', full)).not.toHaveProperty('ReservedConcurrentExecutions')
  })
})

describe('the nudge', () => {
  it('is the only function with a URL', () => {
    expect(ofType('AWS::Lambda::Url').map(([logicalId]) => logicalId)).toEqual(['NudgeLambdaFunctionUrl'])
    expect(packaged.outputs).toMatchObject({
      NudgeUrl: { Value: { 'Fn::GetAtt': ['NudgeLambdaFunctionUrl', 'FunctionUrl'] } },
    })
  })

  it('is the only function that is told of its secret', () => {
    for (const name of functions) {
      const { Variables } = propertiesOf(`${name}LambdaFunction`).Environment as { Variables: object }
      expect('NUDGE_SECRET_PARAMETER' in Variables).toBe(name === 'Nudge')
    }
  })

  it('has every other setting of the scheduler, whose work it does', () => {
    const settingsOf = (name: string) =>
      (propertiesOf(`${name}LambdaFunction`).Environment as { Variables: object }).Variables
    expect(settingsOf('Nudge')).toEqual({
      ...settingsOf('Scheduler'),
      NUDGE_SECRET_PARAMETER: '/event-indexer/prod/nudge-secret',
    })
    expect(propertiesOf('NudgeLambdaFunction').Timeout).toBe(propertiesOf('SchedulerLambdaFunction').Timeout)
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

  it.each(queues)('is encrypted, with a key of your own where one is given: %s', (queue) => {
    expect(propertiesOf(queue)).toMatchObject({ SqsManagedSseEnabled: true })
    expect(propertiesOf(queue)).not.toHaveProperty('KmsMasterKeyId')
    expect(propertiesOf(queue, full)).toMatchObject({ KmsMasterKeyId: OWN_KEY })
    expect(propertiesOf(queue, full)).not.toHaveProperty('SqsManagedSseEnabled')
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

  it('of dead letters takes them from the work and the urgent queue alone', () => {
    const queueOf = (logicalId: string) =>
      `arn:aws:sqs:eu-central-1:123456789012:${propertiesOf(logicalId).QueueName}`
    const { redrivePermission, sourceQueueArns } = propertiesOf('DeadLetterQueue').RedriveAllowPolicy as {
      redrivePermission: string
      sourceQueueArns: unknown[]
    }
    expect(redrivePermission).toBe('byQueue')
    expect(sourceQueueArns.map(textOf)).toEqual([queueOf('WorkQueue'), queueOf('UrgentQueue')])
    const senders = ofType('AWS::SQS::Queue').filter(([, { Properties }]) => 'RedrivePolicy' in Properties)
    expect(senders.map(([logicalId]) => logicalId)).toEqual(['WorkQueue', 'UrgentQueue'])
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

describe('the dashboard', () => {
  it('is part of the stack, in the region of the stack, which is all that is filled in', () => {
    const { DashboardName, DashboardBody } = propertiesOf('Dashboard') as {
      DashboardName: string
      DashboardBody: { 'Fn::Sub': string }
    }
    expect(DashboardName).toBe('event-indexer-prod')
    const body = DashboardBody['Fn::Sub']
    const filledIn = [...body.matchAll(/\$\{([^}]*)\}/g)].map(([, name]) => name)
    expect(new Set(filledIn)).toEqual(new Set(['AWS::Region']))
    expect(JSON.parse(body)).toHaveProperty('widgets')
    expect(body).toContain('EventIndexer/prod')
    expect(packaged.outputs).toHaveProperty('DashboardUrl')
  })
})

describe('what a removed stage leaves', () => {
  it('is said of every queue and every log group: nothing', () => {
    const kept = [...ofType('AWS::SQS::Queue'), ...ofType('AWS::Logs::LogGroup')]
    expect(kept).toHaveLength(4 + functions.length)
    for (const [, resource] of kept)
      expect(resource).toMatchObject({ DeletionPolicy: 'Delete', UpdateReplacePolicy: 'Delete' })
  })
})

describe('a log group', () => {
  it.each(functions)('is encrypted with a key of your own where one is given: %s', (name) => {
    expect(propertiesOf(`${name}LogGroup`, full).KmsKeyId).toBe(OWN_KEY)
  })
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
  const allowed: Record<string, string[]> = {}
  for (const { Action, Resource } of statements)
    for (const action of [Action].flat())
      allowed[action] = [...(allowed[action] ?? []), ...[Resource].flat().map(textOf)]
  return allowed
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

  const aRun = {
    'sqs:SendMessage': ['WorkQueue.Arn', 'UrgentQueue.Arn'],
    'rekognition:CreateCollection': collections,
    'rekognition:DeleteCollection': collections,
    'rekognition:ListFaces': collections,
    'rekognition:ListCollections': ['*'],
    's3:GetObject': ['arn:aws:s3:::profile-photos/*'],
    's3:ListBucket': ['arn:aws:s3:::profile-photos'],
  }

  it('the scheduler allows to send messages and to make and delete our collections', () => {
    expect(allowedBy('SchedulerIamRoleLambdaExecution')).toEqual({
      ...logs('scheduler'),
      'ssm:GetParameter': [parameter('supabase-service-role-key')],
      ...aRun,
    })
  })

  it("the nudge allows the same, and to read the nudge's secret", () => {
    expect(allowedBy('NudgeIamRoleLambdaExecution')).toEqual({
      ...logs('nudge'),
      'ssm:GetParameter': [parameter('nudge-secret'), parameter('supabase-service-role-key')],
      ...aRun,
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
      'lambda:InvokeFunction': [
        'arn:aws:lambda:eu-central-1:123456789012:function:event-indexer-prod-converter',
      ],
    })
  })

  it('the converter allows to read photos, and nothing else', () => {
    expect(allowedBy('ConverterIamRoleLambdaExecution')).toEqual({
      ...logs('converter'),
      's3:GetObject': ['arn:aws:s3:::profile-photos/*'],
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
    expect(ofType('AWS::IAM::Role')).toHaveLength(functions.length)
    expect(ofType('AWS::IAM::Policy')).toEqual([])
    expect(ofType('AWS::IAM::ManagedPolicy')).toEqual([])
  })

  it('each function allows more only for a key of your own, and for tracing', () => {
    const more = ofType('AWS::IAM::Policy', full).map(([, { Properties }]) => {
      const { Roles, PolicyDocument } = Properties as {
        Roles: unknown[]
        PolicyDocument: { Statement: Statement[] }
      }
      const roles = Roles.map((role) => textOf(role).replace('IamRoleLambdaExecution', ''))
      return [roles, PolicyDocument.Statement]
    })
    expect(more).toEqual([
      [
        ['Scheduler', 'Nudge'],
        [{ Effect: 'Allow', Action: ['kms:GenerateDataKey', 'kms:Decrypt'], Resource: OWN_KEY }],
      ],
      [['Worker', 'Finalizer', 'Photos'], [{ Effect: 'Allow', Action: 'kms:Decrypt', Resource: OWN_KEY }]],
      [
        functions,
        [{ Effect: 'Allow', Action: ['xray:PutTraceSegments', 'xray:PutTelemetryRecords'], Resource: '*' }],
      ],
    ])
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
    'NudgesRefused',
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
        'nudge/nudge',
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

  it('reach an address, a topic of your own, or both, when they begin and when they end', () => {
    for (const [, { Properties }] of ofType('AWS::CloudWatch::Alarm', full)) {
      const { AlarmActions, OKActions } = Properties
      expect(AlarmActions).toEqual([{ Ref: 'AlarmTopic' }, OWN_TOPIC])
      expect(OKActions).toEqual(AlarmActions)
    }
    expect(propertiesOf('AlarmTopic', full)).toMatchObject({
      Subscription: [{ Protocol: 'email', Endpoint: 'on-call@example.com' }],
      KmsMasterKeyId: OWN_KEY,
    })
    for (const [, { Properties }] of alarms())
      expect([Properties.AlarmActions, Properties.OKActions]).toEqual([[], []])
    expect(ofType('AWS::SNS::Topic')).toEqual([])
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

/** What CloudFormation does to make and to remove a resource of a kind. */
const ACTIONS: Record<string, [create: string, remove: string]> = {
  'AWS::CloudWatch::Alarm': ['cloudwatch:PutMetricAlarm', 'cloudwatch:DeleteAlarms'],
  'AWS::CloudWatch::Dashboard': ['cloudwatch:PutDashboard', 'cloudwatch:DeleteDashboards'],
  'AWS::Events::Rule': ['events:PutRule', 'events:DeleteRule'],
  'AWS::IAM::Policy': ['iam:PutRolePolicy', 'iam:DeleteRolePolicy'],
  'AWS::IAM::Role': ['iam:CreateRole', 'iam:DeleteRole'],
  'AWS::Lambda::EventInvokeConfig': [
    'lambda:PutFunctionEventInvokeConfig',
    'lambda:DeleteFunctionEventInvokeConfig',
  ],
  'AWS::Lambda::EventSourceMapping': ['lambda:CreateEventSourceMapping', 'lambda:DeleteEventSourceMapping'],
  'AWS::Lambda::Function': ['lambda:CreateFunction', 'lambda:DeleteFunction'],
  'AWS::Lambda::Permission': ['lambda:AddPermission', 'lambda:RemovePermission'],
  'AWS::Lambda::Url': ['lambda:CreateFunctionUrlConfig', 'lambda:DeleteFunctionUrlConfig'],
  'AWS::Logs::LogGroup': ['logs:CreateLogGroup', 'logs:DeleteLogGroup'],
  'AWS::S3::Bucket': ['s3:CreateBucket', 's3:DeleteBucket'],
  'AWS::S3::BucketPolicy': ['s3:PutBucketPolicy', 's3:DeleteBucketPolicy'],
  'AWS::SNS::Topic': ['sns:CreateTopic', 'sns:DeleteTopic'],
  'AWS::SQS::Queue': ['sqs:CreateQueue', 'sqs:DeleteQueue'],
  'AWS::SQS::QueuePolicy': ['sqs:SetQueueAttributes', 'sqs:SetQueueAttributes'],
}

it('docs/deployer-policy.json allows to make and to remove each kind of resource, of this stage alone', async () => {
  const policy = JSON.parse(
    await readFile(new URL('../../docs/deployer-policy.json', import.meta.url), 'utf8'),
  ) as { Statement: { Sid: string; Action: string | string[]; Resource: string | string[] }[] }
  const allowed = new Set(policy.Statement.flatMap(({ Action }) => Action))
  const kinds = new Set(
    [packaged, full].flatMap(({ resources }) => Object.values(resources).map(({ Type }) => Type)),
  )
  for (const kind of kinds) {
    const actions = ACTIONS[kind] ?? [`an action for ${kind}`]
    expect(actions.filter((action) => !allowed.has(action))).toEqual([])
  }
  for (const { Sid, Resource } of policy.Statement)
    for (const arn of [Resource].flat())
      if (Sid !== 'WithoutAResource') expect(arn).toContain('event-indexer-STAGE')
})
