const EXIT_CODES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 }
const LONGEST_CLOSE_MS = 10_000

export interface Shutdown {
  /** Whether this process has been told to end: what fails from then on fails because of that. */
  begun: () => boolean
}

/**
 * Closes, then exits, when this process is told to end or when nobody reads its output any more (`npm start | head`). Told a
 * second time, or when closing takes too long, it exits at once: nothing is left running then either, since what would outlive
 * this process watches it.
 * @param close may be called before what it closes has started
 * @param acknowledge says that the process is stopping
 */
export function closeOnSignals(close: () => Promise<void>, acknowledge: () => void = () => {}): Shutdown {
  let begun = false
  const end = (code: number) => {
    if (begun) process.exit(code)
    begun = true
    setTimeout(() => process.exit(code), LONGEST_CLOSE_MS).unref()
    close()
      .catch((error) => console.error(error instanceof Error ? error.message : error))
      .finally(() => process.exit(code))
  }
  for (const [signal, code] of Object.entries(EXIT_CODES))
    process.on(signal, () => {
      if (!begun) acknowledge()
      end(code)
    })
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    if (!begun) end(0)
  })
  return { begun: () => begun }
}
