import { mkdir, writeFile } from 'node:fs/promises'
import { basename, join, relative } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { RekognitionClient } from '@aws-sdk/client-rekognition'
import pg from 'pg'
import { reasonOf } from '../../cli/reasons.ts'
import type { NewAttendee } from '../app.ts'
import { type GroupPhoto, groupPhotos } from '../photos.ts'
import type { LocalSystem } from '../system.ts'
import { castOf, everydayCases, type Person, portraitOf } from './cast.ts'
import type { Portraits } from './files.ts'
import {
  connectPatiently,
  type Match,
  picture,
  type Recognised,
  recognise,
  type SeenFace,
  seeFaces,
} from './proof.ts'
import { bad, counted, faint, good, heading, progress, say, table } from './show.ts'

export interface DemonstrationOptions {
  /** Attendees from files; the people of the package's group photos unless given. */
  portraits?: Portraits | undefined
  /** In which to look for them; the group photos, or nothing, unless given. */
  search?: GroupPhoto[] | undefined
}

interface Job {
  user_id: string
  state: string
  reason: string | null
  error: string | null
}

interface SeenPhoto {
  photo: GroupPhoto
  faces: SeenFace[]
}

const OUTPUT = 'output'
const OPEN = new Set(['queued', 'sent', 'running'])
const FOLLOWED_WITHIN_MS = 30_000
const GAP_MS = 2000

/**
 * Shows the main job on a running system: an event that starts in ten minutes is claimed, indexed and settled; its attendees'
 * faces are found in photos, and the collection follows what attendees change.
 * @returns whether all went as it should
 */
export async function demonstrate(system: LocalSystem, options: DemonstrationOptions): Promise<boolean> {
  const stage = new Demonstration(system)
  try {
    return options.portraits
      ? await stage.withPortraits(options.portraits, options.search ?? [])
      : await stage.withGroupPhotos(options.search)
  } finally {
    await stage.close()
  }
}

/** Brings the people of the group photos to a new event, and no more. Returns how many. */
export async function fill(system: LocalSystem): Promise<number> {
  const stage = new Demonstration(system)
  try {
    const people = castOf(await stage.seeGroupPhotos())
    return (await stage.bring(await guestsOf(people))).length
  } finally {
    await stage.close()
  }
}

/** Those of the people who are invited, each with another picture than the one on the group photo; and everyday cases. */
async function guestsOf(people: Person[]): Promise<NewAttendee[]> {
  const invited = people.filter(({ role }) => role !== 'not invited')
  const guests = invited.map(
    async ({ name, role, seen: [{ face }] }): Promise<NewAttendee> => ({
      name,
      consents: role !== 'withholds consent',
      ...(role === 'photo missing' ? { photoIsMissing: true } : { photo: await portraitOf(face) }),
    }),
  )
  return [...(await Promise.all(guests)), ...(await everydayCases())]
}

class Demonstration {
  readonly #system: LocalSystem
  readonly #rekognition: RekognitionClient
  readonly #database: pg.Pool
  readonly #names = new Map<string, string>()
  #event = ''

  constructor(system: LocalSystem) {
    this.#system = system
    this.#rekognition = connectPatiently({
      endpoint: system.rekognition.endpoint,
      region: system.aws.region,
      credentials: system.aws.credentials,
    })
    this.#database = new pg.Pool({ connectionString: system.database.url, max: 2 })
    this.#database.on('error', () => {}) // the system is closing
  }

  async close(): Promise<void> {
    this.#rekognition.destroy()
    await this.#database.end()
  }

  async withPortraits({ guests, leftOut }: Portraits, search: GroupPhoto[]): Promise<boolean> {
    heading('“Opening night” starts in ten minutes')
    for (const line of leftOut) say(`${bad('left out')} ${line}`)
    await this.bring(guests)
    say(`${counted(guests.length, 'attendee')}, all with consent, their photos in the bucket`)
    const isCompleted = await this.#index()
    if (search.length > 0) await this.#searchEverybody(await this.#seeAll(search))
    nextSteps()
    return isCompleted
  }

  async withGroupPhotos(search: GroupPhoto[] | undefined): Promise<boolean> {
    heading('“Opening night” starts in ten minutes')
    const seen = await this.#seeAll(await groupPhotos())
    const people = castOf(seen.map(({ photo, faces }) => ({ name: photo.name, faces })))
    const guests = await guestsOf(people)
    const users = await this.bring(guests)
    const idOf = (name: string) => users[guests.findIndex((guest) => guest.name === name)] ?? ''
    const named = (role: Person['role']) => people.find((person) => person.role === role)?.name ?? ''
    say(`${people.length} people are on the ${seen.length} photos that will be searched later`)
    say(
      `${people.length - 1} of them are invited, and ${counted(guests.length - people.length + 1, 'other')}; one is not`,
    )
    say(
      `${named('withholds consent')} does not consent, and the photo of ${named('photo missing')} is not in the bucket yet`,
    )
    say(
      `nobody enrols with the picture that is searched, but with a mirrored, tilted, darker and smaller one`,
    )

    const isCompleted = await this.#index()
    if (search) await this.#searchEverybody(await this.#seeAll(search))
    const nobodyMistaken = search ? true : await this.#proveWith(seen, people, idOf)
    const allFollowed = await this.#change(seen, people, idOf)
    nextSteps()
    return isCompleted && nobodyMistaken && allFollowed
  }

  async seeGroupPhotos(): Promise<{ name: string; faces: SeenFace[] }[]> {
    const seen = await this.#seeAll(await groupPhotos())
    return seen.map(({ photo, faces }) => ({ name: photo.name, faces }))
  }

  /** Makes the event and brings guests to it. Returns their ids. */
  async bring(guests: NewAttendee[]): Promise<string[]> {
    const { app } = this.#system
    const startsAt = new Date(Date.now() + 10 * 60_000)
    this.#event = await app.createEvent({ name: 'Opening night', startsAt })
    const users = await app.addAttendees(this.#event, guests)
    for (const [index, user] of users.entries()) this.#names.set(user, guests[index]?.name ?? user)
    return users
  }

  async #seeAll(photos: GroupPhoto[]): Promise<SeenPhoto[]> {
    return Promise.all(
      photos.map(async (photo) => ({ photo, faces: await seeFaces(this.#rekognition, photo.bytes) })),
    )
  }

  /** Lets the scheduler run, and shows the workers at it until the event is settled. Returns whether it is completed. */
  async #index(): Promise<boolean> {
    heading('Indexing')
    const { app, engine, functions, rekognition } = this.#system
    const lookedBefore = engine.detections()
    const report = await functions.invoke('scheduler', { window_minutes: 20 })
    const { events_claimed, messages_sent } = report as Record<string, number>
    if (events_claimed)
      say(`the scheduler claimed the event and sent ${counted(messages_sent ?? 0, 'message')}`)
    // As its schedule does: it sends no more than a minute or two of work ahead.
    const schedule = setInterval(() => functions.invoke('scheduler', {}).catch(() => {}), 20_000)
    const jobs = await this.#jobs()
    const bar = progress(jobs.length, 'attendees')
    let status: string
    try {
      do {
        await sleep(200)
        status = await app.statusOf(this.#event)
        bar.update((await this.#jobs()).filter(({ state }) => !OPEN.has(state)).length)
      } while (status !== 'completed' && status !== 'failed')
    } finally {
      clearInterval(schedule)
      bar.stop()
    }
    const { calls, errors, throttled } = rekognition.calls().IndexFaces
    const looked = engine.detections() - lookedBefore
    say(
      `the face engine looked at ${counted(looked, 'photo')}; IndexFaces was called ${counted(calls, 'time')}, of which ${throttled} throttled and ${errors} failed`,
    )
    await this.#showOutcome(status)
    return status === 'completed'
  }

  async #jobs(): Promise<Job[]> {
    const { rows } = await this.#database.query<Job>(
      'select user_id, state, reason, error from indexing.face_jobs where event_id = $1 order by user_id',
      [this.#event],
    )
    return rows
  }

  async #showOutcome(status: string): Promise<void> {
    const jobs = new Map((await this.#jobs()).map((job) => [job.user_id, job]))
    const indexed = [...jobs.values()].filter(({ state }) => state === 'indexed').length
    const rows = [...this.#names].flatMap(([user, name]) => {
      const { state = 'erased', reason = 'no_consent' } = jobs.get(user) ?? {}
      if (state === 'indexed') return []
      const outcome = state === 'failed' ? bad('failed') : 'not in'
      return [[name, outcome, reason ? reasonOf(reason).title : '']]
    })
    heading(`The event is ${status === 'completed' ? good(status) : bad(status)}`)
    table(
      ['attendee', 'outcome', 'why'],
      [[counted(indexed, 'person', 'people'), good('indexed'), ''], ...rows],
    )
  }

  #nameOf = (userId: string): string => this.#names.get(userId) ?? userId

  #withScore = ({ userId, similarity }: Match): string =>
    `${this.#nameOf(userId)} ${faint(`${Math.floor(similarity)}%`)}`

  /** Searches each face of photos of which nobody knows who is on them. */
  async #searchEverybody(seen: SeenPhoto[]): Promise<void> {
    heading('Who is on the photos')
    const rows = await Promise.all(
      seen.map(async ({ photo, faces }) => {
        const found = await this.#searchAll(photo, faces, 'recognised')
        const matches = found.flatMap(({ match }) => (match ? [this.#withScore(match)] : []))
        const unknown = found.flatMap(({ match, closest }) =>
          match ? [] : [closest ? `the closest is ${this.#withScore(closest)}` : 'like nobody'],
        )
        return [photo.name, `${matches.length} of ${faces.length}`, matches.join(', '), unknown.join(', ')]
      }),
    )
    table(['photo', 'recognised', '', 'unknown (below 80%)'], rows)
    saidWhereThePicturesAre()
  }

  /** Searches each face of the group photos, and checks the answers against who is on them. */
  async #proveWith(seen: SeenPhoto[], people: Person[], idOf: (name: string) => string): Promise<boolean> {
    heading('The proof: every face on the photos is searched in the collection')
    const notIn = new Map(
      (await this.#jobs()).flatMap(({ user_id, state, reason }) =>
        state === 'indexed' ? [] : [[user_id, reason ? reasonOf(reason).title : state] as const],
      ),
    )
    let right = 0
    let wrong = 0
    let missed = 0
    const searched: (SeenPhoto & { found: Awaited<ReturnType<typeof recognise>>[] })[] = []
    // One photo after the other: all at once are more than the engine takes.
    for (const one of seen)
      searched.push({ ...one, found: await this.#searchAll(one.photo, one.faces, 'recognised') })
    const rows = searched.map(({ photo, faces, found }) => {
      const recognised: string[] = []
      const unknown: string[] = []
      for (const [index, { match, closest }] of found.entries()) {
        const person = people.find(({ seen }) => seen.some(({ face }) => face === faces[index]))
        if (!person) continue
        const why = person.role === 'attends' ? notIn.get(idOf(person.name)) : WHY_UNKNOWN[person.role]
        if (match) {
          if (match.userId === idOf(person.name)) right++
          else wrong++
          recognised.push(this.#withScore(match))
        } else if (why) unknown.push(person.role === 'not invited' ? why : `${person.name}, ${why}`)
        else {
          missed++
          unknown.push(`${person.name}, closest ${closest ? this.#withScore(closest) : '–'}`)
        }
      }
      return [photo.name, recognised.join(', '), unknown.join(', ')]
    })
    table(['photo', 'recognised', 'unknown'], rows)
    say(
      `${right} of ${right + missed} faces of people who are in are recognised; ${wrong === 0 ? 'nobody is taken for somebody else' : bad(`${wrong} are taken for somebody else`)}`,
    )
    saidWhereThePicturesAre()
    return wrong === 0
  }

  /** Searches the faces of a photo and draws the picture of who was found. */
  async #searchAll({ name, bytes }: GroupPhoto, faces: SeenFace[], suffix: string): Promise<Recognised[]> {
    const found = await Promise.all(faces.map((face) => this.#recognise(face)))
    const framed = faces.map(({ box }, index) => ({
      box,
      recognised: found[index] ?? { match: null, closest: null },
    }))
    await mkdir(OUTPUT, { recursive: true })
    const file = join(OUTPUT, `${basename(name).replace(/\.\w+$/, '')}-${suffix}.jpg`)
    await writeFile(file, await picture(bytes, framed, this.#nameOf))
    return found
  }

  #recognise(face: SeenFace): Promise<Recognised> {
    return recognise(this.#rekognition, `${this.#system.environment.COLLECTION_PREFIX}${this.#event}`, face)
  }

  /** Attendees change what they want after the event is settled. Returns whether the collection followed each. */
  async #change(seen: SeenPhoto[], people: Person[], idOf: (name: string) => string): Promise<boolean> {
    heading('Afterwards: the collection follows every change by itself')
    const { app } = this.#system
    const [first, second, third] = people.filter(({ role }) => role === 'attends')
    const withheld = people.find(({ role }) => role === 'withholds consent')
    const late = people.find(({ role }) => role === 'photo missing')
    if (!first || !second || !third || !withheld || !late) return true

    const isIn = (name: string) => this.#facesOf(idOf(name)).length === 1
    const isOut = (name: string) => this.#facesOf(idOf(name)).length === 0
    const [before] = this.#facesOf(idOf(second.name))
    const steps: { who: Person; what: string; change: () => Promise<unknown>; done: () => boolean }[] = [
      {
        who: first,
        what: 'takes consent back',
        change: () => app.setConsent(this.#event, idOf(first.name), false),
        done: () => isOut(first.name),
      },
      {
        who: second,
        what: `replaces the photo, under the same key`,
        change: () => app.replacePhoto(idOf(second.name), second.seen[0].face.crop, { gapMs: GAP_MS }),
        done: () => isIn(second.name) && this.#facesOf(idOf(second.name))[0] !== before,
      },
      {
        who: late,
        what: 'uploads the photo that was missing',
        change: async () => app.replacePhoto(idOf(late.name), await portraitOf(late.seen[0].face)),
        done: () => isIn(late.name),
      },
      {
        who: withheld,
        what: 'consents after all',
        change: () => app.setConsent(this.#event, idOf(withheld.name), true),
        done: () => isIn(withheld.name),
      },
      {
        who: third,
        what: 'deletes the account',
        change: () => app.deleteAccount(idOf(third.name)),
        done: () => isOut(third.name),
      },
    ]
    const rows: string[][] = []
    let allFollowed = true
    for (const { who, what, change, done } of steps) {
      await change()
      const milliseconds = await timeUntil(done)
      allFollowed &&= milliseconds !== undefined
      const { match } = await this.#recognise(who.seen[0].face)
      rows.push([
        `${who.name} ${what}`,
        milliseconds === undefined
          ? bad(`not within 30 s: ${await this.#stateOf(idOf(who.name))}`)
          : `${(milliseconds / 1000).toFixed(1)} s`,
        match ? `recognised as ${this.#withScore(match)}` : 'unknown',
      ])
    }
    table(['change', 'followed after', 'the same face on the photo, searched again'], rows)
    for (const { photo, faces } of seen)
      if (steps.some(({ who }) => who.seen.some((seen) => seen.photo === photo.name)))
        await this.#searchAll(photo, faces, 'afterwards')
    return allFollowed
  }

  async #stateOf(userId: string): Promise<string> {
    const job = (await this.#jobs()).find(({ user_id }) => user_id === userId)
    return job ? [job.state, job.reason].filter(Boolean).join(', ') : 'no job'
  }

  /** Ids of the faces of an attendee in the collection. */
  #facesOf(userId: string): string[] {
    const faces =
      this.#system.rekognition.collection(`${this.#system.environment.COLLECTION_PREFIX}${this.#event}`) ?? []
    return faces.filter(({ externalImageId }) => externalImageId === userId).map(({ faceId }) => faceId)
  }
}

const WHY_UNKNOWN: Record<Exclude<Person['role'], 'attends'>, string> = {
  'withholds consent': 'who does not consent',
  'photo missing': 'whose photo is missing',
  'not invited': 'somebody who is not invited',
}

/** Milliseconds until a condition holds; undefined if it does not within 30 s. */
async function timeUntil(holds: () => boolean): Promise<number | undefined> {
  const began = performance.now()
  while (performance.now() - began < FOLLOWED_WITHIN_MS) {
    if (holds()) return performance.now() - began
    await sleep(20)
  }
  return undefined
}

function saidWhereThePicturesAre(): void {
  say(`the pictures, with everybody framed: ${relative('', OUTPUT)}/`)
}

function nextSteps(): void {
  heading('Next')
  say('npm start -- --photos DIR --find FILE   the same with photos of your own')
  say('npm run dev                             the system stays up, for your own app')
  say('npx event-indexer status --watch        beside npm run dev: what an operator sees of it')
}
