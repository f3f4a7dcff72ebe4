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
  photoEvents: ['PHOTO_EVENTS', 'ENABLED or DISABLED', /^(ENABLED|DISABLED)$/],
  alarmEmail: ['ALARM_EMAIL', 'an address for the alarms, or nothing', /^([^@\s]+@[^@\s]+)?$/],
}

/** What serverless.yml cannot say by itself. */
export default class Deployment {
  hooks = {
    initialize: () => this.#requireSettings(),
    'before:package:finalize': () => this.#dropSharedRole(),
  }
  /** `${workerSize:batchSize}` and `${workerSize:maximumConcurrency}`, by the quota. */
  configurationVariablesSources = {
    workerSize: {
      resolve: async ({ address, resolveConfigurationProperty }) => {
        const tps = Number(await resolveConfigurationProperty(['custom', 'indexFacesTps']))
        return { value: workerSize(tps)[address] }
      },
    },
  }
  #serverless

  constructor(serverless) {
    this.#serverless = serverless
  }

  /** `serverless package` goes with placeholders; `serverless deploy` stops, before it does anything, naming all it lacks. */
  #requireSettings() {
    const { commands, options } = this.#serverless.processedInput
    if (commands[0] !== 'deploy' || commands[1] === 'list') return

    const problems = Object.entries(SETTINGS).flatMap(([name, [variable, what, form]]) => {
      const value = String(this.#serverless.service.custom[name])
      if (value !== PLACEHOLDER && form.test(value)) return []
      const is = value === PLACEHOLDER || value === '' ? 'is missing:' : 'is not'
      return [`${variable} (or --param ${name}=…) ${is} ${what}`]
    })
    if (!options.region && !process.env.AWS_REGION)
      problems.push('AWS_REGION (or --region) is missing: the region of the photo bucket')

    if (problems.length > 0)
      throw new this.#serverless.classes.Error(
        ['Not deployed. What is to be set, see the README:', ...problems].join('\n  '),
        'SETTINGS',
      )
  }

  /** Each function has its own role by then; nobody uses the one that the framework wrote for all of them. */
  #dropSharedRole() {
    delete this.#serverless.service.provider.compiledCloudFormationTemplate.Resources.IamRoleLambdaExecution
  }
}
