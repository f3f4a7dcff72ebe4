import type { Aws } from '../aws.ts'
import type { DeployedFunction, Deployment } from '../deployment.ts'
import type { Bundle } from './bundle.ts'
import type { Container } from './container.ts'
import { EventSourceMapping } from './event-source-mapping.ts'
import { type FunctionCounts, LambdaFunction } from './lambda-function.ts'

export interface LambdaHostOptions {
  deployment: Deployment
  bundle: Bundle
  aws: Pick<Aws, 'region' | 'sqs' | 'queueUrls' | 'credentials'>
  /** Added to every function's environment, over what serverless.yml says. */
  environment: Record<string, string>
  /** Whether functions run on their schedules, the first time at once. */
  schedules: boolean
  /** Takes each line that a function writes to its output, and what goes wrong with its events. */
  onLog: (functionName: string, line: string) => void
}

export interface LambdaHost {
  /**
   * Invokes a function and returns what it returns.
   * @throws {LambdaFunctionError} when the invocation fails
   */
  invoke: (functionName: string, event: unknown) => Promise<unknown>
  /** The containers of a function that live now; `terminate()` kills one wherever it is. */
  containers: (functionName: string) => Container[]
  counts: (functionName: string) => FunctionCounts
  /** The environment variables that a function sees. */
  environment: (functionName: string) => Record<string, string>
  /** Stops polling and schedules, and ends all containers, also those that are at work. */
  close: () => Promise<void>
}

/**
 * Runs the deployed functions in threads of this process, fed from their queues and, if wanted, called on their schedules.
 * Sizes, times and limits are those of serverless.yml.
 */
export function startLambdaHost(options: LambdaHostOptions): LambdaHost {
  const { deployment, bundle, aws, onLog } = options
  const functions = new Map(
    deployment.functions.map((deployed) => {
      const { name, deployedName, memoryMB, timeoutSeconds } = deployed
      const lambdaFunction = new LambdaFunction({
        functionName: deployedName,
        functionArn: `arn:aws:lambda:${aws.region}:000000000000:function:${deployedName}`,
        runtime: bundle.runtime,
        init: { module: bundle.modules[name] ?? '', export: deployed.export },
        environment: { ...environmentOf(deployed, aws), ...options.environment },
        memoryMB,
        timeoutSeconds,
        onLine: (line) => onLog(name, line),
      })
      return [name, lambdaFunction]
    }),
  )
  const find = (name: string): LambdaFunction => {
    const found = functions.get(name)
    if (!found) throw new Error(`there is no function ${name}; there are ${[...functions.keys()].join(', ')}`)
    return found
  }

  const mappings = deployment.functions.flatMap(({ name, eventSources }) =>
    eventSources.map((source) => {
      const queue = deployment.queues.find(({ arn }) => arn === source.queueArn)
      return new EventSourceMapping({
        source,
        queueUrl: urlOf(queue?.logicalId ?? source.queueArn, aws),
        region: aws.region,
        sqs: aws.sqs,
        target: find(name),
        onError: (error) => onLog(name, String(error)),
      })
    }),
  )
  const schedules = deployment.functions.flatMap(({ name, schedules }) => {
    if (!options.schedules) return []
    return schedules.map(({ everySeconds, input }) => {
      const run = () =>
        void find(name)
          .invoke(input)
          .catch((error) => onLog(name, String(error)))
      run()
      return setInterval(run, everySeconds * 1000)
    })
  })

  return {
    invoke: async (name, event) => find(name).invoke(event),
    containers: (name) => find(name).containers,
    counts: (name) => find(name).counts,
    environment: (name) => find(name).environment,
    close: async () => {
      for (const schedule of schedules) clearInterval(schedule)
      const stopped = mappings.map((mapping) => mapping.close())
      await Promise.all([...functions.values()].map((lambdaFunction) => lambdaFunction.close()))
      await Promise.all(stopped)
    },
  }
}

/** A function's environment: what serverless.yml gives it, and what Lambda gives every function. */
function environmentOf(
  { environment, deployedName, memoryMB }: DeployedFunction,
  aws: LambdaHostOptions['aws'],
): Record<string, string> {
  const own = Object.entries(environment).map(([name, value]) => [
    name,
    typeof value === 'string' ? value : urlOf(value.urlOfQueue, aws),
  ])
  return {
    AWS_REGION: aws.region,
    AWS_DEFAULT_REGION: aws.region,
    AWS_ACCESS_KEY_ID: aws.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: aws.credentials.secretAccessKey,
    AWS_LAMBDA_FUNCTION_NAME: deployedName,
    AWS_LAMBDA_FUNCTION_VERSION: '$LATEST',
    AWS_LAMBDA_FUNCTION_MEMORY_SIZE: String(memoryMB),
    AWS_LAMBDA_LOG_GROUP_NAME: `/aws/lambda/${deployedName}`,
    AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand',
    AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true', // which Node runs here says nothing of Lambda's
    ...Object.fromEntries(own),
  }
}

function urlOf(logicalId: string, { queueUrls }: LambdaHostOptions['aws']): string {
  const url = queueUrls.get(logicalId)
  if (!url) throw new Error(`there is no queue ${logicalId}`)
  return url
}
