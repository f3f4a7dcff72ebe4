// Runs in a container's thread: loads the function's module, then handles one invocation after the other.
import { pathToFileURL } from 'node:url'
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import type { FromContainer, FunctionFailure, Init, Invocation } from './protocol.ts'

type Handler = (event: unknown, context: object) => unknown

const port = parentPort as MessagePort
const answer = (message: FromContainer) => port.postMessage(message)

const describe = (error: unknown): FunctionFailure => {
  if (!(error instanceof Error)) return { errorType: 'string', errorMessage: String(error), trace: [] }
  return { errorType: error.name, errorMessage: error.message, trace: error.stack?.split('\n') ?? [] }
}

async function load({ module, export: name }: Init): Promise<Handler> {
  const loaded = (await import(pathToFileURL(module).href)) as Record<string, unknown>
  const handler = loaded[name]
  if (typeof handler !== 'function') throw new Error(`${name} is undefined or not exported`)
  return handler as Handler
}

try {
  const handler = await load(workerData as Init)
  port.on('message', async ({ payload, context, deadline }: Invocation) => {
    try {
      const result = await handler(JSON.parse(payload), {
        ...context,
        callbackWaitsForEmptyEventLoop: true,
        getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
      })
      answer({ type: 'returned', payload: JSON.stringify(result ?? null) })
    } catch (error) {
      answer({ type: 'threw', failure: describe(error) })
    }
  })
  answer({ type: 'ready' })
} catch (error) {
  answer({ type: 'init-failed', failure: describe(error) })
}
