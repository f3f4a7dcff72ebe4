interface Part {
  close(): Promise<void>
}

/** Things that are started side by side and closed together. */
export class Parts {
  readonly #started: Part[] = []
  readonly #starting = new Set<Promise<unknown>>()
  #closed: Promise<void> | undefined

  /** @throws {Error} that names the part and says why it did not start */
  async start<P extends Part>(name: string, starting: Promise<P>): Promise<P> {
    this.#starting.add(starting)
    try {
      return this.add(await starting)
    } catch (cause) {
      throw new Error(`${name} did not start: ${(cause as Error).message}`, { cause })
    }
  }

  add<P extends Part>(part: P): P {
    this.#started.push(part)
    return part
  }

  /** Closes what has been started, also what is still starting, the last first. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#starting)
    for (const part of this.#started.reverse()) await part.close()
  }
}
