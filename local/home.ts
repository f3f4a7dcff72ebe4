import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { z } from 'zod'
import { nobody } from './postgres-binaries.ts'

/** A folder in which a local system keeps its data from one start to the next. */
export interface Home {
  folder: string
  /** Of Postgres: its cluster. */
  postgres: string
  /** Of S3: a copy of each object. */
  objects: string
  secrets: Secrets
  /** Whether the database has been made completely. */
  isReady: () => Promise<boolean>
  setReady: () => Promise<void>
}

export type Secrets = z.infer<typeof secretsShape>

const secretsShape = z.object({
  postgresPassword: z.string(),
  /** Hexadecimal; signs the API keys. */
  jwtSecret: z.string(),
  /** Of the API keys, in seconds since 1970. */
  keysIssuedAt: z.int(),
  nudgeSecret: z.string(),
})

/**
 * Opens a home, and makes it if it is not there. Secrets are made once, so that URLs and keys stay the same.
 * @throws {Error} if the folder cannot be made or its files are damaged
 */
export async function openHome(folder: string): Promise<Home> {
  await mkdir(folder, { recursive: true })
  const path = (name: string) => join(folder, name)
  const readJson = async <T>(name: string, shape: z.ZodType<T>): Promise<T | undefined> => {
    const text = await readFile(path(name), 'utf8').catch(() => undefined)
    if (text === undefined) return undefined
    try {
      return shape.parse(JSON.parse(text))
    } catch (cause) {
      throw new Error(`${path(name)} is damaged; npm run dev -- --reset makes everything anew`, { cause })
    }
  }
  const writeJson = (name: string, value: unknown) =>
    writeFile(path(name), `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 })

  const random = (bytes: number) => randomBytes(bytes).toString('hex')
  let secrets = await readJson('secrets.json', secretsShape)
  if (!secrets) {
    secrets = {
      postgresPassword: random(16),
      jwtSecret: random(32),
      keysIssuedAt: Math.floor(Date.now() / 1000),
      nudgeSecret: random(16),
    }
    await writeJson('secrets.json', secrets)
  }
  return {
    folder,
    postgres: path('postgres'),
    objects: path('photos'),
    secrets,
    isReady: async () => (await readJson('ready.json', z.boolean())) ?? false,
    setReady: () => writeJson('ready.json', true),
  }
}

/** Removes a home and what is in it. */
export const removeHome = (folder: string): Promise<void> => rm(folder, { recursive: true, force: true })

/**
 * Where this user can have a home: the wanted folder, or one for temporary files where Postgres, which runs as `nobody` for
 * root, cannot enter the wanted one (below /root, for example).
 */
export async function reachableHome(wanted: string): Promise<string> {
  if (process.getuid?.() !== 0) return wanted
  await mkdir(wanted, { recursive: true })
  await chmod(wanted, 0o755)
  const { uid, gid } = await nobody()
  const enters = promisify(execFile)('test', ['-x', wanted], { uid, gid, cwd: '/' }).then(
    () => true,
    () => false,
  )
  if (await enters) return wanted
  await rm(wanted, { recursive: true })
  const clone = createHash('sha256').update(dirname(wanted)).digest('hex').slice(0, 12)
  return join(tmpdir(), `event-indexer-data-${clone}`)
}
