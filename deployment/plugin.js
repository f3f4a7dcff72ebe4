import { dashboard } from './dashboard.js'
import { settleConditions } from './settle-conditions.js'
import { workerSize } from './worker-size.js'

const PLACEHOLDER = 'unset'

/** What a deployment needs, by its name in `custom`: the variable that sets it, what it has to be, and its form. */
const SETTINGS = {
  supabaseUrl: ['SUPABASE_URL', 'the https:// URL of the Supabase project', /^https:\/\/[^/]/],
  photoBucket: ['S3_BUCKET_NAME', 'the bucket of the profile photos', /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/],
  serviceRoleKeyParameter: [
    'SUPABASE_SERVICE_ROLE_KEY_PARAMETER',
    'the path of the SSM parameter that holds the secret key of the Supabase project (sb_secret_… or service_role)',
    /^(\/[\w.-]+)+$/,
  ],
  nudgeSecretParameter: [
    'NUDGE_SECRET_PARAMETER',
    "the path of the SSM parameter that holds the nudge's secret",
    /^(\/[\w.-]+)+$/,
  ],
  // An empty prefix would give the functions every collection of the account.
  collectionPrefix: ['COLLECTION_PREFIX', '1 to 219 letters, digits, and _ . -', /^[\w.-]{1,219}$/],
  indexFacesTps: [
    'INDEX_FACES_TPS',
    'the IndexFaces calls a second that the account allows',
    /^(?=.*[1-9])\d{1,4}(\.\d+)?$/,
  ],
  maxFailedShare: ['MAX_FAILED_SHARE', 'a share from 0 to 1', /^(0(\.\d+)?|1(\.0+)?)$/],
  cleanupAfterHours: [
    'CLEANUP_AFTER_HOURS',
    'a whole number of hours from 1 to 9999, or nothing',
    /^([1-9]\d{0,3})?$/,
  ],
  severalFaces: ['SEVERAL_FACES', 'skip or largest', /^(skip|largest)$/],
  convertPhotos: ['CONVERT_PHOTOS', 'ENABLED or DISABLED', /^(ENABLED|DISABLED)$/],
  photoEvents: ['PHOTO_EVENTS', 'ENABLED or DISABLED', /^(ENABLED|DISABLED)$/],
  alarmEmail: ['ALARM_EMAIL', 'an address for the alarms, or nothing', /^([^@\s]+@[^@\s]+)?$/],
  alarmTopicArn: [
    'ALARM_TOPIC_ARN',
    'the ARN of an SNS topic, or nothing',
    /^(arn:[\w-]+:sns:[\w-]+:\d{12}:[\w-]+)?$/,
  ],
  nudgeConcurrency: ['NUDGE_CONCURRENCY', 'a whole number from 1 to 999, or none', /^([1-9]\d{0,2}|none)$/],
  // The roles allow the use of a key by its ARN, not by an alias.
  kmsKeyArn: [
    'KMS_KEY_ARN',
    'the ARN of a KMS key, or nothing',
    /^(arn:[\w-]+:kms:[\w-]+:\d{12}:key\/[\w-]+)?$/,
  ],
}

/** Commands that ask AWS, in a region. `package` needs none. */
const ASKING_AWS = ['deploy', 'info', 'invoke', 'logs', 'metrics', 'remove', 'rollback']

/** What serverless.yml cannot say by itself. */
export default class Deployment {
  hooks = {
    initialize: () => {
      this.#requireSettings()
      this.#tellOfAlarms()
    },
    'before:package:finalize': () => this.#dropSharedRole(),
    'after:aws:package:finalize:mergeCustomProviderResources': () => this.#settleConditions(),
  }
  /** `${workerSize:batchSize}` and `${workerSize:maximumConcurrency}`, by the quota; `${dashboard:body}`. */
  configurationVariablesSources = {
    dashboard: {
      resolve: async ({ resolveConfigurationProperty, resolveVariable }) => {
        const service = await resolveConfigurationProperty(['service'])
        return { value: dashboard({ service, stage: await resolveVariable('sls:stage') }) }
      },
    },
    workerSize: {
      resolve: async ({ address, resolveConfigurationProperty }) => {
        const tps = Number(await resolveConfigurationProperty(['custom', 'indexFacesTps']))
        return { value: workerSize(tps)[address] }
      },
    },
  }
  #serverless
  #log

  constructor(serverless, _options, { log }) {
    this.#serverless = serverless
    this.#log = log
  }

  /** `serverless package` goes with placeholders; `serverless deploy` stops, before it does anything, naming all it lacks. */
  #requireSettings() {
    const { commands, options } = this.#serverless.processedInput
    if (!ASKING_AWS.includes(commands[0])) return

    const problems = this.#isDeployed() ? this.#problems() : []
    if (!options.region && !process.env.AWS_REGION)
      problems.push('AWS_REGION (or --region) is missing: the region of the photo bucket')
    if (problems.length > 0)
      throw new this.#serverless.classes.Error(
        ['Nothing is done. What is to be set, see the README:', ...problems].join('\n  '),
        'SETTINGS',
      )
  }

  #problems() {
    return Object.entries(SETTINGS).flatMap(([name, [variable, what, form]]) => {
      const value = this.#setting(name)
      if (value !== PLACEHOLDER && form.test(value)) return []
      const is = value === PLACEHOLDER || value === '' ? 'is missing:' : 'is not'
      return [`${variable} (or --param ${name}=…) ${is} ${what}`]
    })
  }

  /** An alarm that reaches nobody is as good as none. */
  #tellOfAlarms() {
    if (!this.#isDeployed()) return
    const email = this.#setting('alarmEmail')
    if (email !== '')
      this.#log.notice(`Alarms are mailed to ${email}, once it has confirmed the subscription.`)
    else if (this.#setting('alarmTopicArn') === '')
      this.#log.warning(
        'The alarms reach nobody. Set ALARM_EMAIL to an address, or ALARM_TOPIC_ARN to an SNS topic, and deploy again.',
      )
  }

  #isDeployed() {
    const { commands } = this.#serverless.processedInput
    return commands[0] === 'deploy' && commands[1] !== 'list'
  }

  #setting(name) {
    return String(this.#serverless.service.custom[name])
  }

  /** Each function has its own role by then; nobody uses the one that the framework wrote for all of them. */
  #dropSharedRole() {
    delete this.#serverless.service.provider.compiledCloudFormationTemplate.Resources.IamRoleLambdaExecution
  }

  #settleConditions() {
    const { provider } = this.#serverless.service
    provider.compiledCloudFormationTemplate = settleConditions(provider.compiledCloudFormationTemplate)
  }
}
