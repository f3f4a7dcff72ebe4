import { readdir, readFile } from 'node:fs/promises'

/** CPU time in ms of what runs on this machine, since its start. */
export interface Cpu {
  /** This process's main thread: the servers but for Postgres, and the Lambda host. */
  main: number
  /** Its other threads that were not there at first: the functions' containers. */
  functions: number
  /** Those that were: what V8 and libuv do in the background. */
  background: number
  postgres: number
}

const MS_PER_TICK = 10 // USER_HZ is 100 on every Linux that Node runs on

/** The threads of this process. */
export const threads = async (): Promise<Set<string>> =>
  new Set(await readdir('/proc/self/task').catch(() => []))

/** The process id of Postgres's first process, parent of all its others; undefined where there is no /proc. */
export const postmasterOf = async (backend: number): Promise<number | undefined> =>
  process.platform === 'linux' ? (await statOf(`/proc/${backend}/stat`)).parent : undefined

/**
 * Reads it from Linux's /proc; undefined where there is none.
 * @param before the threads that are not containers
 */
export async function readCpu(before: Set<string>, postmaster: number | undefined): Promise<Cpu | undefined> {
  if (postmaster === undefined) return undefined
  const cpu: Cpu = { main: 0, functions: 0, background: 0, postgres: await postgresMs(postmaster) }
  for (const thread of await threads()) {
    const stat = await statOf(`/proc/self/task/${thread}/stat`).catch(() => undefined) // it has ended meanwhile
    const part = Number(thread) === process.pid ? 'main' : before.has(thread) ? 'background' : 'functions'
    cpu[part] += stat?.own ?? 0
  }
  return cpu
}

/** All of its processes, those that have ended among them: the postmaster has their times. */
async function postgresMs(postmaster: number): Promise<number> {
  const { own, ended } = await statOf(`/proc/${postmaster}/stat`)
  let sum = own + ended
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const stat = await statOf(`/proc/${name}/stat`).catch(() => undefined)
    if (stat?.parent === postmaster) sum += stat.own
  }
  return sum
}

async function statOf(file: string): Promise<{ parent: number; own: number; ended: number }> {
  const text = await readFile(file, 'utf8')
  // The second field, a name in brackets, may have blanks in it.
  const fields = text
    .slice(text.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number)
  const [, parent = 0] = fields
  const [utime = 0, stime = 0, cutime = 0, cstime = 0] = fields.slice(11)
  return { parent, own: (utime + stime) * MS_PER_TICK, ended: (cutime + cstime) * MS_PER_TICK }
}

export const difference = (before: Cpu, after: Cpu): Cpu => ({
  main: after.main - before.main,
  functions: after.functions - before.functions,
  background: after.background - before.background,
  postgres: after.postgres - before.postgres,
})
