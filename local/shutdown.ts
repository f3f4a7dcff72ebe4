const EXIT_CODES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 }

/**
 * Closes, then exits, when this process is told to end. Told a second time, it exits at once: nothing is left running then
 * either, since what would outlive this process watches it.
 */
export function closeOnSignals(close: () => Promise<void>): void {
  let closing = false
  for (const [signal, code] of Object.entries(EXIT_CODES)) {
    process.on(signal, () => {
      if (closing) process.exit(code)
      closing = true
      close()
        .catch((error) => console.error(error))
        .finally(() => process.exit(code))
    })
  }
}
