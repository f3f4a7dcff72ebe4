import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'
import { findSystem } from '../../cli/system.ts'

const ENVIRONMENT = { SUPABASE_URL: 'https://project.example', SUPABASE_SERVICE_ROLE_KEY: 'key' }

/** The file that a local system leaves which runs as this process. */
async function runningFile(content: string): Promise<URL> {
  const folder = await mkdtemp(join(tmpdir(), 'operator-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  const file = join(folder, 'running.json')
  await writeFile(file, content)
  return pathToFileURL(file)
}

const local = (pid: number) =>
  JSON.stringify({
    pid,
    environment: {
      SUPABASE_URL: 'http://127.0.0.1:1',
      SUPABASE_SERVICE_ROLE_KEY: 'local',
      WORK_QUEUE_URL: 'q',
    },
  })

/** A process id that nobody has. */
const NOBODY = 2 ** 22 + 1

describe('the system that a command is for', () => {
  it('is the stage that is named, also where the environment names another', async () => {
    const system = await findSystem('prod', { ...ENVIRONMENT, WORK_QUEUE_URL: 'https://other' })
    expect(system).toMatchObject({
      name: 'stage prod',
      option: ' --stage prod',
      supabaseUrl: 'https://project.example',
    })
    const asked: unknown[] = []
    const sqs = {
      send: async ({ input }: { input: unknown }) => asked.push(input) && { QueueUrl: 'https://q' },
    }
    expect(await system.workQueueUrl(sqs as never)).toBe('https://q')
    expect(await system.urgentQueueUrl(sqs as never)).toBe('https://q')
    expect(asked).toEqual([
      { QueueName: 'event-indexer-prod-work' },
      { QueueName: 'event-indexer-prod-urgent' },
    ])
  })

  it('is otherwise what the environment names, also while the local system runs', async () => {
    const system = await findSystem(
      undefined,
      { ...ENVIRONMENT, WORK_QUEUE_URL: 'https://q', URGENT_QUEUE_URL: 'https://u' },
      await runningFile(local(process.pid)),
    )
    expect(system).toMatchObject({ name: 'the environment', option: '' })
    expect(await system.serviceRoleKey()).toBe('key')
    expect(await system.workQueueUrl(null as never)).toBe('https://q')
    expect(await system.urgentQueueUrl(null as never)).toBe('https://u')
  })

  it('is otherwise the local system while it runs, and nothing of the environment leads elsewhere', async () => {
    const system = await findSystem(
      undefined,
      { AWS_PROFILE: 'prod', SUPABASE_SERVICE_ROLE_KEY: 'of prod' },
      await runningFile(local(process.pid)),
    )
    expect(system).toMatchObject({ name: 'the local system', supabaseUrl: 'http://127.0.0.1:1' })
    expect(system.environment.AWS_PROFILE).toBeUndefined()
    expect(await system.serviceRoleKey()).toBe('local')
  })

  it('is none when the local system was killed, or never ran', async () => {
    for (const file of [await runningFile(local(NOBODY)), new URL('file:///no/such/file')])
      await expect(findSystem(undefined, {}, file)).rejects.toThrow(
        /--stage NAME.*SUPABASE_URL.*npm run dev/s,
      )
  })
})

describe('what is missing is named', () => {
  it('the URL of the project', async () => {
    await expect(findSystem('prod', {})).rejects.toThrow('SUPABASE_URL is not set')
  })

  it.each(['abcdefgh.supabase.co', 'https://', 'postgresql://u@host/db', 'https://a b.co'])(
    'a URL that is none: %s',
    async (url) => {
      await expect(findSystem('prod', { SUPABASE_URL: url })).rejects.toThrow(
        'SUPABASE_URL is not a URL such as',
      )
    },
  )

  it('the key', async () => {
    const system = await findSystem(undefined, { SUPABASE_URL: 'https://project.example' })
    await expect(system.serviceRoleKey()).rejects.toThrow('SUPABASE_SERVICE_ROLE_KEY is not set')
  })

  it('the queues', async () => {
    const system = await findSystem(undefined, ENVIRONMENT)
    await expect(system.workQueueUrl(null as never)).rejects.toThrow('WORK_QUEUE_URL is not set')
    await expect(system.urgentQueueUrl(null as never)).rejects.toThrow('URGENT_QUEUE_URL is not set')
  })
})
