import { DeleteCollectionCommand, IndexFacesCommand } from '@aws-sdk/client-rekognition'
import type pg from 'pg'
import { deleteFaces, listFaces } from '../../src/core/collection.ts'
import { restoreBackup, takeBackup } from './backup.ts'
import type { Clock } from './clock.ts'
import type { History } from './history.ts'
import type { Random } from './random.ts'
import { BUCKET, type Stage } from './stage.ts'

/** What the app knows of an event. */
interface AppEvent {
  active: boolean
  closed: boolean
  /** By a transaction that is still open: nobody else may touch it, or the app would wait for itself. */
  held: boolean
}

interface AppUser {
  photo: string | null
  profile: boolean
  held: boolean
}

export interface WorldOptions {
  attendees: number
  events: number
  /** Whether everybody has a usable photo, and all events start in a quarter of an hour. */
  tame: boolean
  /** Whether the app calls Rekognition by itself, too, and collections are lost. */
  meddles: boolean
}

const COLLECTION_PREFIX = 'memento_event_'

/** How late the app's own calls of Rekognition may land, in ms after the commit of the request that makes them. */
const LATEST_OWN_CALL_MS = 20_000

/** The kinds of photos that profiles have, and whether there is a face in them that can be indexed. */
const PHOTOS = {
  face: { weight: 76, usable: true },
  group: { weight: 4, usable: true },
  'no-face': { weight: 2, usable: false },
  blurred: { weight: 2, usable: false },
  'not-an-image': { weight: 2, usable: false },
  missing: { weight: 8, usable: false },
  url: { weight: 2, usable: false },
  none: { weight: 3, usable: false },
  empty: { weight: 1, usable: false },
} as const
type PhotoKind = keyof typeof PHOTOS

/** The app: its tables, and attendees and organisers who change their minds, as the seed says. */
export class World {
  /** Photos by their keys: what they show, as text; undefined while the object is missing. */
  readonly photos = new Map<string, { content: string | undefined; usable: boolean }>()
  /** Events whose rows the app has touched since this was last emptied: our functions may have passed them over. */
  readonly touched = new Set<string>()
  /** What went wrong with writes of the app: nothing may. */
  readonly failedWrites: string[] = []
  /** How often each event was offered to be claimed. */
  readonly offers = new Map<string, number>()
  /** Attendees, as `event/user`, with whom a worker is busy: a change of theirs meets it in the middle. */
  readonly busy = new Set<string>()
  /** Events that a restored backup knows as not claimed: a collection of theirs is an orphan until they are. */
  readonly unclaimedAgain = new Set<string>()
  /** When the object of a key was last put in the place of another. */
  readonly replacedAt = new Map<string, number>()
  /** When something last happened that no trigger and no bucket told of: reconcile has to find it. */
  unnoticedAt: number | undefined
  #changes = 0
  #requests = 0
  #ownCalls = 0
  #meddles = false
  #restoring = false
  #locked = false // the table of changes

  readonly #random: Random
  readonly #stage: Stage
  readonly #clock: Clock
  readonly #history: History
  readonly #users = new Map<string, AppUser>()
  readonly #events = new Map<string, AppEvent>()
  readonly #consents = new Set<string>()
  readonly #replaced = new Set<string>() // keys of objects that are being replaced
  readonly #log: { at: number; event: string | undefined; user: string | undefined }[] = []

  constructor(random: Random, stage: Stage, clock: Clock, history: History) {
    this.#random = random
    this.#stage = stage
    this.#clock = clock
    this.#history = history
  }

  /** The ids of the app's events. */
  get events(): string[] {
    return [...this.#events.keys()]
  }

  get changes(): number {
    return this.#changes
  }

  /** Whether no transaction of the app is open and no call of its own under way. */
  get idle(): boolean {
    return this.#ownCalls === 0 && this.heldEvents().length === 0
  }

  /** Events with attendees, who consent to about three events each. */
  async populate({ attendees, events, tame, meddles }: WorldOptions): Promise<void> {
    const random = this.#random.of('people')
    const starts = tame ? [15] : [-3, 5, 10, 15, 19, 22]
    for (let n = 0; n < events; n++) await this.#createEvent(random, random.pick(starts))
    const people = Math.ceil(attendees / 3)
    for (let n = 0; n < people; n++) await this.#createUser(random, tame ? 'face' : undefined)
    for (let n = 0; n < attendees; n++) {
      const event = this.#someEvent(random)
      const user = this.#someUser(random)
      if (event && user && !this.#consents.has(`${event}/${user}`))
        await this.#consent(event, user, random.chance(0.9))
    }
    this.#meddles = meddles
  }

  /** Changes something every few seconds, each time something else, until told to stop. */
  async live(stopped: () => boolean, pace: number): Promise<void> {
    for (let n = 0; !stopped(); n++) {
      const random = this.#random.of('change', n)
      await this.#clock.sleep(random.between(0, 2 * pace))
      if (stopped()) return
      const change = random.weighted<keyof typeof WEIGHTS>(
        this.#meddles ? WEIGHTS : { ...WEIGHTS, 'collection lost': 0, 'backup restored': 0 },
      )
      await this.#changesOf[change](random)
      this.#changes++
    }
  }

  /** Whether the app wants the face of this photo in the collection, or did at some moment since then. */
  wantedSince(event: string, user: string, photo: string, since: number): boolean {
    if (this.#wish(event, user) === photo) return true
    return this.#log.some(
      (change) =>
        change.at >= since &&
        (change.event === undefined || change.event === event) &&
        (change.user === undefined || change.user === user),
    )
  }

  /** Objects that were missing are uploaded after all. */
  async uploadMissing(): Promise<void> {
    for (const [key, photo] of this.photos) {
      if (photo.content !== undefined || !key.startsWith('photos/')) continue
      await this.#upload(key, `face ${key}`, true)
      await this.#stage.sql.query('select public.indexing_note_photos($1)', [[key]])
    }
  }

  /** The app confirms an upload by naming the key once more, or the bucket tells of it. */
  async #confirm(key: string, byBucket: boolean): Promise<void> {
    if (byBucket) {
      if (this.#locked) return // the word is lost; it would wait for the lock, and the simulated clock for it
      await this.#clock.during(() => this.#stage.sql.query('select public.indexing_note_photos($1)', [[key]]))
      return
    }
    for (const [user, { photo, held }] of this.#users)
      if (photo === key && !held) await this.#setPhoto(user, key)
  }

  #wish(event: string, user: string): string | undefined {
    const { active, closed } = this.#events.get(event) ?? {}
    if (!active || closed || !this.#consents.has(`${event}/${user}`)) return undefined
    return this.#users.get(user)?.photo ?? undefined
  }

  #someEvent(random: Random): string | undefined {
    const free = [...this.#events].filter(([, { held }]) => !held)
    return free.length > 0 ? random.pick(free)[0] : undefined
  }

  #someUser(random: Random): string | undefined {
    const free = [...this.#users].filter(([, { held }]) => !held)
    return free.length > 0 ? random.pick(free)[0] : undefined
  }

  #someConsent(random: Random): { event: string; user: string } | undefined {
    const free = [...this.#consents]
      .map((key) => {
        const [event = '', user = ''] = key.split('/')
        return { key, event, user }
      })
      .filter(({ event, user }) => !this.#events.get(event)?.held && !this.#users.get(user)?.held)
    const busy = random.chance(0.5) ? free.filter(({ key }) => this.busy.has(key)) : []
    return free.length > 0 ? random.pick(busy.length > 0 ? busy : free) : undefined
  }

  get #nothingHeld(): boolean {
    return this.heldEvents().length === 0 && [...this.#users.values()].every(({ held }) => !held)
  }

  /** Attendees who consent to an event and whose rows nobody holds. */
  #consentingTo(event: string): string[] {
    return [...this.#consents]
      .filter((key) => key.startsWith(event))
      .map((key) => key.slice(event.length + 1))
      .filter((user) => this.#users.get(user)?.held === false)
  }

  /** Consents of many attendees, in one statement. */
  async #consentAll(event: string, users: string[], allow: boolean): Promise<void> {
    await this.#write(
      { event },
      `${users.length} attendees ${allow ? 'consent' : 'take consent back'} in one statement`,
      () => {
        for (const user of users)
          if (allow) this.#consents.add(`${event}/${user}`)
          else this.#consents.delete(`${event}/${user}`)
      },
      `insert into event_consents (event_id, user_id, allow_recognition) select $1, u, $3 from unnest($2::uuid[]) u
       on conflict (event_id, user_id) do update set allow_recognition = excluded.allow_recognition`,
      [event, users, allow],
    )
  }

  /** Something that goes on beside what else changes. */
  #aside(act: () => Promise<void>): void {
    this.#ownCalls++
    void act().finally(() => {
      this.#ownCalls--
    })
  }

  /** One transaction of the app. What it means is known to be so from before its commit: it may be seen from then on. */
  async #write(
    about: { event?: string; user?: string },
    what: string,
    apply: () => void,
    sql: string,
    values: unknown[],
    openForMs = 0,
    mode = '',
  ): Promise<void> {
    const event = about.event ? this.#events.get(about.event) : undefined
    const user = about.user ? this.#users.get(about.user) : undefined
    const hold = (held: boolean) => {
      if (event) event.held = held
      if (user) user.held = held
    }
    let client: pg.PoolClient | undefined
    try {
      client = await this.#clock.during(() => this.#stage.sql.connect())
      const made = client
      await this.#clock.during(async () => {
        await made.query(`begin; set local lock_timeout = '3s'; set local statement_timeout = '4s'; ${mode}`)
        this.touched.add(about.event ?? '')
        await made.query(sql, values)
      })
      if (openForMs > 0) {
        hold(true)
        await this.#clock.sleep(openForMs)
      }
      await this.#clock.during(async () => {
        this.#note(about)
        await client?.query('commit')
        apply()
        this.#note(about)
        this.#history.note(about, `the app: ${what}${openForMs > 0 ? ', in a slow transaction' : ''}`)
      })
      this.touched.add(about.event ?? '')
    } catch (error) {
      await client?.query('rollback')
      const gone =
        (about.event !== undefined && !this.#events.has(about.event)) ||
        (about.user !== undefined && !this.#users.has(about.user))
      // A restored backup took the account or the event away meanwhile: the app's own error.
      if (gone && (error as pg.DatabaseError).code === '23503')
        this.#history.note(about, `the app could not: ${what}, of somebody or something that is gone`)
      else this.failedWrites.push(`${what}: ${String(error)}`)
    } finally {
      hold(false)
      client?.release()
    }
  }

  /**
   * What a request of the app does after its commit, about half the time: it deletes the attendee's faces from the collection
   * and indexes the photo that it knows of, if any. A late one may meet a world in which that is wanted no longer.
   */
  async #actByItself(event: string, user: string, acts?: boolean): Promise<void> {
    const random = this.#random.of('request', ++this.#requests)
    if (!this.#meddles || !(acts ?? random.chance(0.5))) return
    const photo = this.#wish(event, user)
    const lateMs = random.between(0, LATEST_OWN_CALL_MS)
    const act = async () => {
      await this.#clock.sleep(lateMs)
      await this.#clock.during(() => this.#callByItself(event, user, photo))
    }
    this.#ownCalls++
    const acted = act().finally(() => {
      this.#ownCalls--
    })
    if (lateMs === 0) await acted
  }

  async #callByItself(event: string, user: string, photo: string | undefined): Promise<void> {
    const collection = COLLECTION_PREFIX + event
    const client = this.#stage.rekognitionClient
    const note = (what: string) => this.#history.note({ event, user }, `the app itself: ${what}`)
    try {
      const faces = (await listFaces(client, collection)).faces.get(user) ?? []
      await deleteFaces(client, collection, faces)
      if (faces.length > 0) note(`DeleteFaces ${faces.join()}`)
      if (photo === undefined || !this.photos.get(photo)?.usable) return
      await client.send(
        new IndexFacesCommand({
          CollectionId: collection,
          ExternalImageId: user,
          Image: { S3Object: { Bucket: BUCKET, Name: photo } },
          MaxFaces: 1,
          QualityFilter: 'AUTO',
        }),
      )
      note(`IndexFaces ${photo}`)
    } catch (error) {
      note(String(error)) // no collection yet, or no longer: it lets it be
    }
  }

  /** Events that a transaction of the app holds. */
  heldEvents(): string[] {
    return [...this.#events].filter(([, { held }]) => held).map(([id]) => id)
  }

  #note({ event, user }: { event?: string; user?: string }): void {
    this.#log.push({ at: this.#clock.now(), event, user })
  }

  async #createEvent(random: Random, startsInMinutes: number | null): Promise<string> {
    const event = random.uuid()
    this.offers.set(event, 1)
    await this.#write(
      { event },
      `the event is created, to start in ${startsInMinutes} minutes`,
      () => this.#events.set(event, { active: true, closed: false, held: false }),
      'insert into events (event_id, name, starts_at) values ($1, $2, $3)',
      [
        event,
        'an event',
        startsInMinutes === null ? null : new Date(this.#clock.now() + startsInMinutes * 60_000),
      ],
    )
    return event
  }

  async #createUser(random: Random, photoKind?: PhotoKind): Promise<string> {
    const user = random.uuid()
    const photo = await this.#newPhoto(random, photoKind)
    await this.#write(
      { user },
      `an account with photo ${photo}`,
      () => this.#users.set(user, { photo, profile: true, held: false }),
      `with account as (insert into auth.users (id) values ($1) returning id)
       insert into profiles (user_id, full_name, photo_path) select id, 'Somebody', $2 from account`,
      [user, photo],
    )
    return user
  }

  async #newPhoto(random: Random, ofKind?: PhotoKind): Promise<string | null> {
    const weights = Object.fromEntries(Object.entries(PHOTOS).map(([name, { weight }]) => [name, weight]))
    const kind = ofKind ?? random.weighted<PhotoKind>(weights)
    if (kind === 'none') return null
    if (kind === 'empty') return ''
    const id = random.uuid()
    if (kind === 'url') return `https://example.org/${id}.jpg`
    const key = `photos/${kind} ${id}.jpg`
    const content =
      { face: `face ${id}`, group: `faces:one ${id}@0.4,two ${id}@0.1` }[kind as string] ?? `${kind} ${id}`
    return this.#upload(key, kind === 'missing' ? undefined : content, PHOTOS[kind].usable)
  }

  async #upload(key: string, content: string | undefined, usable: boolean): Promise<string> {
    if (content !== undefined) await this.#clock.during(() => this.#stage.upload(key, content))
    this.photos.set(key, { content, usable })
    return key
  }

  /**
   * Somebody takes consent back and gives it again, just when a worker has indexed them; the app deletes their face in
   * between, and a scheduler notices before the worker has its answer.
   */
  async waver(event: string, user: string): Promise<void> {
    const held = this.#events.get(event)?.held || this.#users.get(user)?.held
    if (held || !this.#meddles || !this.#consents.has(`${event}/${user}`)) return
    await this.#consent(event, user, false, 0, true)
    await this.#consent(event, user, true, 0, false)
    if (this.#locked) return
    await this.#clock.during(() =>
      this.#stage.sql.query(
        'select public.indexing_process_changes(true, 5000), public.indexing_process_changes(false, 5000)',
      ),
    )
  }

  async #consent(
    event: string,
    user: string,
    allow: boolean,
    openForMs = 0,
    actsByItself?: boolean,
  ): Promise<void> {
    const changes = this.#consents.has(`${event}/${user}`) !== allow
    await this.#write(
      { event, user },
      allow ? 'consents' : 'takes consent back',
      () => (allow ? this.#consents.add(`${event}/${user}`) : this.#consents.delete(`${event}/${user}`)),
      `insert into event_consents (event_id, user_id, allow_recognition) values ($1, $2, $3)
       on conflict (event_id, user_id) do update set allow_recognition = excluded.allow_recognition`,
      [event, user, allow],
      openForMs,
    )
    // A request that changes nothing calls nobody: of that, no trigger could know.
    if (changes) await this.#actByItself(event, user, actsByItself)
  }

  async #setPhoto(user: string, photo: string | null, openForMs = 0): Promise<void> {
    const known = this.#users.get(user)
    if (!known?.profile) return
    await this.#write(
      { user },
      `photo ${photo}`,
      () => {
        known.photo = photo
      },
      'update profiles set photo_path = $2 where user_id = $1',
      [user, photo],
      openForMs,
    )
    for (const key of [...this.#consents].filter((key) => key.endsWith(user)))
      await this.#actByItself(key.slice(0, -user.length - 1), user)
  }

  async #setEvent(
    event: string,
    what: string,
    apply: (known: AppEvent) => void,
    sets: string,
    openForMs = 0,
  ): Promise<void> {
    const known = this.#events.get(event)
    if (!known) return
    await this.#write(
      { event },
      what,
      () => apply(known),
      `update events set ${sets} where event_id = $1`,
      [event],
      openForMs,
    )
  }

  async #deleteEvent(event: string): Promise<void> {
    await this.#write(
      { event },
      'the event is deleted',
      () => {
        this.#events.delete(event)
        for (const key of this.#consents) if (key.startsWith(event)) this.#consents.delete(key)
      },
      'delete from events where event_id = $1',
      [event],
    )
  }

  /** Puts the backup back. Returns false when the tables were not free; nothing has changed then. */
  async #restore(copy: {
    users: (readonly [string, AppUser])[]
    events: (readonly [string, AppEvent])[]
    consents: string[]
  }): Promise<boolean> {
    this.#note({})
    try {
      await restoreBackup(this.#stage, () => {
        this.#users.clear()
        for (const [id, user] of copy.users) this.#users.set(id, user)
        this.#events.clear()
        for (const [id, event] of copy.events) {
          this.#events.set(id, event)
          this.offers.set(id, (this.offers.get(id) ?? 0) + 1)
          this.touched.add(id)
        }
        this.#consents.clear()
        for (const key of copy.consents) this.#consents.add(key)
      })
    } catch (error) {
      this.#history.note({}, `the backup could not be restored: ${String(error)}`)
      return false
    }
    const { rows } = await this.#stage.sql.query<{ event: string }>(
      'select event_id as event from public.events e where not exists (select from indexing.event_runs r where r.event_id = e.event_id)',
    )
    for (const { event } of rows) this.unclaimedAgain.add(event)
    this.#note({})
    this.unnoticedAt = this.#clock.now()
    this.#history.note({}, 'the backup is restored')
    return true
  }

  async #offerAgain(event: string): Promise<void> {
    this.offers.set(event, (this.offers.get(event) ?? 0) + 1)
    await this.#setEvent(event, 'the event is set back to pending', () => {}, `indexing_status = 'pending'`)
  }

  readonly #changesOf: Record<keyof typeof WEIGHTS, (random: Random) => Promise<void>> = {
    revoke: async (random) => {
      const who = this.#someConsent(random)
      if (who) await this.#consent(who.event, who.user, false)
    },
    consent: async (random) => {
      const event = this.#someEvent(random)
      const user = this.#someUser(random)
      if (event && user) await this.#consent(event, user, true)
    },
    'revoke and consent': async (random) => {
      const who = this.#someConsent(random)
      if (!who) return
      await this.#consent(who.event, who.user, false)
      await this.#clock.sleep(random.pick([0, 500, 3_000]))
      if (this.#events.has(who.event) && this.#users.has(who.user))
        await this.#consent(who.event, who.user, true)
    },
    leave: async (random) => {
      const who = this.#someConsent(random)
      if (!who) return
      await this.#write(
        who,
        'leaves',
        () => this.#consents.delete(`${who.event}/${who.user}`),
        'delete from event_consents where (event_id, user_id) = ($1, $2)',
        [who.event, who.user],
      )
      await this.#actByItself(who.event, who.user)
    },
    'consent slowly': async (random) => {
      const event = this.#someEvent(random)
      const user = this.#someUser(random)
      const openForMs = random.between(2_000, 100_000)
      // Side by side with what else changes.
      if (event && user) void this.#consent(event, user, !this.#consents.has(`${event}/${user}`), openForMs)
    },
    photo: async (random) => {
      const user = this.#someConsent(random)?.user
      if (user) await this.#setPhoto(user, await this.#newPhoto(random))
    },
    'photo, slowly': async (random) => {
      const user = this.#someConsent(random)?.user
      if (user) void this.#setPhoto(user, await this.#newPhoto(random), random.between(2_000, 180_000))
    },
    'photo and back': async (random) => {
      const user = this.#someConsent(random)?.user
      const before = user && this.#users.get(user)?.photo
      if (!user || before === undefined) return
      await this.#setPhoto(user, await this.#newPhoto(random))
      await this.#clock.sleep(random.pick([0, 500, 5_000, 20_000]))
      await this.#setPhoto(user, before)
    },
    'the same photo under another key': async (random) => {
      const user = this.#someConsent(random)?.user
      const photo = this.photos.get(this.#users.get(user ?? '')?.photo ?? '')
      if (user && photo?.content !== undefined)
        await this.#setPhoto(
          user,
          await this.#upload(`photos/again ${random.uuid()}.jpg`, photo.content, photo.usable),
        )
    },
    'missing photo arrives': async (random) => {
      const missing = [...this.photos].filter(([, { content }]) => content === undefined)
      if (missing.length === 0) return
      const [key] = random.pick(missing)
      await this.#upload(key, `face ${key}`, true)
      await this.#confirm(key, random.chance(0.5))
    },
    'photo replaced in place': async (random) => {
      const user = this.#someConsent(random)?.user
      const key = this.#users.get(user ?? '')?.photo
      if (!user || !key?.startsWith('photos/') || this.#replaced.has(key)) return
      const gapMs = random.pick([0, 2_000, 10_000, 40_000, 150_000, 300_000])
      const replace = async () => {
        this.#replaced.add(key)
        await this.#clock.during(() => this.#stage.deleteObject(key))
        this.photos.set(key, { content: undefined, usable: false })
        this.#history.note({ user }, `the app: object ${key} is deleted`)
        this.unnoticedAt = this.#clock.now()
        await this.#clock.sleep(gapMs)
        this.#replaced.delete(key)
        if (random.chance(0.1)) return // the person gives up
        await this.#upload(key, `face ${random.uuid()}`, true)
        this.replacedAt.set(key, this.#clock.now())
        this.#history.note({ user }, `the app: object ${key} is there again`)
        this.unnoticedAt = this.#clock.now()
        await this.#clock.sleep(random.pick([0, 1_000, 5_000]))
        if (random.chance(0.9)) await this.#confirm(key, random.chance(0.2)) // or the confirmation is lost
      }
      if (gapMs <= 40_000) await replace()
      else this.#aside(replace)
    },
    'everybody at once': async (random) => {
      const event = this.#someEvent(random)
      if (!event) return
      const users = this.#consentingTo(event).filter(() => random.chance(0.7))
      await this.#consentAll(event, users, false)
      await this.#clock.sleep(random.pick([0, 3_000, 30_000]))
      if (this.#events.get(event)?.held === false && random.chance(0.8))
        await this.#consentAll(
          event,
          users.filter((user) => this.#users.get(user)?.held === false),
          true,
        )
    },
    'all photos named again': async () => {
      const users = [...this.#users].filter(([, { held, profile }]) => !held && profile).map(([user]) => user)
      await this.#write(
        {},
        `${users.length} photos are named again in one statement`,
        () => {},
        'update profiles set photo_path = photo_path where user_id = any ($1)',
        [users],
      )
    },
    'consents truncated': async (random) => {
      if (!this.#nothingHeld) return
      const before = [...this.#consents].map((key) => key.split('/') as [string, string])
      await this.#write(
        {},
        'all consents are truncated',
        () => this.#consents.clear(),
        'truncate event_consents',
        [],
      )
      await this.#clock.sleep(random.pick([0, 3_000, 30_000]))
      if (!this.#nothingHeld) return
      for (const event of this.events) {
        const users = before
          .filter(([of, user]) => of === event && this.#users.has(user) && random.chance(0.7))
          .map(([, user]) => user)
        if (this.#events.get(event)?.held === false && users.length > 0)
          await this.#consentAll(event, users, true)
      }
    },
    'triggers do not fire': async (random) => {
      const who = this.#someConsent(random)
      const known = this.#users.get(who?.user ?? '')
      if (!who || !known) return
      const replica = 'set local session_replication_role = replica'
      const kind = random.pick(['revoke', 'consent', 'photo'] as const)
      if (kind === 'photo' && known.profile) {
        const photo = await this.#newPhoto(random)
        await this.#write(
          { user: who.user },
          `photo ${photo}, and no trigger fires`,
          () => {
            known.photo = photo
          },
          'update profiles set photo_path = $2 where user_id = $1',
          [who.user, photo],
          0,
          replica,
        )
      } else {
        const event = kind === 'consent' ? this.#someEvent(random) : who.event
        if (!event) return
        await this.#write(
          { event, user: who.user },
          `${kind === 'consent' ? 'consents' : 'takes consent back'}, and no trigger fires`,
          () => this.#consents[kind === 'consent' ? 'add' : 'delete'](`${event}/${who.user}`),
          `insert into event_consents (event_id, user_id, allow_recognition) values ($1, $2, $3)
           on conflict (event_id, user_id) do update set allow_recognition = excluded.allow_recognition`,
          [event, who.user, kind === 'consent'],
          0,
          replica,
        )
      }
      this.unnoticedAt = this.#clock.now()
    },
    'backup restored': async (random) => {
      if (this.#restoring || !this.#nothingHeld) return
      this.#restoring = true
      const copy = await this.#clock.during(async () => {
        await takeBackup(this.#stage)
        return {
          users: [...this.#users].map(([id, user]) => [id, { ...user }] as const),
          events: [...this.#events].map(([id, event]) => [id, { ...event }] as const),
          consents: [...this.#consents],
        }
      })
      this.#history.note({}, 'a backup is taken')
      this.#aside(async () => {
        await this.#clock.sleep(random.between(5_000, 120_000))
        for (let tries = 0; tries < 20; tries++) {
          if (this.#nothingHeld && (await this.#clock.during(() => this.#restore(copy)))) break
          await this.#clock.sleep(5_000)
        }
        this.#restoring = false
      })
    },
    'no profile': async (random) => {
      const user = this.#someUser(random)
      const known = user && this.#users.get(user)
      if (!user || !known) return
      const photo = await this.#newPhoto(random)
      const makes = !known.profile
      await this.#write(
        { user },
        makes ? `a profile with photo ${photo}` : 'the profile is deleted',
        () => Object.assign(known, { profile: makes, photo: makes ? photo : null }),
        makes
          ? `insert into profiles (user_id, full_name, photo_path) values ($1, 'Somebody', $2)`
          : 'delete from profiles where user_id = $1 and $2::text is not distinct from $2',
        [user, photo],
      )
    },
    'new account': async (random) => {
      const user = await this.#createUser(random)
      const event = this.#someEvent(random)
      if (event) await this.#consent(event, user, true)
    },
    'account deleted': async (random) => {
      const user = this.#someUser(random)
      // The cascade reaches the consents of events that a slow transaction may hold.
      if (!user || this.heldEvents().length > 0) return
      await this.#write(
        { user },
        'the account is deleted',
        () => {
          this.#users.delete(user)
          for (const key of this.#consents) if (key.endsWith(user)) this.#consents.delete(key)
        },
        'delete from auth.users where id = $1',
        [user],
      )
    },
    'new event': async (random) => {
      const event = await this.#createEvent(random, random.pick([null, 3, 10, 22, 3_000]))
      for (let n = random.integer(0, 8); n > 0; n--) {
        const user = this.#someUser(random)
        if (user) await this.#consent(event, user, true)
      }
      // Soon regretted: deleted about when its collection is made.
      if (random.chance(0.5)) {
        await this.#clock.sleep(random.between(0, 75_000))
        if (!this.#events.get(event)?.held) await this.#deleteEvent(event)
      }
    },
    'event deleted': async (random) => {
      const event = this.#someEvent(random)
      if (event && this.#events.size > 2) await this.#deleteEvent(event)
    },
    'event put back': async (random) => {
      const event = this.#someEvent(random)
      const known = event && this.#events.get(event)
      if (!event || !known || known.closed || this.#events.size < 3) return
      const users = this.#consentingTo(event)
      const { rows } = await this.#clock.during(() =>
        this.#stage.sql.query<{ kept: object }>(
          'select to_jsonb(e) as kept from public.events e where event_id = $1',
          [event],
        ),
      )
      const kept = { ...rows[0]?.kept, ...(random.chance(0.5) && { indexing_status: 'pending' }) }
      await this.#deleteEvent(event)
      this.#aside(async () => {
        await this.#clock.sleep(random.pick([0, 2_000, 20_000, 150_000]))
        if (this.#events.has(event)) return // a restored backup has it
        await this.#write(
          { event },
          'the event that was deleted is put back',
          () => {
            this.#events.set(event, { active: known.active, closed: false, held: false })
            this.offers.set(event, (this.offers.get(event) ?? 0) + 1)
          },
          'insert into events select * from jsonb_populate_record(null::public.events, $1)',
          [kept],
        )
        const still = users.filter((user) => this.#users.get(user)?.held === false)
        if (this.#events.get(event)?.held === false) await this.#consentAll(event, still, true)
      })
    },
    'our table is locked': async (random) => {
      if (this.#locked) return
      this.#locked = true
      const client = await this.#clock.during(() => this.#stage.sql.connect())
      // Not against readers: the simulation itself is one. An open transaction of the app may be in the way.
      const had = await this.#clock.during(() =>
        client
          .query(
            "begin; set local lock_timeout = '100ms'; lock table indexing.changes in share row exclusive mode",
          )
          .then(
            () => true,
            () => false,
          ),
      )
      if (!had) {
        await this.#clock.during(() => client.query('rollback'))
        client.release()
        this.#locked = false
        return
      }
      this.#history.note({}, 'somebody locks the table of changes')
      this.#aside(async () => {
        await this.#clock.sleep(random.pick([5_000, 30_000, 150_000]))
        await this.#clock.during(() => client.query('rollback'))
        client.release()
        this.#locked = false
        this.unnoticedAt = this.#clock.now()
        this.#history.note({}, 'the table of changes is free again')
      })
    },
    'event stopped': async (random) => {
      const event = this.#someEvent(random)
      const active = event && this.#events.get(event)?.active
      if (!event) return
      const set = (to: boolean) =>
        this.#setEvent(
          event,
          to ? 'the event is activated' : 'the event is deactivated',
          (known) => {
            known.active = to
            if (to) this.offers.set(event, (this.offers.get(event) ?? 0) + 1) // a run that was ended is begun anew
          },
          `is_active = ${to}`,
        )
      await set(!active)
      if (!active) return
      await this.#clock.sleep(random.between(0, 40_000))
      if (!this.#events.get(event)?.held && random.chance(0.7)) await set(true)
    },
    'event moved': async (random) => {
      const event = this.#someEvent(random)
      const minutes = random.pick([-5, 2, 12, 19, 26])
      const startsAt = new Date(this.#clock.now() + minutes * 60_000).toISOString()
      if (event)
        await this.#setEvent(
          event,
          `the event is moved to ${startsAt}`,
          () => {},
          `starts_at = '${startsAt}'`,
        )
    },
    'event held': async (random) => {
      const event = this.#someEvent(random)
      if (event)
        void this.#setEvent(
          event,
          'the event is renamed',
          () => {},
          `name = 'renamed'`,
          random.between(5_000, random.pick([80_000, 80_000, 240_000])),
        )
    },
    'event closed': async (random) => {
      const event = this.#someConsent(random)?.event // often with a worker in the middle of it
      if (!event || this.#events.size < 3) return
      await this.#setEvent(
        event,
        'the event is closed',
        (known) => {
          known.closed = true
        },
        `cleanup_status = 'in_progress'`,
      )
      await this.#clock.sleep(random.pick([0, 1_000, 20_000]))
      const CollectionId = COLLECTION_PREFIX + event
      await this.#clock.during(() =>
        this.#stage.rekognitionClient.send(new DeleteCollectionCommand({ CollectionId })).catch(() => {}),
      )
      this.#history.note({ event }, 'the app itself: DeleteCollection')
      if (this.#events.get(event)?.held === false)
        await this.#setEvent(event, 'the clean-up is completed', () => {}, `cleanup_status = 'completed'`)
    },
    'event offered again': async (random) => {
      const event = this.#someEvent(random)
      if (event) await this.#offerAgain(event)
    },
    'collection lost': async (random) => {
      const event = this.#someConsent(random)?.event
      const { active, closed } = this.#events.get(event ?? '') ?? {}
      if (!event || !active || closed) return
      const CollectionId = COLLECTION_PREFIX + event
      if (!this.#stage.rekognition.collection(CollectionId)) return
      await this.#clock.during(() =>
        this.#stage.rekognitionClient.send(new DeleteCollectionCommand({ CollectionId })),
      )
      this.#history.note({ event }, 'somebody deletes the collection')
      await this.#offerAgain(event)
    },
  }
}

/** How often each change comes. */
const WEIGHTS = {
  revoke: 10,
  consent: 12,
  'revoke and consent': 6,
  leave: 4,
  'consent slowly': 4,
  photo: 12,
  'photo, slowly': 2,
  'photo and back': 6,
  'the same photo under another key': 2,
  'missing photo arrives': 2,
  'photo replaced in place': 6,
  'no profile': 3,
  'new account': 3,
  'account deleted': 3,
  'new event': 4,
  'event deleted': 1,
  'event put back': 1,
  'our table is locked': 0.7,
  'event stopped': 3,
  'event moved': 2,
  'event held': 3,
  'event closed': 2,
  'everybody at once': 1.5,
  'all photos named again': 1,
  'consents truncated': 0.3,
  'triggers do not fire': 3,
  'backup restored': 0.7,
  'event offered again': 1,
  'collection lost': 3,
} as const
