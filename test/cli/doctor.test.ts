import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { DeleteQueueCommand, SetQueueAttributesCommand } from '@aws-sdk/client-sqs'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { type DoctorDocument, doctor } from '../../cli/commands/doctor.ts'
import { checkBucket } from '../../cli/doctor/resources.ts'
import { stubAws } from '../support/aws-stub.ts'
import { runCommand, startCli } from '../support/operator.ts'
import { openStage } from '../support/stage.ts'

const SECRET = `nudge-${randomBytes(12).toString('hex')}`

/** A nudge's URL that answers each request with this status. */
async function answering(status: number): Promise<string> {
  const server = createServer((_, response) => void response.writeHead(status).end())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
}

/** A system in which all is well: its scheduler has run, its nudge arrives. */
async function openHealthy() {
  const stage = await openStage()
  onTestFinished(stage.close)
  await stage.runScheduler()
  await stage.sql('create schema if not exists net')
  await stage.sql(
    'create or replace function net.http_post(url text, body jsonb, headers jsonb, timeout_milliseconds int) returns bigint language sql as $$ select 1::bigint $$',
  )
  const url = await answering(403)
  await stage.sql('select indexing.configure_nudge($1, $2)', [url, SECRET])
  await stage.sql('select public.indexing_begin_nudged_run(60), public.indexing_end_nudged_run()')
  const environment = { ...stage.environment, NUDGE_SECRET: SECRET, INDEX_FACES_TPS: '10000' }

  return {
    ...stage,
    environment,
    /** Runs the command, and returns its lines by what they are about. */
    async examine(added: Record<string, string | undefined> = {}) {
      const { code, out } = await runCommand(doctor, { json: true }, { ...environment, ...added })
      const document = JSON.parse(out) as DoctorDocument
      const of = (check: string) => {
        const found = document.checks.find((each) => each.check === check)
        if (!found) throw new Error(`there is no line about ${check}: ${out}`)
        return found
      }
      const problems = document.checks
        .filter(({ verdict }) => verdict === 'problem')
        .map(({ check }) => check)
      return { code, document, of, problems }
    },
  }
}

describe('event-indexer doctor, of a system in which all is well', () => {
  it('finds no problem, and ends with 0', async () => {
    const { examine } = await openHealthy()
    const { code, document, problems } = await examine()
    expect({ code, problems, healthy: document.healthy }).toEqual({ code: 0, problems: [], healthy: true })
    expect(document.checks.map(({ check }) => check)).toEqual([
      'connection',
      'schema',
      'settings',
      'bucket',
      'clocks',
      'tables',
      'triggers',
      'rights',
      'last run',
      'nudge',
      'queues',
      'rekognition',
    ])
    expect(document.checks.filter(({ verdict }) => verdict === 'unknown')).toEqual([])
  })

  it('says it in a line each, without a secret', async () => {
    const { environment } = await openHealthy()
    const { code, out, error } = await startCli(['doctor'], environment).ended
    expect({ code, error }).toEqual({ code: 0, error: '' })
    expect(out).toMatch(/^ok {7}queues/m)
    expect(out).toContain('No problem found.')
    expect(out).not.toContain(SECRET)
    expect(out).not.toContain(environment.SUPABASE_SERVICE_ROLE_KEY)
  })

  it('changes nothing', async () => {
    const { examine, sql, rekognition } = await openHealthy()
    const state = () =>
      sql(`select (select count(*) from indexing.changes) as changes, (select count(*) from indexing.face_jobs) as jobs,
        (select jsonb_agg(s) from indexing.settings s) as settings, (select jsonb_agg(n) from indexing.nudging n) as nudging`)
    const before = await state()
    await examine()
    expect(await state()).toEqual(before)
    const { ListCollections, ListFaces, ...others } = rekognition.calls()
    expect(ListCollections.calls + ListFaces.calls).toBeGreaterThan(0)
    expect(Object.values(others).every(({ calls }) => calls === 0)).toBe(true)
  })
})

describe('event-indexer doctor names the fault, says what to do, and ends with 2', () => {
  type Healthy = Awaited<ReturnType<typeof openHealthy>>
  const queueUrl = ({ environment }: Healthy) => environment.URGENT_QUEUE_URL

  it.each<
    [
      fault: string,
      check: string,
      found: RegExp,
      todo: RegExp | null,
      produce: (healthy: Healthy) => Promise<unknown>,
      added?: Record<string, string | undefined>,
    ]
  >([
    [
      'a trigger that was dropped',
      'triggers',
      /^Missing: indexing_profiles_updated on public\.profiles\.$/,
      /migrate --again/,
      ({ sql }) => sql('drop trigger indexing_profiles_updated on profiles'),
    ],
    [
      'a trigger that is disabled',
      'triggers',
      /^Disabled: indexing_consents_updated on public\.event_consents\.$/,
      /migrate --again/,
      ({ sql }) => sql('alter table event_consents disable trigger indexing_consents_updated'),
    ],
    [
      'a key of another project',
      'connection',
      /the key is neither a secret key \(sb_secret_…\) nor the legacy service_role key of this project/,
      null,
      async () => {},
      { SUPABASE_SERVICE_ROLE_KEY: 'of another project' },
    ],
    [
      'a database that does not answer',
      'connection',
      /^No answer from http:\/\/127\.0\.0\.1:1/,
      null,
      async () => {},
      { SUPABASE_URL: 'http://127.0.0.1:1' },
    ],
    [
      'a database without our functions',
      'connection',
      /apply supabase\/migrations/,
      null,
      ({ sql }) => sql('drop function public.indexing_schema_version()'),
    ],
    [
      'a schema of another version',
      'schema',
      /schema version 99/,
      /npx event-indexer migrate/,
      ({ sql }) =>
        sql(
          'create or replace function public.indexing_schema_version() returns integer language sql as $$ select 99 $$',
        ),
    ],
    [
      'a column of the app that was renamed',
      'tables',
      /allow_recognition/,
      /app-tables\.yml/,
      ({ sql }) => sql('alter table event_consents rename column allow_recognition to may_recognise'),
    ],
    [
      'a function that anybody may execute',
      'rights',
      /indexing_pause\(uuid\) to anon/,
      /sets the rights/,
      ({ sql }) => sql('grant execute on function public.indexing_pause to anon'),
    ],
    [
      'a function that is withheld from the functions',
      'rights',
      /service_role may not execute: .*indexing_claim/,
      /sets the rights/,
      ({ sql }) => sql('revoke execute on function public.indexing_claim from service_role'),
    ],
    [
      'a queue that is missing',
      'queues',
      /There is no such queue/,
      null,
      (healthy) => healthy.parts.sqs.send(new DeleteQueueCommand({ QueueUrl: queueUrl(healthy) })),
    ],
    [
      'a queue without a dead-letter queue',
      'queues',
      /^The urgent queue has no dead-letter queue\.$/,
      /deploy again/,
      (healthy) =>
        healthy.parts.sqs.send(
          new SetQueueAttributesCommand({ QueueUrl: queueUrl(healthy), Attributes: { RedrivePolicy: '' } }),
        ),
    ],
    [
      'a queue that gives up earlier than the worker counts on',
      'queues',
      /^The work queue gives up after 1000 receives, the worker counts on 5; the urgent/,
      /deploy again/,
      async () => {},
      { MAX_RECEIVE_COUNT: '5' },
    ],
    [
      'a bucket that may not be read',
      'bucket',
      /^S3 denies access to bucket photos \(403\)/,
      /roles of the functions/,
      async ({ setObjectAccess }) => setObjectAccess('denied'),
    ],
    [
      'a bucket that may not be listed',
      'bucket',
      /s3:ListBucket/,
      /roles of the functions/,
      async ({ setObjectAccess }) => setObjectAccess('no-list'),
    ],
    [
      'a bucket that is not there',
      'bucket',
      /^There is no bucket another\.$/,
      /S3_BUCKET_NAME/,
      async () => {},
      { S3_BUCKET_NAME: 'another' },
    ],
    [
      'Rekognition that refuses',
      'rekognition',
      /^Rekognition refuses/,
      /rekognition:ListCollections/,
      async ({ rekognition }) =>
        rekognition.setFaults(({ operation }) =>
          operation === 'ListFaces'
            ? { type: 'error', strikes: 'before', error: 'AccessDeniedException' }
            : undefined,
        ),
    ],
    [
      'a setting that is malformed',
      'settings',
      /INDEX_FACES_TPS is not a number/,
      /docs\/settings\.md/,
      async () => {},
      { INDEX_FACES_TPS: 'abc' },
    ],
    [
      'a scheduler that has never run',
      'last run',
      /^The scheduler has not run yet\.$/,
      /invoke it by hand/,
      ({ sql }) => sql('update indexing.settings set collection_prefix = null, photo_bucket = null'),
    ],
    [
      'a database without pg_net',
      'nudge',
      /pg_net is not there/,
      /create extension pg_net/,
      ({ sql }) => sql('drop schema net cascade'),
    ],
    [
      'a nudge with another secret than the function has',
      'nudge',
      /another nudge secret/,
      /configure_nudge/,
      ({ sql }) => sql(`update indexing.nudging set secret = 'nudge-of-yesterday'`),
    ],
    [
      'a nudge whose URL nobody listens at',
      'nudge',
      /^http:\/\/127\.0\.0\.1:1\/ does not answer: ./,
      /configure_nudge/,
      ({ sql }) => sql(`update indexing.nudging set url = 'http://127.0.0.1:1/'`),
    ],
    [
      'a nudge whose URL is not the nudge function’s',
      'nudge',
      /answers 200 to a request without the secret/,
      /configure_nudge/,
      async ({ sql }) => sql('update indexing.nudging set url = $1', [await answering(200)]),
    ],
  ])('%s', async (_fault, check, found, todo, produce, added) => {
    const healthy = await openHealthy()
    await produce(healthy)
    const { code, of, problems } = await healthy.examine(added)
    expect({ code, problems }).toEqual({ code: 2, problems: [check] })
    expect(of(check).found).toMatch(found)
    if (todo) expect(of(check).todo).toMatch(todo)
  })

  it('a nudge that has not arrived yet is no fault: it is said, with where to look', async () => {
    const { examine, sql } = await openHealthy()
    await sql('update indexing.nudging set arrived_at = null')
    const { code, of } = await examine()
    expect(code).toBe(0)
    expect(of('nudge')).toMatchObject({
      verdict: 'note',
      found: expect.stringContaining('no nudge has arrived'),
      todo: expect.stringContaining('net._http_response'),
    })
  })

  it('a bucket in another region than Rekognition’s', async () => {
    const { parts } = await openHealthy()
    const elsewhere = { status: 301, region: 'eu-west-1', ahead: 0 }
    expect(await checkBucket(elsewhere, parts.photos, 'eu-central-1')).toMatchObject({
      verdict: 'problem',
      found: expect.stringMatching(
        /^Bucket photos is in eu-west-1, and Rekognition is asked in eu-central-1/,
      ),
      todo: 'Deploy the system in eu-west-1: AWS_REGION=eu-west-1.',
    })
  })

  it('a clock of this machine that is wrong', async () => {
    const { examine } = await openHealthy()
    const now = Date.now
    vi.spyOn(Date, 'now').mockImplementation(() => now() - 120_000)
    onTestFinished(() => void vi.restoreAllMocks())
    const { code, of, problems } = await examine()
    expect({ code, problems }).toEqual({ code: 2, problems: ['clocks'] })
    expect(of('clocks').found).toMatch(/the database \+1(19|20|21)\.\d s, AWS \+1(19|20|21)\.\d s/)
    expect(of('clocks').todo).toContain('Set this machine’s clock')
  })
})

describe('event-indexer doctor --stage', () => {
  const ACCOUNT = '000000000000'
  const arnOf = (service: string, resource: string) =>
    `arn:aws:${service}:eu-central-1:${ACCOUNT}:${resource}`
  const TOPIC = arnOf('sns', 'event-indexer-test-alarms')
  const denied = () => {
    throw Object.assign(new Error('not authorized to do that'), {
      name: 'AccessDeniedException',
      $fault: 'client',
    })
  }

  /** A stage in which all is well, and what AWS says of it. */
  async function openDeployed() {
    const healthy = await openHealthy()
    const { environment, parts } = healthy
    const [{ url } = { url: '' }] = await healthy.sql<{ url: string }>('select url from indexing.nudging')
    const Variables = {
      SUPABASE_URL: environment.SUPABASE_URL,
      SUPABASE_SERVICE_ROLE_KEY_PARAMETER: '/event-indexer/test/supabase-service-role-key',
      NUDGE_SECRET_PARAMETER: '/event-indexer/test/nudge-secret',
      S3_BUCKET_NAME: 'photos',
      WORK_QUEUE_URL: environment.WORK_QUEUE_URL,
      URGENT_QUEUE_URL: environment.URGENT_QUEUE_URL,
      INDEX_FACES_TPS: '10000',
      MAX_RECEIVE_COUNT: environment.MAX_RECEIVE_COUNT,
    }
    const nameOf = (input: { FunctionName?: string }) => input.FunctionName ?? ''
    const aws = stubAws({
      GetFunctionConfiguration: (input: { FunctionName?: string }) => ({
        FunctionArn: arnOf('lambda', `function:${nameOf(input)}`),
        State: 'Active',
        LastUpdateStatus: 'Successful',
        Timeout: 60,
        Environment: { Variables },
      }),
      GetFunctionUrlConfig: () => ({ FunctionUrl: url }),
      ListEventSourceMappings: () => ({
        EventSourceMappings: [{ EventSourceArn: arnOf('sqs', 'event-indexer-test-work'), State: 'Enabled' }],
      }),
      ListRuleNamesByTarget: ({ TargetArn = '' }: { TargetArn?: string }) => ({
        RuleNames: [TargetArn.includes(':sqs:') ? 'photo-events' : 'every-minute'],
      }),
      DescribeRule: (_: { Name?: string }): { State: string } => ({ State: 'ENABLED' }),
      GetBucketNotificationConfiguration: () => ({ EventBridgeConfiguration: {} }),
      ListServiceQuotas: ({ NextToken }: { NextToken?: string }) =>
        NextToken
          ? {
              Quotas: [
                {
                  QuotaName:
                    'Transactions per second per account for the Amazon Rekognition Image personal protective equipment operation',
                  Value: 5,
                },
                {
                  QuotaName:
                    'Transactions per second per account for the Amazon Rekognition Image operation IndexFaces',
                  Value: 10_000,
                },
              ],
            }
          : { Quotas: [], NextToken: 'more' },
      DescribeAlarms: () => ({
        MetricAlarms: [
          {
            AlarmName: 'event-indexer-test-jobs-failed',
            ActionsEnabled: true,
            AlarmActions: [TOPIC],
            StateValue: 'OK',
          },
        ],
      }),
      ListSubscriptionsByTopic: () => ({ Subscriptions: [{ SubscriptionArn: `${TOPIC}:1` }] }),
      GetParameter: () => ({ Parameter: { Value: SECRET } }),
    })
    onTestFinished(aws.restore)
    return {
      ...healthy,
      parts,
      answer: aws.answer,
      Variables,
      examine: (added: Record<string, string | undefined> = {}) =>
        healthy.examine({ stage: 'test', NUDGE_SECRET: undefined, ...added }),
    }
  }

  it('looks at functions, rules, photo events, the quota and alarms too', async () => {
    const { examine } = await openDeployed()
    const { code, document, problems } = await examine()
    expect({ code, problems }).toEqual({ code: 0, problems: [] })
    const verdicts = Object.fromEntries(document.checks.map(({ check, verdict }) => [check, verdict]))
    const well = ['settings', 'nudge', 'functions', 'schedule', 'photo events', 'quota', 'alarms']
    expect(well.map((check) => verdicts[check])).toEqual(well.map(() => 'ok'))
  })

  type Deployed = Awaited<ReturnType<typeof openDeployed>>
  it.each<
    [fault: string, check: string, verdict: string, found: RegExp, produce: (deployed: Deployed) => unknown]
  >([
    [
      'functions that are not deployed',
      'settings',
      'problem',
      /^The worker is not deployed/,
      ({ answer }) =>
        answer('GetFunctionConfiguration', () => {
          throw Object.assign(new Error('Function not found'), { name: 'ResourceNotFoundException' })
        }),
    ],
    [
      'functions of another project',
      'settings',
      'problem',
      /^SUPABASE_URL is http.* here, and https:\/\/another\.supabase\.co in the deployed functions/,
      ({ answer, Variables }) =>
        answer('GetFunctionConfiguration', () => ({
          Timeout: 60,
          Environment: { Variables: { ...Variables, SUPABASE_URL: 'https://another.supabase.co' } },
        })),
    ],
    [
      'an event source that is disabled',
      'functions',
      'problem',
      /worker on event-indexer-test-work: Disabled/,
      ({ answer }) =>
        answer('ListEventSourceMappings', () => ({
          EventSourceMappings: [
            { EventSourceArn: arnOf('sqs', 'event-indexer-test-work'), State: 'Disabled' },
          ],
        })),
    ],
    [
      'a schedule that is disabled',
      'schedule',
      'problem',
      /is disabled/,
      ({ answer }) =>
        answer('DescribeRule', ({ Name }: { Name?: string }) => ({
          State: Name === 'every-minute' ? 'DISABLED' : 'ENABLED',
        })),
    ],
    [
      'a queue that shows messages again while the worker still has them',
      'queues',
      'problem',
      /The work queue shows a message again after 3600 s, which must be six times the worker’s timeout of 900 s/,
      ({ answer, Variables }) =>
        answer('GetFunctionConfiguration', () => ({ Timeout: 900, Environment: { Variables } })),
    ],
    [
      'a bucket that sends no events',
      'photo events',
      'note',
      /^The bucket sends none/,
      ({ answer }) => answer('GetBucketNotificationConfiguration', () => ({})),
    ],
    [
      'a quota below INDEX_FACES_TPS',
      'quota',
      'problem',
      /^INDEX_FACES_TPS is 10000, and the account may make 50 /,
      ({ answer }) =>
        answer('ListServiceQuotas', () => ({ Quotas: [{ QuotaName: '… operation IndexFaces', Value: 50 }] })),
    ],
    [
      'alarms that tell nobody',
      'alarms',
      'problem',
      /^1 alarm of 1 tell nobody/,
      ({ answer }) =>
        answer('DescribeAlarms', () => ({
          MetricAlarms: [{ AlarmName: 'event-indexer-test-a', ActionsEnabled: true, AlarmActions: [] }],
        })),
    ],
    [
      'a subscription that nobody has confirmed',
      'alarms',
      'problem',
      /^Nobody has confirmed a subscription to arn:aws:sns/,
      ({ answer }) =>
        answer('ListSubscriptionsByTopic', () => ({
          Subscriptions: [{ SubscriptionArn: 'PendingConfirmation' }],
        })),
    ],
    [
      'an alarm that is firing',
      'alarms',
      'problem',
      /^Firing at this moment: erasures-late\.$/,
      ({ answer }) =>
        answer('DescribeAlarms', () => ({
          MetricAlarms: [
            {
              AlarmName: 'event-indexer-test-erasures-late',
              ActionsEnabled: true,
              AlarmActions: [TOPIC],
              StateValue: 'ALARM',
            },
          ],
        })),
    ],
    [
      'a nudge that goes to the URL of another stage',
      'nudge',
      'problem',
      /and the function of this stage is at https:\/\/abc\.lambda-url/,
      ({ answer }) =>
        answer('GetFunctionUrlConfig', () => ({
          FunctionUrl: 'https://abc.lambda-url.eu-central-1.on.aws/',
        })),
    ],
    [
      'a secret of the nudge that you may not read',
      'nudge',
      'unknown',
      /whether the database has its secret is not known/,
      ({ answer }) => answer('GetParameter', denied),
    ],
    [
      'settings that you may not read',
      'settings',
      'unknown',
      /does not let you/,
      ({ answer }) => answer('GetFunctionConfiguration', denied),
    ],
    [
      'a quota that you may not read',
      'quota',
      'unknown',
      /does not let you/,
      ({ answer }) => answer('ListServiceQuotas', denied),
    ],
    [
      'subscriptions that you may not list',
      'alarms',
      'unknown',
      /is not known/,
      ({ answer }) => answer('ListSubscriptionsByTopic', denied),
    ],
  ])('names %s', async (_fault, check, verdict, found, produce) => {
    const deployed = await openDeployed()
    produce(deployed)
    const { code, of } = await deployed.examine()
    expect(of(check)).toMatchObject({ verdict, found: expect.stringMatching(found) })
    expect(of(check).todo).not.toBe('')
    expect(code).toBe(verdict === 'problem' ? 2 : 0)
  })
})
