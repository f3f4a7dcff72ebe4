import { CloudWatchClient, DescribeAlarmsCommand } from '@aws-sdk/client-cloudwatch'
import {
  DescribeRuleCommand,
  EventBridgeClient,
  ListRuleNamesByTargetCommand,
} from '@aws-sdk/client-eventbridge'
import {
  type FunctionConfiguration,
  GetFunctionConfigurationCommand,
  GetFunctionUrlConfigCommand,
  LambdaClient,
  ListEventSourceMappingsCommand,
} from '@aws-sdk/client-lambda'
import { GetBucketNotificationConfigurationCommand, S3Client } from '@aws-sdk/client-s3'
import { ListServiceQuotasCommand, ServiceQuotasClient } from '@aws-sdk/client-service-quotas'
import { ListSubscriptionsByTopicCommand, SNSClient } from '@aws-sdk/client-sns'
import { amount } from '../words.ts'
import { type Check, isDenied, note, ok, problem, unknown } from './check.ts'

const FUNCTIONS = ['scheduler', 'nudge', 'worker', 'finalizer', 'photos'] as const
type FunctionName = (typeof FUNCTIONS)[number]

/** Functions with queues that they receive from. */
const RECEIVERS: readonly FunctionName[] = ['worker', 'finalizer', 'photos']

export type Functions = Partial<Record<FunctionName, FunctionConfiguration>>

/** What a deployed stage consists of beside queues and collections. Nothing here changes anything. */
export class DeployedStage {
  readonly #name: (part: string) => string
  readonly #again: string
  readonly #lambda = new LambdaClient()
  readonly #events = new EventBridgeClient()

  constructor(stage: string) {
    this.#name = (part) => `event-indexer-${stage}-${part}`
    this.#again = `Deploy again: npx serverless deploy --stage ${stage}.`
  }

  /** The functions that are there. */
  async functions(): Promise<Functions> {
    const found: Functions = {}
    for (const name of FUNCTIONS) {
      try {
        const get = new GetFunctionConfigurationCommand({ FunctionName: this.#name(name) })
        found[name] = await this.#lambda.send(get)
      } catch (error) {
        if ((error as Error).name !== 'ResourceNotFoundException') throw error
      }
    }
    return found
  }

  async nudgeUrl(): Promise<string | undefined> {
    const get = new GetFunctionUrlConfigCommand({ FunctionName: this.#name('nudge') })
    return (await this.#lambda.send(get)).FunctionUrl
  }

  /** Whether all functions are there and ready, and receive from their queues. */
  async checkFunctions(functions: Functions): Promise<Check> {
    const missing = FUNCTIONS.filter((name) => functions[name] === undefined)
    if (missing.length > 0)
      return problem(
        'functions',
        `Not deployed in this region and account: ${missing.join(', ')}.`,
        this.#again,
      )
    const wrong = Object.entries(functions).flatMap(
      ([name, { State, StateReason, LastUpdateStatus, LastUpdateStatusReason }]) => [
        ...(State && State !== 'Active' && State !== 'Inactive'
          ? [`${name} is ${State}: ${StateReason}`]
          : []),
        ...(LastUpdateStatus === 'Failed'
          ? [`the last update of ${name} failed: ${LastUpdateStatusReason}`]
          : []),
      ],
    )
    if (wrong.length > 0) return problem('functions', `${wrong.join('; ')}.`, this.#again)
    const asleep: string[] = []
    for (const name of RECEIVERS) {
      const list = new ListEventSourceMappingsCommand({ FunctionName: this.#name(name) })
      const { EventSourceMappings = [] } = await this.#lambda.send(list)
      if (EventSourceMappings.length === 0) asleep.push(`${name} receives from no queue`)
      for (const { EventSourceArn = '', State } of EventSourceMappings)
        if (State !== 'Enabled') asleep.push(`${name} on ${EventSourceArn.replace(/^.*:/, '')}: ${State}`)
    }
    return asleep.length > 0
      ? problem(
          'functions',
          `Event sources that are not enabled: ${asleep.join('; ')}.`,
          'aws lambda list-event-source-mappings shows their ids; aws lambda update-event-source-mapping --enabled --uuid ID.',
        )
      : ok('functions', 'All five functions are deployed, and receive from their queues.')
  }

  /** Whether the scheduler is called every minute. */
  async checkSchedule({ scheduler }: Functions): Promise<Check> {
    const rules = await this.#rulesOf(scheduler?.FunctionArn)
    const disabled = rules.filter(({ enabled }) => !enabled)
    if (rules.length === 0) return problem('schedule', 'No rule calls the scheduler.', this.#again)
    return disabled.length > 0
      ? problem(
          'schedule',
          'The rule that calls the scheduler is disabled.',
          disabled.map(({ name }) => `aws events enable-rule --name ${name}`).join('; '),
        )
      : ok('schedule', 'The scheduler is called every minute.')
  }

  /** @param queueArn where the rule sends them */
  async checkPhotoEvents(bucket: string, queueArn: string): Promise<Check> {
    const s3 = new S3Client({ followRegionRedirects: true })
    const { EventBridgeConfiguration } = await s3.send(
      new GetBucketNotificationConfigurationCommand({ Bucket: bucket }),
    )
    const enabled = (await this.#rulesOf(queueArn)).some((rule) => rule.enabled)
    if (enabled && EventBridgeConfiguration)
      return ok('photo events', 'The bucket sends its events, and the rule takes them.')
    return note(
      'photo events',
      `${EventBridgeConfiguration ? 'The rule for them is disabled' : 'The bucket sends none'}: a photo that is replaced without an update of the profile is found after up to 15 minutes.`,
      enabled
        ? 'See "Photo events" in docs/operations.md; the command there replaces the bucket’s whole notification configuration.'
        : 'Deploy with PHOTO_EVENTS=ENABLED.',
    )
  }

  /** Whether alarms are there, tell somebody, and which of them ring. */
  async checkAlarms(): Promise<Check> {
    const describe = new DescribeAlarmsCommand({ AlarmNamePrefix: this.#name(''), MaxRecords: 100 })
    const { MetricAlarms = [] } = await new CloudWatchClient().send(describe)
    if (MetricAlarms.length === 0) return problem('alarms', 'There is no alarm.', this.#again)
    const set = 'Set ALARM_EMAIL to an address, or ALARM_TOPIC_ARN to an SNS topic, and deploy again.'
    const silent = MetricAlarms.filter(
      ({ ActionsEnabled, AlarmActions = [] }) => !ActionsEnabled || AlarmActions.length === 0,
    )
    if (silent.length > 0)
      return problem(
        'alarms',
        `${amount(silent.length, 'alarm')} of ${MetricAlarms.length} tell nobody.`,
        set,
      )
    const topics = [...new Set(MetricAlarms.flatMap(({ AlarmActions = [] }) => AlarmActions))]
    const unheard = await this.#withoutSubscribers(topics)
    if (unheard === undefined)
      return unknown(
        'alarms',
        'Whether somebody has subscribed to the topic of the alarms is not known.',
        'Your role or user needs sns:ListSubscriptionsByTopic.',
      )
    if (unheard.length > 0)
      return problem(
        'alarms',
        `Nobody has confirmed a subscription to ${unheard.join(', ')}.`,
        'Confirm the mail that AWS has sent to ALARM_EMAIL, or subscribe somebody to the topic.',
      )
    const ringing = MetricAlarms.filter(({ StateValue }) => StateValue === 'ALARM').map(
      ({ AlarmName = '' }) => AlarmName.slice(this.#name('').length),
    )
    return ringing.length > 0
      ? problem(
          'alarms',
          `Firing at this moment: ${ringing.join(', ')}.`,
          'Each has a runbook in docs/operations.md.',
        )
      : ok(
          'alarms',
          `A confirmed subscriber is told of ${amount(MetricAlarms.length, 'alarm')}; none is firing.`,
        )
  }

  /** The topics that nobody has subscribed to; undefined when AWS does not let us look. */
  async #withoutSubscribers(topics: string[]): Promise<string[] | undefined> {
    const sns = new SNSClient()
    const unheard: string[] = []
    for (const topic of topics) {
      try {
        const { Subscriptions = [] } = await sns.send(
          new ListSubscriptionsByTopicCommand({ TopicArn: topic }),
        )
        if (!Subscriptions.some(({ SubscriptionArn }) => SubscriptionArn?.startsWith('arn:')))
          unheard.push(topic)
      } catch (error) {
        if (isDenied(error)) return undefined
        throw error
      }
    }
    return unheard
  }

  async checkQuota(tps: number): Promise<Check> {
    const quota = await indexFacesQuota()
    if (quota === undefined)
      return unknown(
        'quota',
        `Service Quotas lists none for IndexFaces; INDEX_FACES_TPS is ${tps}.`,
        'Compare it with the console of Service Quotas, Amazon Rekognition.',
      )
    if (tps > quota)
      return problem(
        'quota',
        `INDEX_FACES_TPS is ${tps}, and the account may make ${quota} IndexFaces calls a second.`,
        `Deploy with INDEX_FACES_TPS=${quota}, or ask for more in Service Quotas.`,
      )
    return tps < quota
      ? note(
          'quota',
          `INDEX_FACES_TPS is ${tps}, of ${quota} IndexFaces calls a second that the account may make.`,
          `If no other system or stage makes such calls: deploy with INDEX_FACES_TPS=${quota}.`,
        )
      : ok('quota', `INDEX_FACES_TPS is the account’s quota, ${quota}.`)
  }

  async #rulesOf(targetArn: string | undefined): Promise<{ name: string; enabled: boolean }[]> {
    const list = new ListRuleNamesByTargetCommand({ TargetArn: targetArn })
    const { RuleNames = [] } = await this.#events.send(list)
    return Promise.all(
      RuleNames.map(async (name) => {
        const { State } = await this.#events.send(new DescribeRuleCommand({ Name: name }))
        return { name, enabled: State !== 'DISABLED' }
      }),
    )
  }
}

/** IndexFaces calls a second that the account may make in this region. */
async function indexFacesQuota(): Promise<number | undefined> {
  const client = new ServiceQuotasClient()
  let NextToken: string | undefined
  do {
    const page = await client.send(new ListServiceQuotasCommand({ ServiceCode: 'rekognition', NextToken }))
    const quota = page.Quotas?.find(({ QuotaName = '' }) => /\bIndexFaces\b/.test(QuotaName))
    if (quota) return quota.Value
    NextToken = page.NextToken
  } while (NextToken)
  return undefined
}
