import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { reasonOf } from '../cli/reasons.ts'
import { plain } from '../cli/terminal.ts'

/** Something that happened to an event or an attendee. */
export interface Happening {
  event: string
  /** Such as `claimed`, `indexed`, `skipped`. */
  what: string
  /** Who, or how many, and why. */
  about: string
}

export interface Feed {
  close: () => Promise<void>
}

interface Job {
  event: string
  key: string
  who: string
  state: string
  reason: string | null
  error: string | null
  /** The members of the row that tell one face from another. */
  face: string
}

const POLL_MS = 250
/** Of one kind, within one look: more are counted, not named. */
const MOST_NAMED = 8
const ENDED = new Set(['indexed', 'erased', 'skipped', 'failed'])

const STATUS_WORDS: Record<string, string> = {
  in_progress: 'claimed',
  completed: 'completed',
  failed: 'failed',
}

/** Reports what becomes of events and attendees from now on, by looking at the ledger several times a second. */
export async function startFeed(databaseUrl: string, report: (happening: Happening) => void): Promise<Feed> {
  const client = new pg.Client({ connectionString: databaseUrl })
  client.on('error', () => {}) // the system is closing
  await client.connect()
  const statuses = new Map<string, string>()
  const outcomes = new Map<string, string>()
  let isFirst = true
  let isClosed = false

  async function look(): Promise<void> {
    const happenings: Happening[] = []
    for (const { event_id, name, status } of await eventsOf(client)) {
      const before = statuses.get(event_id)
      statuses.set(event_id, status)
      const what = STATUS_WORDS[status]
      if (what && before !== status) happenings.push({ event: name, what, about: '' })
    }
    const ended: Job[] = []
    for (const job of await jobsOf(client)) {
      if (!ENDED.has(job.state)) continue
      const outcome = [job.state, job.reason, job.face].join('\n')
      if (outcomes.get(job.key) === outcome) continue
      outcomes.set(job.key, outcome)
      ended.push(job)
    }
    // Attendees first: their event is settled with the last of them.
    const claims = happenings.filter(({ what }) => what === 'claimed')
    const settled = happenings.filter(({ what }) => what !== 'claimed')
    if (!isFirst) for (const happening of [...claims, ...summaryOf(ended), ...settled]) report(happening)
    isFirst = false
  }

  await look()
  const running = (async () => {
    while (!isClosed) {
      await sleep(POLL_MS)
      if (!isClosed) await look().catch(() => {}) // the database is closing, or busy: the next look sees the same
    }
  })()
  return {
    close: async () => {
      isClosed = true
      await running
      await client.end().catch(() => {})
    },
  }
}

function summaryOf(jobs: Job[]): Happening[] {
  const kinds = new Map<string, Job[]>()
  for (const job of jobs) {
    const kind = [job.event, job.state, job.reason].join('\n')
    kinds.set(kind, [...(kinds.get(kind) ?? []), job])
  }
  return [...kinds.values()].flatMap((alike) => {
    const [first] = alike
    if (!first) return []
    const { event, state: what } = first
    if (alike.length > MOST_NAMED) return [{ event, what, about: `${alike.length} attendees${whyOf(first)}` }]
    return alike.map((job) => ({ event, what, about: `${job.who}${whyOf(job)}` }))
  })
}

function whyOf({ state, reason, error }: Job): string {
  const words = reason ? `: ${reasonOf(reason).title}` : ''
  return state === 'failed' && error ? `${words} (${plain(error)})` : words
}

async function eventsOf(client: pg.Client) {
  const { rows } = await client.query<{ event_id: string; name: string; status: string }>(
    `select event_id, coalesce(name, event_id::text) as name, coalesce(indexing_status::text, 'pending') as status
     from public.events order by starts_at, event_id`,
  )
  return rows.map((row) => ({ ...row, name: plain(row.name) }))
}

async function jobsOf(client: pg.Client): Promise<Job[]> {
  const { rows } = await client.query<{ job: Record<string, unknown>; event: string; who: string }>(
    `select to_jsonb(j) as job, coalesce(e.name, j.event_id::text) as event, coalesce(p.full_name, j.user_id::text) as who
     from indexing.face_jobs j
     left join public.events e using (event_id) left join public.profiles p using (user_id)
     order by j.event_id, j.user_id`,
  )
  return rows.map(({ job, event, who }) => ({
    event: plain(event),
    key: `${job.event_id} ${job.user_id}`,
    who: plain(who),
    state: String(job.state),
    reason: job.reason === null ? null : String(job.reason),
    error: job.error === null ? null : String(job.error),
    face: JSON.stringify(Object.entries(job).filter(([name]) => /^(face|photo)_/.test(name))),
  }))
}
