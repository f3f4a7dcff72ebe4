import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { ErrorName } from '../../local/rekognition/errors.ts'
import { openStage, type Stage } from '../support/stage.ts'

let stage: Stage
beforeAll(async () => {
  stage = await openStage()
})
afterEach(() => stage.rekognition.setFaults(undefined))
afterAll(() => stage.close())

interface Job {
  state: string
  reason: string | null
  error: string | null
  index_calls: number
}

async function jobOf(event: string, user: string): Promise<Job | undefined> {
  const [job] = await stage.sql<Job>(
    'select state, reason, error, index_calls from indexing.face_jobs where (event_id, user_id) = ($1, $2)',
    [event, user],
  )
  return job
}

/** An event with one attendee, after a scheduler's run and one pass of a worker. */
async function afterOnePass(photo?: string | null, forMs?: number) {
  const event = await stage.createEvent()
  const user = await stage.createAttendee(event, photo === undefined ? {} : { photo })
  await stage.runScheduler()
  const messages = await stage.receive()
  const outcomes = await stage.runWorker(messages, stage.parts, forMs)
  return { event, user, messages, outcomes, job: await jobOf(event, user) }
}

/** Rekognition fails a call of IndexFaces in this way, the first `times`. */
function failIndexFaces(
  error: ErrorName,
  times = Number.POSITIVE_INFINITY,
  strikes: 'before' | 'after' = 'before',
) {
  let left = times
  stage.rekognition.setFaults(({ operation }) =>
    operation === 'IndexFaces' && left-- > 0 ? { type: 'error', strikes, error } : undefined,
  )
}

describe('an attendee ends as skipped, and the event as completed, when the photo', () => {
  it.each([
    ['is not there', null, 'no_photo'],
    ['is an old URL', 'https://old.example/avatars/1.jpg', 'photo_is_url'],
    ['has a path longer than a key may be', `photos/${'é'.repeat(600)}.jpg`, 'photo_path_too_long'],
  ])('%s, without a call', async (_, photo, reason) => {
    const before = stage.indexCalls()
    const { event, job } = await afterOnePass(photo)
    expect(job).toMatchObject({ state: 'skipped', reason, index_calls: 0 })
    expect(stage.indexCalls()).toBe(before)
    expect(await stage.statusOf(event)).toBe('completed')
  })

  it.each([
    ['shows no face', 'no-face', 'no_face'],
    ['shows a blurred face', 'blurred face', 'face_blurred'],
    ['is a text file', 'not-an-image', 'photo_format'],
  ])('%s', async (_, content, reason) => {
    const { event, job } = await afterOnePass(await stage.upload(content))
    expect(job).toMatchObject({ state: 'skipped', reason, index_calls: 1 })
    expect(await stage.statusOf(event)).toBe('completed')
  })

  it.each([
    ['has too many pixels', 'ImageTooLargeException', 'photo_dimensions'],
    ['is smaller than 80 pixels', 'InvalidParameterException', 'photo_refused'],
  ] as const)('%s', async (_, error, reason) => {
    failIndexFaces(error)
    const { event, job } = await afterOnePass()
    expect(job).toMatchObject({ state: 'skipped', reason, index_calls: 1 })
    expect(await stage.statusOf(event)).toBe('completed')
  })
})

describe('what passes by itself is tried again within the pass:', () => {
  it.each(['ThrottlingException', 'ProvisionedThroughputExceededException', 'InternalServerError'] as const)(
    '%s',
    async (error) => {
      failIndexFaces(error, 2)
      const { event, job } = await afterOnePass()
      expect(job).toMatchObject({ state: 'indexed', error: null, index_calls: 3 })
      expect(await stage.statusOf(event)).toBe('completed')
    },
  )

  it('a call that was done although it answered 5xx makes no second face', async () => {
    failIndexFaces('InternalServerError', 1, 'after')
    const { event, user, job } = await afterOnePass()
    expect(job?.state).toBe('indexed')
    expect(stage.facesOf(event)?.map((face) => face.user)).toEqual([user])
  })
})

describe('what does not pass', () => {
  it('throttling is waited out, goes back to the outbox when the time is up, and the message is not counted', async () => {
    failIndexFaces('ThrottlingException')
    const before = stage.indexCalls()
    const { job, outcomes, event } = await afterOnePass(undefined, 16_000) // of which a worker keeps 15 s for its end
    expect(stage.indexCalls()).toBeGreaterThan(before + 1)
    expect(outcomes).toMatchObject([{ status: 'fulfilled' }])
    expect(job).toMatchObject({ state: 'queued', reason: 'throttled' })
    stage.rekognition.setFaults(undefined)
    await stage.comeToRest()
    expect(await stage.statusOf(event)).toBe('completed')
  })

  it.each([
    ['InternalServerError', 'unavailable'],
    ['AccessDeniedException', 'denied'],
    ['InvalidS3ObjectException', 'photo_unreadable'],
  ] as const)('(%s) comes again through the queue, its error in the ledger', async (error, reason) => {
    failIndexFaces(error)
    const { event, job, outcomes } = await afterOnePass()
    expect(outcomes).toMatchObject([{ status: 'rejected' }])
    expect(job).toMatchObject({ state: 'sent', reason })
    expect(job?.error).toContain(error)
    expect(await stage.statusOf(event)).toBe('in_progress')
    stage.rekognition.setFaults(undefined)
    await stage.comeToRest()
    expect(await stage.statusOf(event)).toBe('completed')
  })

  it('a call without an answer keeps everybody off the attendee until it can no longer land', async () => {
    let hung = false
    stage.rekognition.setFaults(({ operation }) => {
      if (operation !== 'IndexFaces' || hung) return undefined
      hung = true
      return { type: 'drop', strikes: 'after' }
    })
    const { event, user, job } = await afterOnePass()
    expect(job).toMatchObject({ state: 'running', reason: 'unclear' })
    const again = await stage.receive()
    await stage.runWorker(again)
    expect(await jobOf(event, user)).toMatchObject({ state: 'running', index_calls: 1 })
    await stage.comeToRest()
    expect(await jobOf(event, user)).toMatchObject({ state: 'indexed' })
    expect(stage.facesOf(event)).toHaveLength(1)
  })
})

describe('a collection that somebody deleted', () => {
  it('is made anew, and everybody who was in it is indexed again', async () => {
    const event = await stage.createEvent()
    const users = [await stage.createAttendee(event), await stage.createAttendee(event)]
    await stage.comeToRest()
    const { DeleteCollectionCommand } = await import('@aws-sdk/client-rekognition')
    await stage.parts.rekognition.send(
      new DeleteCollectionCommand({ CollectionId: `memento_event_${event}` }),
    )
    users.push(await stage.createAttendee(event))
    await stage.comeToRest()
    expect(
      stage
        .facesOf(event)
        ?.map((face) => face.user)
        .toSorted(),
    ).toEqual(users.toSorted())
  })
})

describe('a message', () => {
  it('that is delivered three times costs one call', async () => {
    const { messages, event, user } = await afterOnePass()
    await stage.runWorker(messages)
    await stage.runWorker([...messages, ...messages])
    expect(await jobOf(event, user)).toMatchObject({ state: 'indexed', index_calls: 1 })
  })

  it('that cannot be read fails alone in its batch', async () => {
    const event = await stage.createEvent()
    const user = await stage.createAttendee(event)
    await stage.send('{"hello": "world"}')
    await stage.runScheduler()
    const messages = await stage.receive()
    const outcomes = await stage.runWorker(messages)
    const failed = messages.filter((_, index) => outcomes[index]?.status === 'rejected')
    expect(messages).toHaveLength(2)
    expect(failed.map(({ Body }) => Body)).toEqual(['{"hello": "world"}'])
    expect(await jobOf(event, user)).toMatchObject({ state: 'indexed' })
    await stage.discardMessages()
  })

  it('for an event that never was is acknowledged', async () => {
    const nobody = '00000000-0000-4000-8000-000000000000'
    await stage.send(JSON.stringify({ format: 1, event_id: nobody, user_id: nobody, version: 1 }))
    const outcomes = await stage.runWorker(await stage.receive())
    expect(outcomes).toMatchObject([{ status: 'fulfilled' }])
  })
})

describe('an event', () => {
  it('that is set back to pending by hand is claimed anew and costs no further call', async () => {
    const event = await stage.createEvent()
    await stage.createAttendee(event)
    await stage.comeToRest()
    const before = stage.indexCalls()
    await stage.sql(`update events set indexing_status = 'pending' where event_id = $1`, [event])
    await stage.comeToRest()
    expect(await stage.statusOf(event)).toBe('completed')
    expect(stage.indexCalls()).toBe(before)
    expect(stage.facesOf(event)).toHaveLength(1)
  })

  it('with nobody who consents gets its collection and completes', async () => {
    const event = await stage.createEvent()
    await stage.createAttendee(event, { consents: false })
    await stage.runScheduler()
    expect(await stage.statusOf(event)).toBe('completed')
    expect(stage.facesOf(event)).toEqual([])
  })

  it('whose collection cannot be made fails, with the reason, after ten attempts', async () => {
    const event = await stage.createEvent()
    await stage.createAttendee(event)
    stage.rekognition.setFaults(({ operation }) =>
      operation === 'CreateCollection'
        ? { type: 'error', strikes: 'before', error: 'AccessDeniedException' }
        : undefined,
    )
    for (let attempt = 0; attempt < 11; attempt++) {
      await stage.timePasses()
      await stage.runScheduler()
    }
    expect(await stage.statusOf(event)).toBe('failed')
    const [run] = await stage.sql(
      'select reason, collection_error from indexing.event_runs where event_id = $1',
      [event],
    )
    expect(run).toMatchObject({
      reason: 'collection_failed',
      collection_error: expect.stringContaining('AccessDenied'),
    })
  })

  it('that is deactivated while it is indexed takes no further face, and takes them when it is active again', async () => {
    const event = await stage.createEvent()
    await stage.createAttendee(event)
    await stage.runScheduler()
    await stage.sql('update events set is_active = false where event_id = $1', [event])
    const before = stage.indexCalls()
    await stage.runWorker(await stage.receive())
    expect(stage.indexCalls()).toBe(before)
    expect(await stage.statusOf(event)).toBe('completed')
    await stage.sql('update events set is_active = true where event_id = $1', [event])
    await stage.comeToRest()
    expect(await stage.statusOf(event)).toBe('completed')
    expect(stage.facesOf(event)).toHaveLength(1)
  })
})
