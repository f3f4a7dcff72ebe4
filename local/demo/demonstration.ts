import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { RekognitionClient } from '@aws-sdk/client-rekognition'
import pg from 'pg'
import { reasonOf } from '../../cli/reasons.ts'
import { type GroupPhoto, groupPhotos } from '../photos.ts'
import type { LocalSystem } from '../system.ts'
import { CastError, guestsAsLifeBringsThem, guestsFromFolder, guestsFromPortraits } from './cast.ts'
import { picture, type Recognised, recognise, type SeenFace, seeFaces } from './proof.ts'
import { bad, faint, good, heading, progress, say, table } from './show.ts'

export interface DemonstrationOptions {
  /** A folder of portraits; the people of the package's group photos unless given. */
  photos?: string | undefined
  /** Files in which to look for them; the group photos, or nothing, unless given. */
  find?: string[] | undefined
}

interface Job {
  user_id: string
  state: string
  reason: string | null
  error: string | null
}

const OUTPUT = 'output'
const OPEN = new Set(['queued', 'sent', 'running'])

/**
 * Shows the main job on a running system: an event that starts in ten minutes is claimed, indexed and settled; its
 * attendees' faces are found in photos, and followed when the attendees change their minds.
 * @throws {CastError} when there is nobody to show
 */
export async function demonstrate(system: LocalSystem, options: DemonstrationOptions): Promise<void> {
  const stage = new Demonstration(system)
  try {
    await stage.run(options)
  } finally {
    await stage.close()
  }
}

class Demonstration {
  readonly #system: LocalSystem
  readonly #rekognition: RekognitionClient
  readonly #database: pg.Pool
  readonly #names = new Map<string, string>()
  #event = ''

  constructor(system: LocalSystem) {
    this.#system = system
    this.#rekognition = new RekognitionClient({
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

  async run({ photos, find }: DemonstrationOptions): Promise<void> {
    heading('An event that starts in ten minutes')
    const app = this.#system.app
    this.#event = await app.createEvent({
      name: 'Opening night',
      startsAt: new Date(Date.now() + 10 * 60_000),
    })
    const seen = photos === undefined ? await this.#seeAll(await groupPhotos()) : []
    const guests = photos === undefined ? await this.#castFrom(seen) : await this.#castFromFolder(photos)
    const users = await app.addAttendees(this.#event, guests)
    for (const [index, user] of users.entries()) this.#names.set(user, guests[index]?.name ?? user)
    say(
      `${counted(guests.length, 'attendee')}, their photos in the bucket; ${guests.filter((g) => g.consents !== false).length} of them with consent`,
    )

    await this.#index()
    await this.#showOutcome()

    const lookedAt = find ? await this.#seeAll(await readAll(find)) : seen
    if (lookedAt.length > 0) await this.#findEverybody(lookedAt)
    if (photos === undefined) await this.#changeMinds(users, seen)
  }

  async #seeAll(photos: GroupPhoto[]): Promise<{ photo: GroupPhoto; faces: SeenFace[] }[]> {
    return Promise.all(
      photos.map(async (photo) => ({ photo, faces: await seeFaces(this.#rekognition, photo.bytes) })),
    )
  }

  async #castFrom(seen: { faces: SeenFace[] }[]) {
    const portraits = seen.flatMap(({ faces }) => faces.map((face) => face.crop))
    const [first] = portraits
    if (!first) throw new CastError('no face was found in the group photos')
    say(
      `${portraits.length} people on ${seen.length} group photos, each cropped to a portrait, and six cases of life`,
    )
    return [...guestsFromPortraits(portraits), ...(await guestsAsLifeBringsThem(first))]
  }

  async #castFromFolder(folder: string) {
    const { guests, leftOut } = await guestsFromFolder(folder)
    for (const line of leftOut) say(`${bad('left out')} ${line}`)
    return guests
  }

  /** Lets the scheduler run, and shows the workers at it until the event is settled. */
  async #index(): Promise<void> {
    heading('Indexing')
    const report = (await this.#system.functions.invoke('scheduler', { window_minutes: 20 })) as Record<
      string,
      unknown
    >
    const [events, messages] = [Number(report.events_claimed), Number(report.messages_sent)]
    say(`the scheduler claimed ${counted(events, 'event')} and sent ${counted(messages, 'message')}`)
    const bar = progress(Number(report.jobs_written), 'attendees')
    try {
      for (;;) {
        const jobs = await this.#jobs()
        bar.update(jobs.filter(({ state }) => !OPEN.has(state)).length)
        if ((await this.#system.app.statusOf(this.#event)) !== 'in_progress') return
        await sleep(200)
      }
    } finally {
      bar.stop()
    }
  }

  async #jobs(): Promise<Job[]> {
    const { rows } = await this.#database.query<Job>(
      'select user_id, state, reason, error from indexing.face_jobs where event_id = $1 order by user_id',
      [this.#event],
    )
    return rows
  }

  async #showOutcome(): Promise<void> {
    const status = await this.#system.app.statusOf(this.#event)
    heading(`The event is ${status === 'completed' ? good(status) : bad(status)}`)
    const jobs = await this.#jobs()
    const indexed = jobs.filter(({ state }) => state === 'indexed')
    const known = new Set(jobs.map(({ user_id }) => user_id))
    const notAsked = [...this.#names].filter(([user]) => !known.has(user))
    table(
      ['attendee', 'outcome', 'why'],
      [
        [counted(indexed.length, 'person', 'people'), good('indexed'), ''],
        ...jobs
          .filter(({ state }) => state !== 'indexed')
          .map(({ user_id, state, reason }) => [
            this.#nameOf(user_id),
            state === 'failed' ? bad(state) : state,
            reason ? reasonOf(reason).title : '',
          ]),
        ...notAsked.map(([, name]) => [name, 'left alone', 'no consent']),
      ],
    )
  }

  #nameOf = (userId: string): string => this.#names.get(userId) ?? userId

  /** Searches each face of each photo in the collection and draws who was found. */
  async #findEverybody(seen: { photo: GroupPhoto; faces: SeenFace[] }[]): Promise<void> {
    heading('The proof: photos searched against the collection')
    await mkdir(OUTPUT, { recursive: true })
    const rows: string[][] = []
    for (const { photo, faces } of seen) {
      const found = await Promise.all(
        faces.map(async (face) => ({ box: face.box, recognised: await this.#recognise(face) })),
      )
      const file = join(OUTPUT, `${basename(photo.name).replace(/\.\w+$/, '')}-recognised.jpg`)
      await writeFile(file, await picture(photo.bytes, found, this.#nameOf))
      const names = found.flatMap(({ recognised }) =>
        recognised
          ? [`${this.#nameOf(recognised.userId)} ${faint(`${recognised.similarity.toFixed(0)}%`)}`]
          : [],
      )
      rows.push([photo.name, `${names.length} of ${faces.length}`, names.join(', ')])
    }
    table(['photo', 'found', 'who'], rows)
    say(`annotated pictures: ${resolve(OUTPUT)}`)
  }

  #recognise(face: SeenFace): Promise<Recognised> {
    return recognise(this.#rekognition, this.#collection, face)
  }

  get #collection(): string {
    return `${this.#system.environment.COLLECTION_PREFIX}${this.#event}`
  }

  /** Four attendees change their minds after the event is settled; the collection follows each by itself. */
  async #changeMinds(users: string[], seen: { faces: SeenFace[] }[]): Promise<void> {
    heading('What changes afterwards, the collection follows by itself')
    const { app } = this.#system
    const faces = seen.flatMap((photo) => photo.faces)
    const [revoker, changer, leaver] = users
    const late = users[faces.length] // the first of the six cases: does not consent, and has the first guest's photo
    const anotherPhoto = faces[3]?.crop
    if (!revoker || !changer || !leaver || !late || !anotherPhoto) return

    const facesOf = (user: string) =>
      (this.#system.rekognition.collection(this.#collection) ?? []).filter(
        (face) => face.externalImageId === user,
      )
    const photoOf = async (user: string) =>
      (await this.#database.query('select photo_path from profiles where user_id = $1', [user])).rows[0]
        ?.photo_path
    const follow = async (what: string, change: () => Promise<unknown>, done: () => Promise<boolean>) => {
      await change()
      const committed = performance.now()
      while (!(await done())) {
        if (performance.now() - committed > 30_000)
          throw new Error(`the collection did not follow when ${what}`)
        await sleep(20)
      }
      return [what, `${((performance.now() - committed) / 1000).toFixed(1)} s`]
    }

    const rows = [
      await follow(
        `${this.#nameOf(revoker)} takes consent back`,
        () => app.setConsent(this.#event, revoker, false),
        async () => facesOf(revoker).length === 0,
      ),
      await follow(
        `${this.#nameOf(changer)} changes the photo`,
        () => app.changePhoto(changer, anotherPhoto),
        async () => {
          const photo = await photoOf(changer)
          const now = facesOf(changer)
          return now.length === 1 && now[0]?.imageKey === photo
        },
      ),
      await follow(
        `“${this.#nameOf(late)}” consents after all`,
        () => app.setConsent(this.#event, late, true),
        async () => facesOf(late).length === 1,
      ),
      await follow(
        `${this.#nameOf(leaver)} deletes the account`,
        () => app.deleteAccount(leaver),
        async () => facesOf(leaver).length === 0,
      ),
    ]
    table(['what', 'followed after'], rows)

    const again = await Promise.all(faces.slice(0, 3).map((face) => this.#recognise(face)))
    const name = (who: Recognised | undefined) => (who ? this.#nameOf(who.userId) : 'nobody')
    say(`searched again: the face of ${this.#nameOf(revoker)} is now found as “${name(again[0])}”,`)
    say(
      `that of ${this.#nameOf(changer)} as ${name(again[1])}, and that of ${this.#nameOf(leaver)} as ${name(again[2])}`,
    )
  }
}

async function readAll(files: string[]): Promise<GroupPhoto[]> {
  const photos: GroupPhoto[] = []
  for (const file of files) {
    try {
      photos.push({ name: basename(file), bytes: await readFile(file) })
    } catch (error) {
      say(`${bad('left out')} ${file}: ${(error as Error).message}`)
    }
  }
  return photos
}

const counted = (count: number, one: string, many = `${one}s`) => `${count} ${count === 1 ? one : many}`
