import { spawn } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { unzipSync } from 'fflate'

const project = fileURLToPath(new URL('../../', import.meta.url))
export const FUNCTIONS = ['scheduler', 'nudge', 'worker', 'converter', 'finalizer', 'photos'] as const
export type FunctionName = (typeof FUNCTIONS)[number]

export interface Outcome {
  code: number | null
  /** Standard output and standard error together. */
  output: string
}

/** Runs a command to its end with an environment of its own, of which no setting of this shell is a part. */
export function run(
  command: string,
  args: string[],
  environment: Record<string, string>,
  cwd: string,
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    child.stdout.on('data', (chunk) => (output += String(chunk)))
    child.stderr.on('data', (chunk) => (output += String(chunk)))
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, output }))
  })
}

/** A copy of the deployed files, in which the command may write. */
export interface Service {
  directory: string
  serverless: (args: string[], settings?: Record<string, string>) => Promise<Outcome>
  remove: () => Promise<void>
}

export async function copyService(): Promise<Service> {
  const directory = await mkdtemp(join(tmpdir(), 'event-indexer-service-'))
  for (const part of ['serverless.yml', 'package.json', 'tsconfig.json', 'deployment', 'src'])
    await cp(join(project, part), join(directory, part), { recursive: true })
  await symlink(join(project, 'node_modules'), join(directory, 'node_modules'))
  return {
    directory,
    serverless: (args, settings = {}) => {
      const environment = {
        PATH: process.env.PATH ?? '',
        HOME: directory,
        // What would go to AWS goes nowhere.
        AWS_ENDPOINT_URL: 'http://127.0.0.1:1',
        AWS_ACCESS_KEY_ID: 'none',
        AWS_SECRET_ACCESS_KEY: 'none',
        ...settings,
      }
      return run(
        process.execPath,
        ['node_modules/serverless/bin/serverless.js', ...args],
        environment,
        directory,
      )
    },
    remove: () => rm(directory, { recursive: true, force: true }),
  }
}

export interface Resource {
  Type: string
  DeletionPolicy?: string
  UpdateReplacePolicy?: string
  Properties: Record<string, unknown>
}

export interface Package {
  /** The template that is deployed. */
  resources: Record<string, Resource>
  outputs: Record<string, unknown>
  /** Each function's zip: its size in bytes and its files, by their paths in it. */
  zips: Record<FunctionName, { size: number; files: Record<string, Uint8Array> }>
  directory: string
}

/** Runs `serverless package` and reads what it wrote. */
export async function packageService(
  service: Service,
  settings: Record<string, string> = {},
): Promise<Package> {
  const directory = await mkdtemp(join(service.directory, 'package-'))
  const { code, output } = await service.serverless(
    ['package', '--stage', 'prod', '--package', directory],
    settings,
  )
  if (code !== 0) throw new Error(`serverless package failed:\n${output}`)
  const template = await readFile(join(directory, 'cloudformation-template-update-stack.json'), 'utf8')
  const { Resources, Outputs } = JSON.parse(template) as {
    Resources: Record<string, Resource>
    Outputs: Record<string, unknown>
  }
  const zipOf = async (name: FunctionName) => {
    const zip = await readFile(join(directory, `${name}.zip`))
    return { size: zip.length, files: unzipSync(zip) }
  }
  const zips = await Promise.all(FUNCTIONS.map(async (name) => [name, await zipOf(name)] as const))
  return {
    resources: Resources,
    outputs: Outputs,
    zips: Object.fromEntries(zips) as Package['zips'],
    directory,
  }
}

const PSEUDO: Record<string, string> = {
  'AWS::Partition': 'aws',
  'AWS::Region': 'eu-central-1',
  'AWS::AccountId': '123456789012',
}

/** A reference of the template in one string: `!Sub` filled in, `!GetAtt Queue.Arn` as `Queue.Arn`, `!Ref Queue` as `Queue`. */
export function textOf(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value)
  if ('Ref' in value) return String(value.Ref)
  if ('Fn::GetAtt' in value && Array.isArray(value['Fn::GetAtt'])) return value['Fn::GetAtt'].join('.')
  if ('Fn::Sub' in value)
    return String(value['Fn::Sub']).replace(/\$\{([^}]*)\}/g, (whole, name: string) => PSEUDO[name] ?? whole)
  throw new Error(`what does ${JSON.stringify(value)} refer to?`)
}
