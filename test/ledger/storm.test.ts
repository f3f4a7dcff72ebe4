import { setTimeout as pause } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import type { Result, Task } from '../../src/core/database.ts'
import type { JobRef } from '../../src/core/message.ts'
import { type Functions, faceOf, openLedger, resultOf } from '../support/ledger.ts'

/** The faces of each attendee in each event's collection, as Rekognition would hold them. */
class Collections {
  readonly #events = new Map<string, Map<string, Set<string>>>()

  make(event: string): 'created' | 'exists' {
    if (this.#events.has(event)) return 'exists'
    this.#events.set(event, new Map())
    return 'created'
  }

  drop(event: string): void {
    this.#events.delete(event)
  }

  has(event: string): boolean {
    return this.#events.has(event)
  }

  list(event: string, user: string): string[] {
    return [...(this.#events.get(event)?.get(user) ?? [])]
  }

  /** Event, attendee and id of each face. */
  all(event: string): string[] {
    return [...(this.#events.get(event) ?? [])].flatMap(([user, faces]) =>
      [...faces].map((face) => `${event} ${user} ${face}`),
    )
  }

  index(event: string, user: string, photo: string): string {
    const attendees = this.#events.get(event)
    if (!attendees) throw new Error('no collection')
    const faces = attendees.get(user) ?? new Set()
    attendees.set(user, faces.add(faceOf(photo)))
    return faceOf(photo)
  }

  delete(event: string, user: string, faces: string[]): void {
    for (const face of faces) this.#events.get(event)?.get(user)?.delete(face)
  }
}

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Of a worker, at this moment of its pass. */
class Death extends Error {}

/** Follows one attendee as the worker does, with a share of everything that can go wrong. */
async function follow(
  task: Task,
  collections: Collections,
  functions: Functions,
  chance: () => number,
): Promise<Result> {
  const { event_id, user_id, photo } = task
  const failed = (said: Partial<Result>) =>
    resultOf(task, {
      outcome: 'retry',
      face_id: task.keep,
      faces: task.faces ?? [],
      calls: 0,
      certain: !task.list,
      ...said,
    })
  if (chance() < 0.03) return failed({ outcome: 'later' })

  let keep = task.keep
  let faces = task.faces ?? []
  if (task.list) {
    const listed = collections.list(event_id, user_id)
    if (keep && !listed.includes(keep)) keep = null
    faces = listed.filter((face) => face !== keep)
  }
  let calls = 0
  if (photo && !keep) {
    if (!collections.has(event_id)) {
      const standing = await functions.collectionsDone([{ event_id, result: collections.make(event_id) }])
      if (standing[event_id] !== 'ready') return failed({ face_id: null, faces: [], certain: true })
    }
    keep = collections.index(event_id, user_id, photo)
    faces = faces.filter((face) => face !== keep)
    calls = 1
    if (chance() < 0.03) throw new Death('after the call')
    if (chance() < 0.03) return failed({ outcome: 'unclear', face_id: null, faces, certain: false, calls })
  }
  if (chance() < 0.03) return failed({ face_id: keep, faces, calls, certain: true })
  collections.delete(event_id, user_id, faces)
  return resultOf(task, { face_id: keep, calls })
}

/** Schedulers, workers and an app over one ledger, all of them hasty, forgetful and mortal. */
async function gather(seed: number) {
  const ledger = await openLedger()
  const { app, inside, owner } = ledger
  const chance = randomFrom(seed)
  const pick = <T>(items: T[]): T => items[Math.floor(chance() * items.length)] as T
  const rekognition = new Collections()
  const queue: JobRef[] = []
  const dead: string[] = [] // tokens of workers that died
  const users = await app.users(60)
  const events = await app.events(6)
  for (const event of events) await app.consent(event, some(0.6))

  function some(share: number) {
    return users.filter(() => chance() < share)
  }

  async function tendCollections() {
    const wanted = await ledger.collections()
    for (const event of wanted.delete) rekognition.drop(event)
    await ledger.collectionsDone([
      ...wanted.create.map((event_id) => ({ event_id, result: rekognition.make(event_id) })),
      ...wanted.delete.map((event_id) => ({ event_id, result: 'deleted' as const })),
    ])
  }

  async function schedule(lostAfterSeconds = 300) {
    await ledger.sweep(lostAfterSeconds)
    while ((await ledger.absorb(20)).changes === 20) {}
    await ledger.claim()
    await tendCollections()
    while ((await ledger.expand(25)).more) {}
    for (let page = await ledger.nextPage(15, 200); page.jobs.length > 0; ) {
      queue.push(...page.jobs, ...page.jobs.filter(() => chance() < 0.1)) // some are delivered twice
      if (chance() < 0.05) return // died before it said what it sent
      page = await ledger.nextPage(15, 200, page.token)
    }
  }

  async function work() {
    const messages = queue.splice(Math.floor(chance() * queue.length), 1 + Math.floor(chance() * 12))
    if (messages.length === 0) return pause(5)
    if (chance() < 0.02) return ledger.bury(messages.slice(0, 3)) // and the others are lost
    let { token, tasks } = await ledger.begin(chance() < 0.5 ? messages : messages.toReversed())
    if (chance() < 0.05) ({ tasks } = await ledger.begin(messages, token)) // the answer was lost
    const results: Result[] = []
    try {
      if (chance() < 0.03) throw new Death('before any call')
      for (const task of tasks.filter(({ action }) => action !== 'none'))
        results.push(await follow(task, rekognition, ledger, chance))
    } catch (error) {
      if (!(error instanceof Death)) throw error
      return dead.push(token)
    }
    if (chance() < 0.04) await expireLeases([token]) // so slow that its lease runs out
    const nexts = await ledger.finish(token, results)
    if (chance() < 0.05) await ledger.finish(token, results) // the answer was lost
    queue.push(...nexts.filter(({ next }) => next === 'again' || next === 'retry'))
  }

  /** Sets a column of jobs that nobody holds at the moment, so that this test takes no part in a deadlock. */
  const setFree = (column: string, where: string, values: unknown[] = []) =>
    owner.query(
      `with free as (select event_id, user_id from indexing.face_jobs where ${where} for update skip locked)
       update indexing.face_jobs j set ${column} = now() - interval '1 s'
       from free where (j.event_id, j.user_id) = (free.event_id, free.user_id)`,
      values,
    )
  const expireLeases = (tokens: string[]) =>
    setFree('lease_until', 'lease_token = any ($1::uuid[])', [tokens])

  async function live() {
    const event = pick(events)
    const user = pick(users)
    await pick<() => Promise<unknown>>([
      () => app.consent(event, [user], false),
      () => app.consent(event, [user], true),
      () => app.consent(event, some(0.1), chance() < 0.5),
      () => app.leave(event, [user]),
      () => app.photo(user, `photos/${Math.floor(chance() * 1e6)}`),
      () => app.photo(user, null),
      () => app.change(event, { starts_at: `now() + interval '${Math.floor(chance() * 15)} min'` }),
      () => app.change(event, { indexing_status: "'pending'" }),
      () => app.change(event, { is_active: 'not is_active' }),
      () => expireLeases(dead.splice(0)),
      () => owner.query("update indexing.pages set until = now() - interval '1 s'"),
    ])()
  }

  /** All of it at once. */
  async function storm(ms: number) {
    const end = performance.now() + ms
    const untilTheEnd = async (act: () => Promise<unknown>, rest = 0) => {
      while (performance.now() < end) {
        await act()
        await pause(rest)
      }
    }
    await Promise.all([
      ...Array.from({ length: 8 }, () => untilTheEnd(work)),
      ...Array.from({ length: 3 }, () => untilTheEnd(schedule, 20)),
      ...Array.from({ length: 3 }, () => untilTheEnd(live, 10)),
    ])
    await app.deleteEvent(events.pop() ?? '')
    await app.deleteAccounts(users.splice(0, 5))
    for (const event of events) await app.change(event, { is_active: 'true' })
  }

  /** Whatever has not come to its end. */
  const unrest = async () =>
    (
      await owner.query(`
        select 'change' as what, event_id, user_id, null as state from indexing.changes
        union all select 'job', event_id, user_id, state from indexing.face_jobs
          where ended_at is null or state = 'failed' or second_look_at is not null
        union all select 'run', event_id, null, state from indexing.event_runs
          where state <> 'completed' and reason is distinct from 'event_deleted'
        union all select 'collection', event_id, null, collection from indexing.event_runs
          where collection not in ('ready', 'deleted')
        union all select 'event', event_id, null, indexing_status::text from public.events
          where indexing_status <> 'completed'`)
    ).rows

  /** Minutes go by without a change of the app; what has failed is replayed. Returns what is left to do. */
  async function calm() {
    for (let minute = 0; minute < 30 && (await unrest()).length > 0; minute++) {
      await inside.expireLeases()
      await inside.expirePages()
      await inside.ageMessages(1)
      await owner.query("update indexing.event_runs set collection_due = now() - interval '1 s'")
      await owner.query('update indexing.face_jobs set second_look_at = now() where second_look_at > now()')
      await ledger.replay()
      await schedule(0)
      while (queue.length > 0) await work()
    }
    return unrest()
  }

  /** The faces that the app wants, and those that are there: event, attendee and face of each. */
  async function faces() {
    const { rows } = await owner.query<{ event_id: string; user_id: string; photo_path: string }>(`
      select event_id, user_id, photo_path from public.event_consents join public.profiles using (user_id)
      where allow_recognition and photo_path is not null`)
    return {
      wanted: rows.map((row) => `${row.event_id} ${row.user_id} ${faceOf(row.photo_path)}`).sort(),
      there: events.flatMap((event) => rekognition.all(event)).sort(),
    }
  }

  return { storm, calm, faces }
}

describe('everything at once', () => {
  it.each([1, 2])(
    'ends with every collection as the app wants it, and without a deadlock (%i)',
    async (seed) => {
      const { storm, calm, faces } = await gather(seed)
      await storm(3000)
      expect(await calm()).toEqual([])
      const { there, wanted } = await faces()
      expect(there.length).toBeGreaterThan(20)
      expect(there).toEqual(wanted)
    },
  )
})
