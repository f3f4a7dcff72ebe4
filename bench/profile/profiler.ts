import type { NodeWorker, Profiler } from 'node:inspector'
import { Session } from 'node:inspector/promises'

/** CPU profiles of this process's main thread and of its worker threads. */
export interface Profiles {
  main: Profiler.Profile
  workers: Profiler.Profile[]
}

const INTERVAL_US = 1_000

/** Begins to profile the main thread and every worker thread that runs now. */
export async function startProfiler(): Promise<{ stop: () => Promise<Profiles> }> {
  const session = new Session()
  session.connect()
  const workers = await attachWorkers(session)
  await session.post('Profiler.enable')
  await session.post('Profiler.setSamplingInterval', { interval: INTERVAL_US })
  await workers.each('Profiler.enable')
  await workers.each('Profiler.setSamplingInterval', { interval: INTERVAL_US })
  await session.post('Profiler.start')
  await workers.each('Profiler.start')
  return {
    stop: async () => {
      const { profile: main } = await session.post('Profiler.stop')
      // Of a thread that began later there is none.
      const stopped = (await workers.each('Profiler.stop')) as (undefined | { profile: Profiler.Profile })[]
      await session.post('NodeWorker.disable')
      session.disconnect()
      return { main, workers: stopped.flatMap((one) => one?.profile ?? []) }
    },
  }
}

/** Speaks with the inspectors of the worker threads by way of the main thread's. */
async function attachWorkers(session: Session) {
  const ids: string[] = []
  const waiting = new Map<number, (result: unknown) => void>()
  let lastId = 0
  session.on(
    'NodeWorker.attachedToWorker',
    ({ params }: { params: NodeWorker.AttachedToWorkerEventDataType }) => ids.push(params.sessionId),
  )
  session.on(
    'NodeWorker.receivedMessageFromWorker',
    ({ params }: { params: NodeWorker.ReceivedMessageFromWorkerEventDataType }) => {
      const { id, result } = JSON.parse(params.message) as { id?: number; result: unknown }
      if (id !== undefined) waiting.get(id)?.(result)
    },
  )
  await session.post('NodeWorker.enable', { waitForDebuggerOnStart: false })
  return {
    each: (method: string, params: object = {}): Promise<unknown[]> =>
      Promise.all(
        ids.map(
          (sessionId) =>
            new Promise<unknown>((resolve) => {
              const id = ++lastId
              waiting.set(id, resolve)
              const message = JSON.stringify({ id, method, params })
              void session.post('NodeWorker.sendMessageToWorker', { sessionId, message })
            }),
        ),
      ),
  }
}

/** Where a frame's code is: the URL of its script, and the place in it, from 0. */
export interface Place {
  url: string
  line: number
  column: number
}

/**
 * Divides the time in which a thread was not idle: each sample counts for the nearest caller, itself included, whose
 * place has a part.
 * @returns samples by part; what has none is under `rest`
 */
export function divide(
  profiles: Profiler.Profile[],
  partOf: (place: Place) => string | undefined,
  rest: string,
): Map<string, number> {
  const sums = new Map<string, number>()
  for (const { nodes } of profiles) {
    const byId = new Map(nodes.map((node) => [node.id, node]))
    const visit = (node: Profiler.ProfileNode, inherited: string) => {
      const { functionName, url, lineNumber, columnNumber } = node.callFrame
      if (functionName === '(idle)') return
      const own =
        functionName === '(garbage collector)'
          ? 'garbage collection'
          : partOf({ url, line: lineNumber, column: columnNumber })
      const part = own ?? inherited
      if (node.hitCount) sums.set(part, (sums.get(part) ?? 0) + node.hitCount)
      for (const child of node.children ?? []) {
        const below = byId.get(child)
        if (below) visit(below, part)
      }
    }
    const [root] = nodes
    if (root) visit(root, rest)
  }
  return sums
}
