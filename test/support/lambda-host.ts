import { onTestFinished } from 'vitest'
import { type Aws, startAws } from '../../local/aws.ts'
import { type Deployment, readDeployment } from '../../local/deployment.ts'
import { bundleFunctions } from '../../local/lambda-host/bundle.ts'
import { type LambdaHost, startLambdaHost } from '../../local/lambda-host/host.ts'

export const FIXTURE = new URL('../fixtures/lambda/', import.meta.url)

export interface FixtureHost {
  host: LambdaHost
  aws: Aws
  /** What the functions have written to their output so far. */
  lines: { functionName: string; line: string }[]
}

/** Starts the fixture service's queues and functions, for the length of a test. */
export async function startFixture(
  options: { schedules?: boolean; change?: (deployment: Deployment) => void } = {},
): Promise<FixtureHost> {
  const deployment = await readDeployment(new URL('serverless.yml', FIXTURE))
  options.change?.(deployment)
  const aws = await startAws({ region: deployment.region, queues: deployment.queues, buckets: [] })
  onTestFinished(aws.close)
  const bundle = await bundleFunctions(deployment, FIXTURE)
  onTestFinished(bundle.close)
  const lines: FixtureHost['lines'] = []
  const host = startLambdaHost({
    deployment,
    bundle,
    aws,
    environment: {},
    schedules: options.schedules ?? false,
    onLog: (functionName, line) => lines.push({ functionName, line }),
  })
  onTestFinished(host.close)
  return { host, aws, lines }
}
