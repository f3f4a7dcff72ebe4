import { type AddressInfo, createServer } from 'node:net'

/** A port of 127.0.0.1 on which nobody listens: the preferred one if there is one and it is free, else any. */
export async function freePort(preferred = 0): Promise<number> {
  return (await tryPort(preferred)) ?? (await tryPort(0)) ?? 0
}

/** For `listen`: the preferred port if it is free, else 0, for which the system chooses one. */
export async function portOrFree(preferred = 0): Promise<number> {
  return preferred === 0 ? 0 : ((await tryPort(preferred)) ?? 0)
}

function tryPort(port: number): Promise<number | undefined> {
  const probe = createServer()
  return new Promise((resolve) => {
    probe.once('error', () => resolve(undefined))
    probe.listen(port, '127.0.0.1', () => {
      const { port: taken } = probe.address() as AddressInfo
      probe.close(() => resolve(taken))
    })
  })
}
