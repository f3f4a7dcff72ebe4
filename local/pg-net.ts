import pg from 'pg'

export interface PgNetOptions {
  /** Of the database whose requests are sent. */
  url: string
}

export interface PgNet {
  /** Loses so large a share, 0 to 1, of the requests from now on. */
  loseRequests: (share: number) => void
  /** Requests since the start: sent, lost on purpose, and failed; as with pg_net, nobody tries those again. */
  counts: Readonly<{ sent: number; lost: number; failed: number }>
  close: () => Promise<void>
}

interface QueuedRequest {
  url: string
  headers: Record<string, string>
  body: unknown
  timeout_milliseconds: number
}

/** Sends what `net.http_post` queued, as pg_net's background worker does: after commit, side by side, without retries. */
export async function startPgNet({ url }: PgNetOptions): Promise<PgNet> {
  const listener = new pg.Client({ connectionString: url })
  const queue = new pg.Pool({ connectionString: url, max: 1 }) // requests leave in the order of their commits
  // The database has gone, and with it whoever could queue a request.
  listener.on('error', () => {})
  queue.on('error', () => {})
  await listener.connect()
  const counts = { sent: 0, lost: 0, failed: 0 }
  let lost = 0

  const send = async (id: string): Promise<void> => {
    const { rows } = await queue.query<QueuedRequest>(
      'delete from net.http_request_queue where id = $1 returning url, headers, body, timeout_milliseconds',
      [id],
    )
    for (const request of rows) {
      if (Math.random() < lost) {
        counts.lost++
        continue
      }
      counts.sent++
      const response = await fetch(request.url, {
        method: 'POST',
        headers: request.headers,
        body: JSON.stringify(request.body),
        signal: AbortSignal.timeout(request.timeout_milliseconds),
      })
      await response.arrayBuffer()
    }
  }

  listener.on('notification', ({ payload = '' }) => {
    send(payload).catch((error: Error) => {
      // A scheduler's run may outlast the request's time: nobody waits for its answer.
      if (error.name !== 'TimeoutError') counts.failed++
    })
  })
  await listener.query('listen pg_net')

  return {
    counts,
    loseRequests: (share) => {
      lost = share
    },
    close: async () => {
      await Promise.all([listener.end(), queue.end()])
    },
  }
}
