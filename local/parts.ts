interface Part {
  close(): Promise<void>
}

/** The parts of the local system, closed together. */
export class Parts {
  readonly #started: Part[] = []
  #closed: Promise<void> | undefined

  /** @throws {Error} that names the part and says why it did not start */
  async start<P extends Part>(name: string, starting: Promise<P>): Promise<P> {
    try {
      return this.add(await starting)
    } catch (cause) {
      throw new Error(`The local system cannot start: ${name}: ${(cause as Error).message}`, { cause })
    }
  }

  add<P extends Part>(part: P): P {
    this.#started.push(part)
    return part
  }

  /** Closes what has been started, the last first. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    const failures: unknown[] = []
    for (const part of this.#started.reverse()) await part.close().catch((error) => failures.push(error))
    if (failures.length > 0)
      throw new AggregateError(failures, 'Not all parts of the local system could be closed')
  }
}

/** As Promise.all, but waits for all also when one fails: nothing may still be starting when the others are closed. */
export async function sideBySide<T extends readonly unknown[]>(
  ...starting: T
): Promise<{ -readonly [Index in keyof T]: Awaited<T[Index]> }> {
  await Promise.allSettled(starting)
  return Promise.all(starting)
}
