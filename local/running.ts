import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import type { LocalSystem } from './system.ts'

/** Where `npm run dev` of this clone keeps what concerns it alone. */
export const STATE_FOLDER = fileURLToPath(new URL('../.local', import.meta.url))

/** What .local/running.json says while `npm run dev` runs; see docs/local-system.md. */
export type Running = z.infer<typeof runningShape>

const runningShape = z.object({
  pid: z.int(),
  startedAt: z.string(),
  engine: z.enum(['faces', 'synthetic']),
  /** The environment variables of the worker, and the URL of the dead-letter queue. */
  environment: z.record(z.string(), z.string()),
  postgres: z.object({ url: z.string() }),
  supabase: z.object({
    url: z.string(),
    publishableKey: z.string(),
    secretKey: z.string(),
    /** The legacy keys, which are JWTs. */
    anonKey: z.string(),
    serviceRoleKey: z.string(),
  }),
  /** SQS and S3. */
  aws: z.object({
    endpoint: z.string(),
    region: z.string(),
    accessKeyId: z.string(),
    secretAccessKey: z.string(),
  }),
  photoBucket: z.string(),
  /** URLs by the queues' names in serverless.yml. */
  queues: z.record(z.string(), z.string()),
  rekognition: z.object({ endpoint: z.string(), collectionPrefix: z.string() }),
  functions: z.object({ nudge: z.object({ url: z.string() }) }),
})

export function runningOf(system: LocalSystem, engine: Running['engine']): Running {
  const { environment, database, gateway, aws, rekognition, nudgeUrl } = system
  const { publishableKey, secretKey, anonKey, serviceRoleKey } = gateway
  return {
    pid: process.pid,
    startedAt: new Date().toISOString(),
    engine,
    environment: { ...environment, DEAD_LETTER_QUEUE_URL: aws.queueUrls.get('DeadLetterQueue') ?? '' },
    postgres: { url: database.url },
    supabase: { url: gateway.url, publishableKey, secretKey, anonKey, serviceRoleKey },
    aws: { endpoint: aws.endpoint, region: aws.region, ...aws.credentials },
    photoBucket: environment.S3_BUCKET_NAME ?? '',
    queues: Object.fromEntries(aws.queueUrls),
    rekognition: {
      endpoint: rekognition.endpoint,
      collectionPrefix: environment.COLLECTION_PREFIX ?? '',
    },
    functions: { nudge: { url: nudgeUrl } },
  }
}

export const runningFile = (folder: string) => join(folder, 'running.json')
const pidFile = (folder: string) => join(folder, 'dev.pid')

/** Says how to reach the system, until `removeRunning`. It has keys in it: nobody else may read it. */
export const writeRunning = (running: Running, folder = STATE_FOLDER): Promise<void> =>
  writeFile(runningFile(folder), `${JSON.stringify(running, null, 2)}\n`, { mode: 0o600 })

export const removeRunning = (folder = STATE_FOLDER): Promise<void> =>
  rm(runningFile(folder), { force: true })

/** How to reach the system that runs, if one does: its file may have outlived it. */
export async function readRunning(folder = STATE_FOLDER): Promise<Running | undefined> {
  const text = await readFile(runningFile(folder), 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  const running = runningShape.safeParse(JSON.parse(text)).data
  return running && isAlive(running.pid) ? running : undefined
}

/**
 * Makes this process the only one that runs the system of this clone.
 * @returns undefined, or the id of the process that runs it already
 */
export async function claimClone(folder = STATE_FOLDER): Promise<number | undefined> {
  const file = pidFile(folder)
  await mkdir(dirname(file), { recursive: true })
  for (;;) {
    try {
      await writeFile(file, String(process.pid), { flag: 'wx' })
      return undefined
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    const pid = Number(await readFile(file, 'utf8').catch(() => ''))
    if (pid > 0 && isAlive(pid)) return pid
    await rm(file, { force: true }) // of a process that did not end by itself
  }
}

export const releaseClone = (folder = STATE_FOLDER): Promise<void> => rm(pidFile(folder), { force: true })

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM' // there, and somebody else's
  }
}
