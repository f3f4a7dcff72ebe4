import { connectDatabase, type Database } from '../../src/core/database.ts'

/** Takes a request by its path. */
export type Fetch = (path: string, init: RequestInit | undefined) => Promise<Response>

/** A connected client of the database functions, whose requests are those of one invocation after another. */
export interface DatabaseLine {
  database: Database
  fetch: Fetch
}

/** Clients are used again (making one takes longer than a call), unless somebody died on them. */
export class DatabaseLines {
  readonly #key: string
  readonly #free: DatabaseLine[] = []

  constructor(serviceRoleKey: string) {
    this.#key = serviceRoleKey
  }

  take(fetch: Fetch): DatabaseLine {
    const free = this.#free.pop()
    if (free) return Object.assign(free, { fetch })
    const host = `line-${lines.size}.simulation`
    const line = { database: connectDatabase(`http://${host}`, async () => this.#key), fetch }
    lines.set(host, line)
    return line
  }

  giveBack(line: DatabaseLine): void {
    this.#free.push(line)
  }
}

const lines = new Map<string, DatabaseLine>() // by host
const realFetch = globalThis.fetch

/** Requests to the host of a line go the way that is planned for them. */
globalThis.fetch = (input, init) => {
  const url = new URL(input instanceof Request ? input.url : input)
  const line = lines.get(url.host)
  return line ? line.fetch(url.pathname, init) : realFetch(input, init)
}
