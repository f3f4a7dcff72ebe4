import { describe, expect, it } from 'vitest'
import type { Result, Task } from '../../src/core/database.ts'
import type { JobRef } from '../../src/core/message.ts'
import { type Functions, faceOf, openLedger, resultOf } from '../support/ledger.ts'

/** The faces of each attendee in each event's collection, as Rekognition would hold them. */
class Collections {
  readonly #events = new Map<string, Map<string, Set<string>>>()
  calls = 0

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

  all(event: string): [string, string[]][] {
    return [...(this.#events.get(event) ?? [])].map(([user, faces]): [string, string[]] => [user, [...faces]])
  }

  index(event: string, user: string, photo: string): string {
    this.calls++
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

/** Follows one attendee as the worker does; throws where it dies. */
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
    if (chance() < 0.03) throw new Error('died after the call')
    if (chance() < 0.03) return failed({ outcome: 'unclear', face_id: null, faces, certain: false, calls })
  }
  if (chance() < 0.03) return failed({ face_id: keep, faces, calls, certain: true })
  collections.delete(event_id, user_id, faces)
  return resultOf(task, { face_id: keep, calls })
}

describe('everything at once', () => {
  it.each([1, 2])(
    'ends with every collection as the app wants it, without a deadlock (seed %i)',
    async (seed) => {
      const ledger = await openLedger()
      const {
        absorb,
        app,
        begin,
        bury,
        claim,
        collections,
        collectionsDone,
        expand,
        finish,
        inside,
        nextPage,
        owner,
        replay,
        sweep,
      } = ledger
      const chance = randomFrom(seed)
      const pick = <T>(items: T[]): T => items[Math.floor(chance() * items.length)] as T
      const rekognition = new Collections()
      const users = await app.users(60)
      const events = await app.events(6)
      for (const event of events)
        await app.consent(
          event,
          users.filter(() => chance() < 0.6),
        )

      const queue: JobRef[] = []
      const dead: string[] = [] // tokens of workers that died
      let over = false

      async function tend() {
        const wanted = await collections()
        for (const event of wanted.delete) rekognition.drop(event)
        await collectionsDone([
          ...wanted.create.map((event_id) => ({ event_id, result: rekognition.make(event_id) })),
          ...wanted.delete.map((event_id) => ({ event_id, result: 'deleted' as const })),
        ])
      }

      async function schedule() {
        await sweep(over ? 0 : 900)
        while ((await absorb(20)).changes === 20) {}
        await claim()
        await tend()
        while ((await expand(25)).more) {}
        for (let page = await nextPage(15, 200); page.jobs.length > 0; ) {
          queue.push(...page.jobs, ...page.jobs.filter(() => chance() < 0.1)) // some delivered twice
          if (chance() < 0.05) return // died before it said what it sent
          page = await nextPage(15, 200, page.token, [])
        }
      }

      async function work() {
        const messages = queue.splice(Math.floor(chance() * queue.length), 1 + Math.floor(chance() * 12))
        if (messages.length === 0) return new Promise((resolve) => setTimeout(resolve, 5))
        if (chance() < 0.02) return bury(messages.slice(0, 3))
        let { token, tasks } = await begin(chance() < 0.5 ? messages : messages.toReversed())
        if (chance() < 0.05) ({ tasks } = await begin(messages, token)) // the answer was lost
        if (chance() < 0.03) return dead.push(token)
        const results: Result[] = []
        for (const task of tasks.filter(({ action }) => action !== 'none')) {
          try {
            results.push(await follow(task, rekognition, ledger, chance))
          } catch {
            return dead.push(token)
          }
        }
        if (chance() < 0.04) await expire([token]) // so slow that its lease runs out
        const nexts = await finish(token, results)
        if (chance() < 0.05) await finish(token, results)
        for (const { next, ...job } of nexts) if (next === 'again' || next === 'retry') queue.push(job)
      }

      /** Sets columns of jobs that nobody holds at the moment, so that this test takes no part in a deadlock. */
      const setFree = (columns: string, where: string, values: unknown[] = []) =>
        owner.query(
          `with free as (select event_id, user_id from indexing.face_jobs where ${where} for update skip locked)
         update indexing.face_jobs j set ${columns} from free
         where (j.event_id, j.user_id) = (free.event_id, free.user_id)`,
          values,
        )
      const expire = (tokens: string[]) =>
        setFree("lease_until = now() - interval '1 s'", 'lease_token = any ($1::uuid[])', [tokens])
      const expirePages = () => setFree("sending_until = now() - interval '1 s'", 'sending_until is not null')

      async function live() {
        const event = pick(events)
        const user = pick(users)
        const some = users.filter(() => chance() < 0.1)
        await pick([
          () => app.consent(event, [user], false),
          () => app.consent(event, [user], true),
          () => app.consent(event, some, chance() < 0.5),
          () => app.leave(event, [user]),
          () => app.photo(user, `photos/${Math.floor(chance() * 1e6)}`),
          () => app.photo(user, null),
          () => app.change(event, { starts_at: `now() + interval '${Math.floor(chance() * 15)} min'` }),
          () => app.change(event, { indexing_status: "'pending'" }),
          () => app.change(event, { is_active: 'not is_active' }),
          () => expire(dead.splice(0)),
          expirePages,
        ])()
      }

      const forAWhile = async (act: () => Promise<unknown>, pause = 0) => {
        while (!over) {
          await act()
          if (pause) await new Promise((resolve) => setTimeout(resolve, pause))
        }
      }
      const storm = Promise.all([
        ...Array.from({ length: 8 }, () => forAWhile(work)),
        ...Array.from({ length: 3 }, () => forAWhile(schedule, 20)),
        ...Array.from({ length: 3 }, () => forAWhile(live, 10)),
        new Promise((resolve) => setTimeout(resolve, 3000)).then(() => {
          over = true
        }),
      ]).finally(() => {
        over = true
      })
      await storm

      await app.deleteEvent(events.pop() ?? '')
      await app.deleteAccounts(users.splice(0, 5))
      for (const event of events) await app.change(event, { is_active: 'true' })
      const unrest = async () =>
        (
          await owner.query(`
          select 'change' as what, event_id, user_id, null as state from indexing.changes
          union all select 'job', event_id, user_id, state from indexing.face_jobs where ended_at is null or state = 'failed'
          union all select 'run', event_id, null, state from indexing.event_runs
            where state <> 'completed' and reason is distinct from 'event_deleted'
          union all select 'collection', event_id, null, collection from indexing.event_runs
            where collection not in ('ready', 'deleted')
          union all select 'event', event_id, null, indexing_status::text from public.events
            where indexing_status <> 'completed'`)
        ).rows
      for (let round = 0; round < 30 && (await unrest()).length > 0; round++) {
        await inside.expireLeases()
        await inside.expirePages()
        await inside.ageMessages(1)
        await owner.query("update indexing.event_runs set collection_due = now() - interval '1 s'")
        await replay()
        await schedule()
        while (queue.length > 0) await work()
      }
      expect(await unrest()).toEqual([])

      const { rows: wanted } = await owner.query<{ event_id: string; user_id: string; photo_path: string }>(`
      select event_id, user_id, photo_path from public.event_consents join public.profiles using (user_id)
      where allow_recognition and photo_path is not null order by 1, 2`)
      const held = events
        .flatMap((event) =>
          rekognition
            .all(event)
            .flatMap(([user, faces]) => faces.map((face) => [event, user, face].join(' '))),
        )
        .sort()
      expect(held).toEqual(
        wanted.map((row) => [row.event_id, row.user_id, faceOf(row.photo_path)].join(' ')).sort(),
      )
      expect(rekognition.calls).toBeGreaterThan(100)
    },
  )
})
