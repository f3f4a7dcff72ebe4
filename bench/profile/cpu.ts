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

/**
 * Reads it from Linux's /proc; undefined where there is none.
 * @param before the threads that are not containers
 * @param backend the process id of any of Postgres's sessions
 */
export async function readCpu(before: Set<string>, backend: number): Promise<Cpu | undefined> {
  try {
    const cpu: Cpu = { main: 0, functions: 0, background: 0, postgres: await postgresMs(backend) }
    for (const thread of await threads()) {
      const { own } = await statOf(`/proc/self/task/${thread}/stat`)
      const part = Number(thread) === process.pid ? 'main' : before.has(thread) ? 'background' : 'functions'
      cpu[part] += own
    }
    return cpu
  } catch {
    return undefined
  }
}

/** All of its processes, those that have ended among them: the postmaster has their times. */
async function postgresMs(backend: number): Promise<number> {
  const { parent: postmaster } = await statOf(`/proc/${backend}/stat`)
  const { own, ended } = await statOf(`/proc/${postmaster}/stat`)
  let sum = own + ended
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const stat = await statOf(`/proc/${name}/stat`).catch(() => undefined) // it has ended meanwhile
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
