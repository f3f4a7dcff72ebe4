import { SendMessageCommand } from '@aws-sdk/client-sqs'
import type { LambdaFunctionURLEvent } from 'aws-lambda'
import { type Attendee, attendeeKey, readMessage } from '../../src/core/message.ts'
import { DATABASE_TIMEOUT_MS, DESIRED_STATE_MAX_AGE_MS } from '../../src/core/policy.ts'
import { answerNudge } from '../../src/nudge/nudge.ts'
import { DEFAULT_WINDOW_MINUTES, schedule } from '../../src/scheduler/scheduler.ts'
import { Clock, pauseBy } from './clock.ts'
import { History } from './history.ts'
import { unnoticed, unrest, type Violation, violations } from './invariants.ts'
import { Invocation, type Surroundings } from './invocation.ts'
import { Listings } from './listings.ts'
import { Mail } from './mail.ts'
import { Random } from './random.ts'
import type { Stage } from './stage.ts'
import { changeable, type Forecast, type OutageName, outage, Trouble } from './trouble.ts'
import { World, type WorldOptions } from './world.ts'

export interface SimulationOptions extends Pick<WorldOptions, 'attendees' | 'events'> {
  /** Of trouble, simulated. */
  minutes: number
  /**
   * Whether all calls pass and nobody dies: messages still come twice, late and in any order, nudges are lost, and the app
   * changes its mind. Every fifth seed is so without being told.
   */
  quiet?: boolean
}

/** What a simulation is exposed to. */
interface Conditions {
  forecast: Forecast
  /** Messages come twice, late and in batches of any size; schedulers run side by side, or not at all; nudges are lost. */
  unruly: boolean
  /** Whether nothing fails, so that every call and every message has to be the only one. */
  strict: boolean
  /** IndexFaces calls a second. */
  indexFacesTps: number
  /** Of a message, until it is a dead letter. */
  maxReceives: number
}

/** IndexFaces calls of the workers: the first three kinds landed, the others of those made met a fault. */
export interface Calls {
  made: number
  /** The photo was not there, or of a kind that Rekognition can't take. */
  unusable: number
  /** The collection did not hold the face, indexed from that photo by us. */
  needed: number
  /** It did already: an answer was lost, or a worker. */
  idle: number
}

export interface Outcome {
  violations: Violation[]
  history: History
  quiet: boolean
  /** Simulated minutes from the end of the trouble to rest. */
  restMinutes: number
  calls: Calls
  changes: number
  failedJobs: number
  deaths: number
}

/** Within so many simulated minutes after the end of all trouble nothing is left to do. */
export const REST_BOUND_MINUTES = 30

const MINUTE = 60_000
const SCHEDULER_SECONDS = 60
/** Consent is read again when it is too old, which may take as long as the database may. */
const OLDEST_CONSENT_MS = DESIRED_STATE_MAX_AGE_MS + DATABASE_TIMEOUT_MS
/** Between a worker's look at an object and its call, a slot may have to be waited for. */
const CROSSING_MS = 20_000
const SECRET = 'not so secret a secret'

/**
 * Runs one seed: minutes of trouble, then rest, then a replay of whatever failed, and rest again. The same seed gives the same
 * weather, the same kinds of changes of the app at the same simulated times, and the same fate to the call of the same name; what
 * depends on which of two transactions comes first, such as the batches of a worker and whom half of the changes are aimed at
 * (attendees with whom a worker is busy), may differ.
 */
export async function simulate(seed: number, stage: Stage, options: SimulationOptions): Promise<Outcome> {
  const random = new Random(`seed ${seed}`)
  const quiet = options.quiet ?? seed % 5 === 0
  const conditions = {
    forecast: quiet ? {} : changeable(random.of('trouble'), options.minutes),
    unruly: true,
    strict: quiet,
    indexFacesTps: random.of('quota').pick([20, 100, 10_000]),
    maxReceives: random.of('receives').pick([2, 3, 5]),
  }
  await stage.reset(conditions.maxReceives)
  await stage.putAhead(0)
  try {
    return await new Simulation(random, stage, conditions).run(options)
  } finally {
    pauseBy(undefined)
  }
}

export interface OutageOptions extends Pick<WorldOptions, 'attendees' | 'events'> {
  /** Of the outage, simulated. */
  minutes: number
  indexFacesTps: number
}

export interface OutageOutcome {
  violations: Violation[]
  attendees: number
  /** Attendees without an outcome when the outage began, and when it ended. */
  openBefore: number
  openAfter: number
  /** Simulated minutes from the end of the outage until every job and event had its end. */
  minutes: number
  calls: Calls
  /** Messages of ours that came to the finalizer. */
  deadLetters: number
  failedJobs: number
  /** One replay of these, if any: until every job and event had its end again, and how many failed again. */
  replay?: { minutes: number; failedJobs: number }
}

const OUTAGE_FROM_MS = 30_000
const DEPLOYED_MAX_RECEIVES = 5 // as in serverless.yml

/** Has one service out for some minutes while events are being indexed, and nothing else go wrong. */
export async function simulateOutage(
  name: OutageName,
  stage: Stage,
  options: OutageOptions,
): Promise<OutageOutcome> {
  await stage.reset(DEPLOYED_MAX_RECEIVES)
  await stage.putAhead(0)
  const { minutes, indexFacesTps } = options
  const forecast = outage(name, OUTAGE_FROM_MS, OUTAGE_FROM_MS + minutes * MINUTE)
  const conditions = {
    forecast,
    unruly: false,
    strict: false,
    indexFacesTps,
    maxReceives: DEPLOYED_MAX_RECEIVES,
  }
  try {
    return await new Simulation(new Random('outage'), stage, conditions).runOutage(options)
  } finally {
    pauseBy(undefined)
  }
}

class Simulation {
  readonly #random: Random
  readonly #stage: Stage
  readonly #clock: Clock
  readonly #conditions: Conditions
  readonly #history: History
  readonly #trouble: Trouble
  readonly #world: World
  readonly #around: Surroundings
  readonly #mail: Mail
  readonly #listings = new Listings()
  readonly #found: Violation[] = []
  readonly #once = new Set<string>()
  readonly #claims = new Map<string, number>()
  readonly #poison: string[] = []
  /**
   * Photos that were indexed just after their object was replaced. In a bucket without versions the worker may have looked at the
   * object before: then it knows this content by the wrong ETag, and indexes it once more.
   */
  readonly #crossed = new Set<string>()
  #excused = new Set<string>()
  readonly #calls: Calls = { made: 0, unusable: 0, needed: 0, idle: 0 }
  #deadLetters = 0
  #deaths = 0
  #nudges = 0
  #schedulers = 0
  #crash: unknown

  constructor(random: Random, stage: Stage, conditions: Conditions) {
    this.#random = random
    this.#stage = stage
    const clock = new Clock(this.#lookAround)
    this.#clock = clock
    this.#conditions = conditions
    const history = new History(() => clock.now())
    this.#history = history
    this.#trouble = new Trouble(random.of('trouble'), conditions.forecast, conditions.unruly)
    this.#world = new World(random.of('world'), stage, clock, history)
    this.#around = {
      clock,
      stage,
      history,
      listings: this.#listings,
      trouble: this.#trouble,
      settings: {
        collectionPrefix: 'memento_event_',
        workQueueUrl: stage.queueUrls.work,
        urgentQueueUrl: stage.queueUrls.urgent,
        maxFailedShare: 0,
        cleanupAfterHours: undefined,
        severalFaces: 'skip',
        convertPhotos: true,
        indexFacesTps: conditions.indexFacesTps,
        maxReceives: conditions.maxReceives,
      },
      onIndexFaces: this.#seeIndexFaces,
      onDatabase: this.#seeDatabase,
      onDeadLetters: (current, changed) => {
        if (changed <= current) return
        const promise = 'a dead letter older than its job changes nothing'
        this.#found.push({ promise, about: {}, found: `${changed} jobs changed for ${current} letters` })
      },
      onVisibility: (handle, seconds) => this.#mail.setVisibility(handle, seconds),
      onIndexed: this.#seeIndexed,
      onSent: this.#seeSent,
      onDeath: () => {
        this.#deaths++
      },
    }
    this.#mail = new Mail(this.#around, random.of('mail'), conditions.unruly)
  }

  async run({ attendees, events, minutes }: SimulationOptions): Promise<Outcome> {
    pauseBy(this.#clock)
    await this.#world.populate({ attendees, events, tame: false, meddles: !this.#conditions.strict })
    this.#trouble.begin(this.#clock.now())
    const over = () => this.#trouble.over
    const pace = (minutes * MINUTE) / (attendees * 2.5)
    this.#spawn(this.#world.live(over, pace))
    this.#spawn(this.#runSchedulers())
    this.#spawn(this.#sendPoison(minutes))
    this.#spawn(this.#replaySometimes())

    await this.#pass(minutes * MINUTE)
    this.#trouble.end()
    const restMinutes = await this.#comeToRest()
    const failedJobs = await this.#countJobs("state = 'failed'")
    if (this.#found.length === 0) this.#found.push(...(await violations(this.#stage, this.#world, false)))
    await this.#checkPoison()
    if (this.#found.length === 0) {
      await this.#world.uploadMissing()
      await this.#replay()
      await this.#comeToRest()
      if (this.#found.length === 0) this.#found.push(...(await violations(this.#stage, this.#world, true)))
    }
    return {
      violations: this.#found,
      history: this.#history,
      quiet: this.#conditions.strict,
      restMinutes,
      calls: this.#calls,
      changes: this.#world.changes,
      failedJobs,
      deaths: this.#deaths,
    }
  }

  async runOutage({ attendees, events, minutes }: OutageOptions): Promise<OutageOutcome> {
    pauseBy(this.#clock)
    await this.#world.populate({ attendees, events, tame: true, meddles: false })
    this.#trouble.begin(this.#clock.now())
    this.#spawn(this.#runSchedulers())
    await this.#pass(OUTAGE_FROM_MS)
    const openBefore = await this.#countJobs('ended_at is null')
    await this.#pass(minutes * MINUTE)
    this.#trouble.end()
    const openAfter = await this.#countJobs('ended_at is null')
    const toSettle = await this.#settle()
    const failedJobs = await this.#countJobs("state = 'failed'")
    let replay: OutageOutcome['replay']
    if (failedJobs > 0) {
      await this.#replay()
      const again = await this.#settle()
      replay = { minutes: again, failedJobs: await this.#countJobs("state = 'failed'") }
    }
    await this.#comeToRest()
    this.#found.push(...(await violations(this.#stage, this.#world, true)))
    return {
      violations: this.#found,
      attendees: await this.#countJobs('true'),
      openBefore,
      openAfter,
      minutes: toSettle,
      calls: this.#calls,
      deadLetters: this.#deadLetters,
      failedJobs,
      ...(replay && { replay }),
    }
  }

  /** Returns the minutes until every job and event has its end. */
  async #settle(): Promise<number> {
    const began = this.#clock.now()
    for (;;) {
      const { rows } = await this.#stage.sql.query(
        `select from indexing.face_jobs where ended_at is null
         union all select from indexing.event_runs where state = 'in_progress' limit 1`,
      )
      const minutes = (this.#clock.now() - began) / MINUTE
      if (rows.length === 0 || minutes > REST_BOUND_MINUTES) return minutes
      await this.#pass(1000)
    }
  }

  #spawn(actor: Promise<void>): void {
    actor.catch((error) => {
      this.#crash ??= error
    })
  }

  #pass(ms: number): Promise<void> {
    return this.#clock.advance(this.#clock.now() + ms)
  }

  #lookAround = async (aheadMs: number): Promise<void> => {
    if (this.#crash) throw this.#crash
    for (const event of this.#world.events) {
      const collection = `${this.#around.settings.collectionPrefix}${event}`
      this.#listings.take(collection, this.#clock.now(), this.#stage.rekognition.collection(collection))
    }
    const { nudges, unsettled } = await this.#stage.putAhead(aheadMs)
    this.#takeNudges(nudges)
    this.#checkSettling(unsettled)
  }

  /** Returns the minutes until nothing was left to do; what reconcile alone can find is waited for, too. */
  async #comeToRest(): Promise<number> {
    const began = this.#clock.now()
    let calm: number | undefined
    for (;;) {
      const open = await unrest(this.#stage)
      const minutes = (this.#clock.now() - began) / MINUTE
      const idle = open.length === 0 && this.#mail.idle && this.#world.idle
      if (idle) calm ??= minutes
      const left = idle ? await unnoticed(this.#stage, this.#world.unnoticedAt) : open
      if (idle && left.length === 0) return calm ?? minutes
      if (minutes > REST_BOUND_MINUTES) {
        for (const what of left) {
          const [, event, user] = /([0-9a-f-]{36})?(?:\/([0-9a-f-]{36}))?$/.exec(what) ?? []
          this.#found.push({
            promise: `at rest within ${REST_BOUND_MINUTES} minutes`,
            about: { event, user },
            found: what,
          })
        }
        if (left.length === 0)
          this.#found.push({ promise: 'no message is held for ever', about: {}, found: 'one is' })
        return minutes
      }
      await this.#pass(30_000)
    }
  }

  async #countJobs(where: string): Promise<number> {
    const { rows } = await this.#stage.sql.query<{ n: number }>(
      `select count(*)::int as n from indexing.face_jobs where ${where}`,
    )
    return rows[0]?.n ?? 0
  }

  /** The schedule, and while there is trouble others that run at the same time. */
  async #runSchedulers(): Promise<void> {
    for (let minute = 0; ; minute++) {
      const random = this.#random.of('schedule', minute)
      const regular = this.#trouble.over || !this.#conditions.unruly
      const sideBySide = regular ? 1 : random.pick([0, 1, 1, 1, 2, 3])
      for (let n = 0; n < sideBySide; n++) this.#schedule()
      await this.#clock.sleep(regular ? MINUTE : random.between(20_000, MINUTE))
    }
  }

  #invoke(name: string, act: (invocation: Invocation) => Promise<unknown>): void {
    const invocation = new Invocation(name, this.#around, SCHEDULER_SECONDS)
    act(invocation).catch(() => {}) // it failed or died: the next minute's run is its retry
  }

  #schedule(): void {
    this.#invoke(`scheduler ${++this.#schedulers}`, (invocation) =>
      invocation.run(async (parts) => {
        await invocation.readSecret()
        return schedule(DEFAULT_WINDOW_MINUTES, parts, invocation.remaining)
      }),
    )
  }

  /** What the triggers have asked for: lost, or answered by a run. */
  #takeNudges(count: number): void {
    for (let n = 0; n < count; n++) {
      const random = this.#random.of('nudge', ++this.#nudges)
      if (!this.#trouble.over && random.chance(0.75)) continue
      const request = { headers: { 'x-nudge-secret': SECRET } } as unknown as LambdaFunctionURLEvent
      this.#invoke(`nudge ${this.#nudges}`, (invocation) =>
        invocation.run((parts) => answerNudge(request, SECRET, async () => parts, invocation.remaining)),
      )
    }
  }

  async #sendPoison(minutes: number): Promise<void> {
    const uuid = this.#random.of('nobody').uuid()
    const bodies = [
      'not json',
      '{}',
      'null',
      JSON.stringify({ format: 2, event_id: uuid, user_id: uuid, version: 1 }),
      JSON.stringify({ format: 1, event_id: 'a', user_id: uuid, version: 1 }),
      JSON.stringify({ format: 1, event_id: uuid, user_id: uuid, version: 1 }), // of an event that never was: acknowledged
      `"${'x'.repeat(256 * 1024 - 2)}"`,
    ]
    for (const [n, body] of bodies.entries()) {
      const random = this.#random.of('poison', n)
      await this.#clock.sleep(random.between(0, (minutes * MINUTE) / bodies.length))
      await this.#clock.during(() =>
        this.#stage.sqs.send(
          new SendMessageCommand({ QueueUrl: this.#stage.queueUrls.work, MessageBody: body }),
        ),
      )
      if (!body.includes(`"format":1,"event_id":"${uuid}`)) this.#poison.push(body)
      this.#mail.wake()
    }
  }

  async #checkPoison(): Promise<void> {
    const { rows } = await this.#stage.sql.query<{ body: string }>('select body from indexing.dead_letters')
    const kept = rows.map(({ body }) => body).sort()
    if (JSON.stringify(kept) === JSON.stringify(this.#poison.sort())) return
    const short = (bodies: string[]) => bodies.map((body) => body.slice(0, 40)).join(' | ')
    this.#found.push({
      promise: 'what is no message of ours is kept as it came',
      about: {},
      found: `${short(kept)}, of ${short(this.#poison)}`,
    })
  }

  async #replaySometimes(): Promise<void> {
    for (let n = 0; ; n++) {
      await this.#clock.sleep(this.#random.of('replay', n).between(60_000, 200_000))
      if (this.#trouble.over) return
      await this.#replay()
    }
  }

  async #replay(): Promise<void> {
    const ids = await this.#clock.during(async () => {
      const { rows } = await this.#stage.sql.query<{ answer: { events: string[] } }>(
        'select public.indexing_replay() as answer',
      )
      return rows[0]?.answer.events ?? []
    })
    for (const event of ids) {
      this.#world.touched.add(event)
      this.#history.note({ event }, 'an operator replays what failed')
    }
  }

  #seeIndexFaces: Surroundings['onIndexFaces'] = ({ event, user, photo, begunAt, by }) => {
    this.#calls.made++
    const age = this.#clock.now() - begunAt
    if (age > OLDEST_CONSENT_MS)
      this.#found.push({
        promise: 'consent is read right before the call',
        about: { event, user },
        found: `${by} indexes ${photo} ${Math.round(age)} ms after it read what is wanted`,
      })
    if (this.#world.wantedSince(event, user, photo, begunAt)) return
    this.#found.push({
      promise: 'consent decides at the moment of the call',
      about: { event, user },
      found: `${by} indexes ${photo}, unwanted when it asked`,
    })
  }

  #seeIndexed: Surroundings['onIndexed'] = async ({ event, user, photo, imageId, version, found }) => {
    if (found === 'photo unusable') {
      this.#calls.unusable++
      return
    }
    // Of a face that the app put there by itself, only IndexFaces tells that it is of this photo.
    const ours = this.#isAgain(`IndexFaces ${event}/${user} ${photo} ${imageId}`)
    const held = found === 'held' && ours
    const crossed = this.#crossed.has(`${event}/${user} ${photo} ${imageId}`)
    if (this.#clock.now() - (this.#world.replacedAt.get(photo) ?? Number.NEGATIVE_INFINITY) < CROSSING_MS)
      this.#crossed.add(`${event}/${user} ${photo} ${imageId}`)
    this.#calls[held ? 'idle' : 'needed']++
    const again = this.#isAgain(`IndexFaces ${event}/${user} ${photo} ${imageId} ${version}`)
    if (this.#isStrict && !crossed && (held || again))
      this.#found.push({
        promise: 'one IndexFaces call per attendee and photo',
        about: { event, user },
        found: `another for ${photo}${held ? ', whose face was there' : ''}`,
      })
    if (!this.#trouble.over && this.#random.of('waver', event, user, photo, version).chance(0.2))
      await this.#world.waver(event, user)
  }

  #seeSent: Surroundings['onSent'] = (bodies) => {
    this.#mail.wake()
    for (const body of bodies)
      if (this.#isAgain(body) && this.#isStrict)
        this.#found.push({ promise: 'a message is sent once', about: aboutOf(body), found: `again ${body}` })
  }

  /** On a machine so slow that an invocation's time was up, messages and calls may be repeated. */
  get #isStrict(): boolean {
    return this.#conditions.strict && this.#deaths === 0
  }

  #isAgain(what: string): boolean {
    const again = this.#once.has(what)
    this.#once.add(what)
    return again
  }

  #seeDatabase: Surroundings['onDatabase'] = (name, args, answer) => {
    if (name === 'lease')
      for (const job of (answer as { jobs: (Attendee & { action: string })[] }).jobs)
        if (job.action === 'act') this.#world.busy.add(attendeeKey(job))
    if (name === 'fail_dead_letters') this.#deadLetters += (args.letters as unknown[]).length
    if (name === 'complete')
      for (const result of args.results as Attendee[]) this.#world.busy.delete(attendeeKey(result))
    if (name !== 'claim') return
    for (const event of (answer as { events: string[] }).events) {
      const claims = (this.#claims.get(event) ?? 0) + 1
      this.#claims.set(event, claims)
      const offers = this.#world.offers.get(event) ?? 0
      if (claims > offers)
        this.#found.push({ promise: 'an event is claimed once', about: { event }, found: `${claims} claims` })
    }
  }

  /** The transaction that ends an event's last job settles the event, unless the app holds the event's row: then the next rescue does. */
  #checkSettling(unsettled: string[]): void {
    for (const event of [...this.#world.touched, ...this.#world.heldEvents()]) this.#excused.add(event)
    this.#world.touched.clear()
    for (const event of unsettled) {
      if (this.#excused.has(event)) continue
      this.#excused.add(event)
      const promise = 'whoever ends the last job settles the event'
      this.#found.push({ promise, about: { event }, found: 'all its jobs have ended, and it is in progress' })
    }
    this.#excused = new Set([...this.#excused].filter((event) => unsettled.includes(event)))
  }
}

function aboutOf(body: string): { event: string; user: string } {
  const { event_id, user_id } = readMessage(body)
  return { event: event_id, user: user_id }
}
