import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath, pathToFileURL } from 'node:url'

const CHILD = fileURLToPath(new URL('child.mjs', import.meta.url))

/** When a function's module began to load and was loaded, in ms since the epoch. */
export interface Loaded {
  begunAt: number
  loadedAt: number
}

export interface Invoked {
  result: unknown
  ms: number
  /** The most memory (RSS) that the process had at once since its start, looked at every 5 ms. */
  peakMb: number
  /** The slowest call so far of each path, by its last part: a database function's name. */
  slowestMs: Record<string, number>
  /** The time in which calls of each path were under way, added up, in this invocation. */
  spentMs: Record<string, number>
}

export interface FreshProcess {
  loaded: Loaded
  /** @throws {Error} what the function threw, or that the process ended */
  invoke: (event: unknown) => Promise<Invoked>
  close: () => void
}

/**
 * Loads a bundled function in a process of its own, with Node's options and memory as in Lambda.
 * @param module path of the bundle
 * @param environment all that the function sees
 * @throws {Error} with what it wrote to stderr, when it cannot be loaded
 */
export async function startFreshProcess(
  module: string,
  environment: Record<string, string>,
  { timeoutSeconds = 60, memoryMB = 512 } = {},
): Promise<FreshProcess> {
  const child = spawn(
    process.execPath,
    [`--max-old-space-size=${memoryMB}`, CHILD, pathToFileURL(module).href, String(timeoutSeconds)],
    { env: environment, stdio: ['ignore', 'ignore', 'pipe', 'ipc'] },
  )
  let said = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-4000)
  })
  const next = async <Answer>(): Promise<Answer> => {
    const answer = await nextMessage(child)
    if (answer === undefined) throw new Error(`the process of ${module} ended: ${said}`)
    if ('error' in answer) throw new Error(String(answer.error))
    return answer as Answer
  }
  return {
    loaded: await next<Loaded>(),
    invoke: (event) => {
      const answer = next<Invoked>()
      child.send(event as object)
      return answer
    },
    close: () => void child.kill('SIGKILL'),
  }
}

const nextMessage = (child: ChildProcess) =>
  new Promise<object | undefined>((resolve, reject) => {
    const settle = () => child.off('message', onMessage).off('exit', onExit).off('error', reject)
    const onMessage = (message: unknown) => {
      settle()
      resolve(message as object)
    }
    const onExit = () => {
      settle()
      resolve(undefined)
    }
    child.once('message', onMessage).once('exit', onExit).once('error', reject)
  })
