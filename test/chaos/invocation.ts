import type { RekognitionClient } from '@aws-sdk/client-rekognition'
import {
  ChangeMessageVisibilityBatchCommand,
  type SendMessageBatchCommand,
  type SendMessageBatchCommandOutput,
} from '@aws-sdk/client-sqs'
import { isError } from '../../src/core/collection.ts'
import { type PhotoStore, PhotoStoreError } from '../../src/core/photo-store.ts'
import type { SchedulerParts } from '../../src/scheduler/scheduler.ts'
import { classify, type FailureKind } from '../../src/worker/failure.ts'
import type { WorkerParts } from '../../src/worker/worker.ts'
import type { Clock } from './clock.ts'
import type { History } from './history.ts'
import type { DatabaseLine, Fetch } from './line.ts'
import type { Listings } from './listings.ts'
import type { Stage } from './stage.ts'
import type { Plan, Service, Trouble } from './trouble.ts'

/** What the functions are given. */
export type FunctionParts = WorkerParts & SchedulerParts

/** What invocations share. */
export interface Surroundings {
  clock: Clock
  stage: Stage
  trouble: Trouble
  history: History
  listings: Listings
  settings: FunctionParts['settings']
  /** Told of each IndexFaces call before it is sent, and when the worker last read the desired state. */
  onIndexFaces: (call: { event: string; user: string; photo: string; begunAt: number; by: string }) => void
  /** Told of each that landed and was not refused. */
  onIndexed: (call: {
    event: string
    user: string
    photo: string
    /** Of what the photo shows. */
    imageId: string | undefined
    version: number
    /** `held`: the collection held the face, indexed from this photo, before it. */
    found: 'face' | 'held' | 'photo unusable'
  }) => Promise<void>
  /** Told of each database function whose transaction has been made, with its answer. */
  onDatabase: (name: string, args: Record<string, unknown>, answer: unknown) => void
  /** Told of dead letters: how many were not older than their jobs, and how many jobs they changed. */
  onDeadLetters: (current: number, changed: number) => void
  /** Told of each message's visibility that a worker sets. */
  onVisibility: (receiptHandle: string, seconds: number) => void
  /** Told of each message that SQS took. */
  onSent: (bodies: string[]) => void
  onDeath: () => void
}

const PATIENCE_MS: Record<Service, number> = {
  database: 10_000,
  rekognition: 10_000,
  s3: 10_000,
  sqs: 5_000,
  secret: 5_000,
}

const PHOTO_FAILURES: ReadonlySet<FailureKind> = new Set(['photo_unreadable', 'photo_unusable'])

export class Died extends Error {
  override name = 'Died'
}

const never = () => new Promise<never>(() => {})

/**
 * One invocation of a function: what it calls, through a network in trouble, and its death, after which no call of it is made
 * or answered any more.
 */
export class Invocation {
  readonly name: string
  readonly #around: Surroundings
  readonly #deadline: number
  readonly #counts = new Map<string, number>()
  readonly #ended = new AbortController()
  readonly #line: DatabaseLine
  #dead = false
  #die: (error: Died) => void = () => {}
  #begunAt = 0
  readonly #versions = new Map<string, number>() // of the jobs that it was given, by `event/user`

  constructor(name: string, around: Surroundings, timeoutSeconds: number) {
    this.name = name
    this.#around = around
    this.#deadline = around.clock.now() + timeoutSeconds * 1000
    this.#line = around.stage.lines.take(this.fetch)
  }

  remaining = () => this.#deadline - this.#around.clock.now()

  get dead(): boolean {
    return this.#dead
  }

  parts(): FunctionParts {
    const { stage, settings } = this.#around
    return {
      settings,
      database: this.#line.database,
      rekognition: Object.assign(Object.create(stage.rekognitionClient), { send: this.#sendToRekognition }),
      sqs: Object.assign(Object.create(stage.sqs), { send: this.#sendToSqs }),
      photos: this.#photos(),
    }
  }

  /**
   * Runs the function, until its end or the host's timeout.
   * @throws {Died} and whatever the function throws
   */
  async run<T>(act: (parts: FunctionParts) => Promise<T>): Promise<T> {
    const death = new Promise<never>((_, reject) => {
      this.#die = reject
    })
    this.#around.clock.sleep(this.remaining(), this.#ended.signal).then(() => this.#dieOf('timed out'))
    try {
      return await Promise.race([act(this.parts()), death])
    } finally {
      this.#ended.abort()
      if (!this.#dead) this.#around.stage.lines.giveBack(this.#line)
    }
  }

  /** Reads the key of the database, as a new container does before anything else. @throws {Error} when it can't */
  readSecret(): Promise<void> {
    return this.#call('secret', 'GetParameters', async ({ error }) => {
      if (error) throw new Error(`SSM: ${error.name}`)
    })
  }

  #dieOf(cause: string): void {
    if (this.#dead || this.#ended.signal.aborted) return
    this.#dead = true
    this.#around.history.note({}, `${this.name} ${cause}`)
    this.#around.onDeath()
    this.#die(new Died(cause))
  }

  /** One call over the network, as it is planned for its name. */
  async #call<T>(service: Service, name: string, perform: (plan: Plan) => Promise<T>): Promise<T> {
    if (this.#dead) return never()
    const { clock, trouble } = this.#around
    const nth = (this.#counts.get(`${service} ${name}`) ?? 0) + 1
    this.#counts.set(`${service} ${name}`, nth)
    const plan = trouble.plan(service, clock.now(), PATIENCE_MS[service], [this.name, name, nth])
    if (plan.diesAfterMs !== undefined) {
      clock.sleep(plan.diesAfterMs, this.#ended.signal).then(() => this.#dieOf(`was killed during ${name}`))
    }

    const answered = new AbortController()
    const answer = this.#transmit(plan, perform)
    const patience = clock.sleep(PATIENCE_MS[service], answered.signal).then(() => {
      throw Object.assign(new Error(`no answer within ${PATIENCE_MS[service]} ms`), { name: 'TimeoutError' })
    })
    try {
      const result = await Promise.race([answer, patience])
      return this.#dead ? never() : result
    } catch (error) {
      if (this.#dead) return never()
      throw error
    } finally {
      answered.abort()
      answer.catch(() => {}) // that of a call whose caller has given up
    }
  }

  async #transmit<T>(plan: Plan, perform: (plan: Plan) => Promise<T>): Promise<T> {
    const { clock } = this.#around
    const broken = () => Object.assign(new TypeError('fetch failed'), { code: 'ECONNRESET' })
    await clock.sleep(plan.thereMs)
    if (plan.drop === 'before') throw broken()
    const answer = await clock.during(() => perform(plan))
    await clock.sleep(plan.backMs)
    if (plan.drop === 'after') throw broken()
    return answer
  }

  #photos(): PhotoStore {
    const { photos } = this.#around.stage
    const over = <T>(name: string, perform: () => Promise<T>) =>
      this.#call('s3', name, async ({ error }) => {
        if (error) throw new PhotoStoreError(503, 'S3 answered 503')
        return perform()
      })
    return {
      bucket: photos.bucket,
      look: (key) => over(`look ${key}`, () => photos.look(key)),
      read: (key, maxBytes) => over(`read all of ${key}`, () => photos.read(key, maxBytes)),
      readStart: (key, bytes) => over(`read ${key}`, () => photos.readStart(key, bytes)),
    }
  }

  /** Stands for `fetch`: the request of a database function. */
  readonly fetch: Fetch = (url, init) => {
    const { stage, onDatabase, onDeadLetters, clock } = this.#around
    const name = url.replace(/^.*\/indexing_/, '')
    const args = JSON.parse(String(init?.body)) as Record<string, unknown>
    let askedAt = 0
    const answered = this.#call('database', name, async ({ error }) => {
      const unavailable = () => new Response('{"message": "upstream is away"}', { status: 503 })
      if (error?.strikes === 'before') return unavailable()
      askedAt = clock.now()
      const current = name === 'fail_dead_letters' ? await stage.currentOf(args.letters) : 0
      const response = await fetch(`${stage.gateway.url}/rest/v1/rpc/indexing_${name}`, {
        ...init,
        signal: null,
      })
      const body = await response.text()
      if (response.ok) {
        const answer: unknown = body === '' ? null : JSON.parse(body)
        this.#note(name, args, answer)
        onDatabase(name, args, answer)
        if (name === 'fail_dead_letters') {
          const { failed, requeued } = answer as { failed: number; requeued: number }
          onDeadLetters(current, failed + requeued)
        }
      }
      if (error) return unavailable()
      const { status, headers } = response
      return new Response(status === 204 ? null : body, { status, headers })
    })
    return answered.then((response) => {
      if (name === 'lease' || name === 'refresh') this.#begunAt = askedAt
      return response
    })
  }

  #note(name: string, args: Record<string, unknown>, answer: unknown): void {
    const { history } = this.#around
    const say = (item: Record<string, unknown>) => {
      const { event_id, user_id, ...rest } = item
      history.note(
        { event: event_id as string, user: user_id as string | undefined },
        `${this.name} ${name}: ${JSON.stringify(rest)}`,
      )
    }
    const list = (value: unknown) => (Array.isArray(value) ? value : []) as Record<string, unknown>[]
    if (name === 'lease')
      for (const { event_id, user_id, version } of list((answer as { jobs?: unknown }).jobs))
        this.#versions.set(`${event_id}/${user_id}`, Number(version))
    if (name === 'lease' || name === 'take_send_batch')
      for (const job of list((answer as { jobs?: unknown }).jobs)) say(job)
    if (name === 'complete') for (const item of [...list(args.results), ...list(answer)]) say(item)
    if (name === 'fail_dead_letters') for (const letter of list(args.letters)) say({ ...letter, answer })
    if (name === 'collections_done') for (const item of list(args.results)) say({ ...item, answer })
    if (name === 'claim') for (const id of (answer as { events: string[] }).events) say({ event_id: id })
  }

  #sendToRekognition = (command: Parameters<RekognitionClient['send']>[0]) => {
    const { stage, clock, history, listings, onIndexFaces, onIndexed, settings } = this.#around
    const operation = command.constructor.name.replace(/Command$/, '')
    const input = command.input as {
      CollectionId: string
      ExternalImageId?: string
      Image?: { S3Object?: { Name?: string } }
      FaceIds?: string[]
    }
    const event = input.CollectionId.slice(settings.collectionPrefix.length)
    const user = input.ExternalImageId
    const photo = input.Image?.S3Object?.Name ?? ''
    const about = { event, user }
    if (operation === 'IndexFaces' && user && !this.#dead)
      onIndexFaces({ event, user, photo, begunAt: this.#begunAt, by: this.name })
    const key = [operation, event, user ?? input.FaceIds?.join() ?? ''].join(' ')
    return this.#call('rekognition', key, async ({ error, lagMs = 0 }) => {
      if (error) stage.failNext(operation, input, error)
      const seen = stage.imageIds.get(photo)
      const held = stage.rekognition
        .collection(input.CollectionId)
        ?.some(
          ({ externalImageId, imageKey, imageId }) =>
            externalImageId === user && imageKey === photo && imageId === seen,
        )
      const tell = async (found: 'face' | 'held' | 'photo unusable') => {
        const version = this.#versions.get(`${event}/${user}`) ?? 0
        if (operation === 'IndexFaces' && user)
          await onIndexed({ event, user, photo, imageId: seen, version, found })
      }
      try {
        const answer = await stage.rekognitionClient.send(command)
        const then =
          operation === 'ListFaces' && lagMs > 0 && listings.at(input.CollectionId, clock.now() - lagMs)
        const late = then ? `, ${lagMs} ms behind` : ''
        history.note(about, `${this.name} ${operation} ${photo}${input.FaceIds?.join() ?? ''} landed${late}`)
        if (then)
          return {
            Faces: then.map((face) => ({ FaceId: face.faceId, ExternalImageId: face.externalImageId })),
          }
        await tell(held ? 'held' : 'face')
        return answer
      } catch (failure) {
        if (PHOTO_FAILURES.has(classify(failure).kind)) await tell('photo unusable')
        else if (error?.strikes === 'after' && isError(failure, error.name))
          await tell(held ? 'held' : 'face')
        history.note(about, `${this.name} ${operation} ${photo}: ${String(failure)}`)
        throw failure
      }
    })
  }

  #sendToSqs = (command: SendMessageBatchCommand | ChangeMessageVisibilityBatchCommand) => {
    const { stage, onVisibility, onSent } = this.#around
    if (command instanceof ChangeMessageVisibilityBatchCommand) {
      const entries = command.input.Entries ?? []
      return this.#call('sqs', 'ChangeMessageVisibilityBatch', async ({ error }) => {
        if (error?.strikes === 'before') throw new Error('ServiceUnavailable')
        for (const { ReceiptHandle, VisibilityTimeout } of entries)
          if (ReceiptHandle) onVisibility(ReceiptHandle, VisibilityTimeout ?? 0)
        return { Successful: [], Failed: [] }
      })
    }
    return this.#call(
      'sqs',
      'SendMessageBatch',
      async ({ error }): Promise<Partial<SendMessageBatchCommandOutput>> => {
        // An error takes a part of the batch: what SQS took of it, it has.
        const all = command.input.Entries ?? []
        const refused = error
          ? all.filter((_, index) => index % 2 === (error.strikes === 'before' ? 0 : 1))
          : []
        const taken = all.filter((entry) => !refused.includes(entry))
        if (taken.length > 0) {
          command.input.Entries = taken
          await stage.sqs.send(command)
          onSent(taken.map(({ MessageBody = '' }) => MessageBody))
        }
        return {
          Failed: refused.map(({ Id }) => ({
            Id,
            SenderFault: false,
            Code: 'InternalError',
            Message: 'a fault',
          })),
        }
      },
    )
  }
}
