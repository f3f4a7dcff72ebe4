/** Whom an entry is about; an event alone is about all its attendees, a user about all their events. */
export interface About {
  event?: string | undefined
  user?: string | undefined
}

interface Entry extends About {
  at: number
  text: string
}

/** What happened, to be told of one attendee when a promise is found broken. */
export class History {
  readonly #now: () => number
  readonly #began: number
  readonly #entries: Entry[] = []

  constructor(now: () => number) {
    this.#now = now
    this.#began = now()
  }

  note(about: About, text: string): void {
    this.#entries.push({ ...about, at: this.#now(), text })
  }

  /** Lines like `3:07.400 worker 12: IndexFaces …`, by simulated minutes. */
  of({ event, user }: About): string[] {
    return this.#entries
      .filter((entry) =>
        user
          ? (!entry.event || entry.event === event) && (!entry.user || entry.user === user)
          : entry.event === event && !entry.user,
      )
      .map(({ at, text }) => `${this.#time(at)} ${text}`)
  }

  #time(at: number): string {
    const seconds = (at - this.#began) / 1000
    return `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(3).padStart(6, '0')}`
  }
}
