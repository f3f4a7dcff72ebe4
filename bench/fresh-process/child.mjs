// A function as it is deployed, alone in its process: loads the module that it is told, then handles one event after the
// other. Plain JavaScript, so that nothing is loaded and no memory taken but the function's own.
const [, , module, timeoutSeconds] = process.argv

let peakBytes = 0
const look = () => {
  peakBytes = Math.max(peakBytes, process.memoryUsage.rss())
}
setInterval(look, 5).unref()

const slowestMs = {}
let spentMs = {}
const { fetch } = globalThis
globalThis.fetch = async (url, init) => {
  const began = performance.now()
  try {
    return await fetch(url, init)
  } finally {
    const name = new URL(url).pathname.split('/').at(-1)
    const ms = performance.now() - began
    slowestMs[name] = Math.max(slowestMs[name] ?? 0, ms)
    spentMs[name] = (spentMs[name] ?? 0) + ms
  }
}

const begunAt = performance.timeOrigin + performance.now()
const { handler } = await import(module)
process.send({ begunAt, loadedAt: performance.timeOrigin + performance.now() })

process.on('message', async (event) => {
  spentMs = {}
  const began = performance.now()
  const deadline = began + timeoutSeconds * 1000
  const context = { getRemainingTimeInMillis: () => deadline - performance.now() }
  try {
    const result = await handler(event, context)
    look()
    process.send({ result, ms: performance.now() - began, peakMb: peakBytes / 2 ** 20, slowestMs, spentMs })
  } catch (error) {
    process.send({ error: String(error?.stack ?? error) })
  }
})
