import { tsImport } from 'tsx/esm/api'
import { dashboard } from './dashboard.js'
import { settleConditions } from './settle-conditions.js'
import { workerSize } from './worker-size.js'

const PLACEHOLDER = 'unset'

/** The rules of settings, which the functions have too. They are in TypeScript, which Node 20 does not read by itself. */
const loadSettings = () => tsImport('./settings.ts', import.meta.url)

/** Commands that ask AWS, in a region. `package` needs none. */
const ASKING_AWS = ['deploy', 'info', 'invoke', 'logs', 'metrics', 'remove', 'rollback']

/** What serverless.yml cannot say by itself. */
export default class Deployment {
  hooks = {
    initialize: async () => {
      await this.#requireSettings()
      this.#tellOfAlarms()
    },
    'before:package:finalize': () => this.#dropSharedRole(),
    'after:aws:package:finalize:mergeCustomProviderResources': () => this.#settleConditions(),
  }
  /** `${workerSize:batchSize}` and `${workerSize:maximumConcurrency}`, by the quota; `${tracing:mode}`; `${dashboard:body}`. */
  configurationVariablesSources = {
    dashboard: {
      resolve: async ({ resolveConfigurationProperty, resolveVariable }) => {
        const service = await resolveConfigurationProperty(['service'])
        return { value: dashboard({ service, stage: await resolveVariable('sls:stage') }) }
      },
    },
    tracing: {
      resolve: async ({ resolveConfigurationProperty }) => {
        const mode = String(await resolveConfigurationProperty(['custom', 'tracing']))
        const { problemOf } = await loadSettings()
        // The framework's schema would refuse a malformed one without the setting's name.
        return { value: problemOf('tracing', mode) ? 'PassThrough' : mode }
      },
    },
    workerSize: {
      resolve: async ({ address, resolveConfigurationProperty }) => {
        const tps = String(await resolveConfigurationProperty(['custom', 'indexFacesTps']))
        const { problemOf } = await loadSettings()
        // A malformed quota is refused beside all else that is, a moment later.
        return { value: workerSize(problemOf('indexFacesTps', tps) ? 1 : Number(tps))[address] }
      },
    },
  }
  #serverless
  #log

  constructor(serverless, _options, { log }) {
    this.#serverless = serverless
    this.#log = log
  }

  /**
   * `serverless package` and `serverless deploy` stop, before they do anything, naming every setting that is malformed, and
   * `deploy` all that is missing.
   */
  async #requireSettings() {
    const { commands, options } = this.#serverless.processedInput
    const problems = this.#isDeployed() || commands[0] === 'package' ? await this.#problems() : []
    if (ASKING_AWS.includes(commands[0]) && !options.region && !process.env.AWS_REGION)
      problems.push('AWS_REGION (or --region) is missing: the region of the photo bucket')
    if (problems.length > 0)
      throw new this.#serverless.classes.Error(
        ['Nothing is done. What is to be set, see the README:', ...problems].join('\n  '),
        'SETTINGS',
      )
  }

  async #problems() {
    const { VARIABLES, problemOf } = await loadSettings()
    return Object.keys(VARIABLES).flatMap((name) => {
      const value = this.#setting(name)
      if (value !== PLACEHOLDER) return problemOf(name, value) ?? []
      return this.#isDeployed() ? (problemOf(name, undefined) ?? []) : []
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
