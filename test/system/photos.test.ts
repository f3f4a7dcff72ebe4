import { SearchFacesByImageCommand } from '@aws-sdk/client-rekognition'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { REASONS } from '../../cli/reasons.ts'
import type { ErrorName } from '../../local/rekognition/errors.ts'
import { openStage, type Stage } from '../support/stage.ts'

// Photos as they really are, through the whole system: scheduler, queue, worker, bucket and Rekognition.

let stage: Stage
beforeAll(async () => {
  stage = await openStage()
})
afterEach(() => stage.rekognition.setFaults(undefined))
afterAll(() => stage.close())

const MAX_RECEIVES = 5

/** An event of one attendee with this photo and a bystander, after a scheduler's run and a worker's pass. */
async function eventWith(content?: string | Uint8Array) {
  const event = await stage.createEvent()
  const key = await stage.upload(content)
  const user = await stage.createAttendee(event, { photo: key })
  const bystander = await stage.createAttendee(event)
  await stage.follow()
  return { event, user, bystander, key }
}

/** What the app does to replace a photo: it deletes the object, uploads another, and names the same key. */
async function replaceInPlace(user: string, key: string, content?: string): Promise<void> {
  await stage.deleteObject(key)
  await stage.upload(content, key)
  await stage.sql('update profiles set photo_path = $2 where user_id = $1', [user, key])
}

const jobOf = async (event: string, user: string) =>
  (
    await stage.sql<{ state: string; reason: string | null; error: string | null; index_calls: number }>(
      'select state, reason, error, index_calls from indexing.face_jobs where (event_id, user_id) = ($1, $2)',
      [event, user],
    )
  )[0]

const faceOf = (event: string, user: string) => stage.facesOf(event)?.filter((face) => face.user === user)

/** Whom the app finds in the event's collection by a picture. */
async function peopleFound(event: string, picture: string): Promise<(string | undefined)[]> {
  const { FaceMatches = [] } = await stage.parts.rekognition.send(
    new SearchFacesByImageCommand({
      CollectionId: stage.parts.settings.collectionPrefix + event,
      Image: { Bytes: Buffer.from(picture) },
    }),
  )
  return FaceMatches.map(({ Face }) => Face?.ExternalImageId)
}

async function expectTheCollectionToBeRight(event: string): Promise<void> {
  const faces = stage.facesOf(event)?.sort((one, other) => String(one.user).localeCompare(String(other.user)))
  expect(faces).toEqual(await stage.wantedFacesOf(event))
}

describe('a photo that is replaced under the same key', () => {
  it('has its new face in and the old one out with the run that the confirmation brings', async () => {
    const { event, user, key } = await eventWith()
    const [before] = faceOf(event, user) ?? []
    await replaceInPlace(user, key)
    await stage.follow()
    expect(faceOf(event, user)).toHaveLength(1)
    expect(faceOf(event, user)?.[0]?.content).not.toBe(before?.content)
    await expectTheCollectionToBeRight(event)
    expect(await stage.statusOf(event)).toBe('completed')
  })

  it('is indexed although the one before it showed no face', async () => {
    const { event, user, key } = await eventWith('no-face')
    expect(await jobOf(event, user)).toMatchObject({ state: 'skipped', reason: 'no_face' })
    await replaceInPlace(user, key)
    await stage.follow()
    expect(await jobOf(event, user)).toMatchObject({ state: 'indexed', reason: null })
    expect(faceOf(event, user)).toHaveLength(1)
  })

  it('costs no call when the object is the same', async () => {
    const { event, user, key } = await eventWith('the same face')
    const before = stage.indexCalls()
    await replaceInPlace(user, key, 'the same face')
    await stage.follow()
    expect(stage.indexCalls()).toBe(before)
    expect(await jobOf(event, user)).toMatchObject({ state: 'indexed' })
  })
})

describe('a photo that is not uploaded', () => {
  it('lets an event of five complete without it, at five calls a second', async () => {
    const settings = stage.parts.settings
    stage.parts.settings = { ...settings, indexFacesTps: 5, maxReceives: MAX_RECEIVES }
    stage.rekognition.setQuota({ IndexFaces: 5 })
    try {
      const event = await stage.createEvent()
      for (let n = 0; n < 4; n++) await stage.createAttendee(event)
      const user = await stage.createAttendee(event, { photo: 'profiles/u-onboarding' })
      await stage.follow()
      await stage.secondsPass(10)
      await stage.follow()
      expect(await stage.statusOf(event)).toBe('completed')
      expect(stage.facesOf(event)).toHaveLength(4)
      expect(await jobOf(event, user)).toMatchObject({ state: 'skipped', reason: 'photo_missing' })
    } finally {
      stage.parts.settings = settings
      stage.rekognition.setQuota({})
    }
  })
})

describe('an event that has failed', () => {
  /** Rekognition denies IndexFaces for one of two attendees until their job has failed by its dead letter. */
  async function failedEvent() {
    const event = await stage.createEvent()
    const user = await stage.createAttendee(event)
    await stage.createAttendee(event)
    stage.rekognition.setFaults((call) =>
      call.operation === 'IndexFaces' && call.input.ExternalImageId === user
        ? { type: 'error', strikes: 'before', error: 'AccessDeniedException' }
        : undefined,
    )
    await stage.follow()
    const [letter] = await stage.sql<{ version: number }>(
      'select version from indexing.face_jobs where (event_id, user_id) = ($1, $2)',
      [event, user],
    )
    await stage.discardMessages()
    await stage.parts.database.fail_dead_letters({
      letters: [{ event_id: event, user_id: user, version: letter?.version ?? 0 }],
    })
    stage.rekognition.setFaults(undefined)
    expect(await stage.statusOf(event)).toBe('failed')
    return { event, user }
  }

  it.each<[string, (event: string, user: string) => Promise<unknown>, string, number]>([
    [
      'the attendee changes to another photo',
      async (_event, user) =>
        stage.sql('update profiles set photo_path = $2 where user_id = $1', [user, await stage.upload()]),
      'indexed',
      2,
    ],
    [
      'the attendee revokes',
      (event, user) =>
        stage.sql(
          'update event_consents set allow_recognition = false where (event_id, user_id) = ($1, $2)',
          [event, user],
        ),
      'erased',
      1,
    ],
    ['five minutes pass', () => stage.secondsPass(301), 'indexed', 2],
  ])('is completed when %s', async (_what, heal, state, faces) => {
    const { event, user } = await failedEvent()
    await heal(event, user)
    await stage.follow()
    expect(await jobOf(event, user)).toMatchObject({ state })
    expect(stage.facesOf(event)).toHaveLength(faces)
    expect(await stage.statusOf(event)).toBe('completed')
  })
})

describe('a photo of several people', () => {
  it('is skipped when a friend is about as large, nobody of it stays, and the attendee is told', async () => {
    const { event, user } = await eventWith('faces:me@0.30,friend@0.28')
    expect(await jobOf(event, user)).toMatchObject({ state: 'skipped', reason: 'several_faces' })
    expect(faceOf(event, user)).toEqual([])
    expect(REASONS.several_faces?.toAttendee).toMatch(/./)
    expect(await stage.statusOf(event)).toBe('completed')
  })

  it('leaves nobody of it either when the friend in front is of better quality', async () => {
    const { event, user } = await eventWith('faces:poor me@0.30,friend@0.29')
    expect(await jobOf(event, user)).toMatchObject({ state: 'skipped', reason: 'several_faces' })
    expect(faceOf(event, user)).toEqual([])
  })

  it('has the owner’s face when the other is small, whichever Rekognition would keep', async () => {
    const { event, user } = await eventWith('faces:poor me@0.40,bystander@0.05')
    expect(await jobOf(event, user)).toMatchObject({ state: 'indexed' })
    expect(await peopleFound(event, 'poor me')).toEqual([user])
    expect(await peopleFound(event, 'bystander')).toEqual([])
  })
})

describe('a photo_path that is no key', () => {
  it.each([
    ['   ', 'no_photo'],
    ['\t\n', 'no_photo'],
    [' https://old.example/1.jpg', 'photo_is_url'],
    ['//cdn.example/1.jpg', 'photo_is_url'],
    ['s3://bucket/1.jpg', 'photo_is_url'],
    ['data:image/png;base64,AAAA', 'photo_is_url'],
  ])('%j skips its attendee as %s, and the event completes', async (path, reason) => {
    const event = await stage.createEvent()
    const user = await stage.createAttendee(event, { photo: path })
    await stage.createAttendee(event)
    await stage.follow()
    expect(await jobOf(event, user)).toMatchObject({ state: 'skipped', reason, index_calls: 0 })
    expect(await stage.statusOf(event)).toBe('completed')
  })

  it('but for the white space around it is that key', async () => {
    const event = await stage.createEvent()
    const key = await stage.upload()
    const user = await stage.createAttendee(event, { photo: ` ${key}\n` })
    await stage.follow()
    expect(faceOf(event, user)).toMatchObject([{ photo: key }])
  })
})

describe('a photo that Rekognition cannot take is named for what it is', () => {
  const ftyp = (brand: string) => Buffer.from(`\0\0\0\x18ftyp${brand}\0\0\0\0mif1`, 'latin1')
  it.each<[string, Uint8Array, ErrorName, string, RegExp]>([
    [
      'a JPEG that was cut off',
      Buffer.from('ffd8ffe000104a464946', 'hex'),
      'InvalidImageFormatException',
      'photo_damaged',
      /damaged/,
    ],
    [
      'a PNG of 30,000 × 30,000 pixels',
      Buffer.from('89504e470d0a1a0a0000000d', 'hex'),
      'ImageTooLargeException',
      'photo_dimensions',
      /pixels/,
    ],
    ['a HEIC', ftyp('heic'), 'InvalidImageFormatException', 'photo_heic', /HEIC.*screenshot/],
    [
      'a WebP',
      Buffer.from('RIFF\x10\0\0\0WEBPVP8 ', 'latin1'),
      'InvalidImageFormatException',
      'photo_webp',
      /WebP.*JPEG/,
    ],
    ['a text', Buffer.from('Dear Sir or Madam'), 'InvalidImageFormatException', 'photo_format', /JPEG/],
  ])('%s', async (_what, bytes, error, reason, words) => {
    let victim: string | undefined
    stage.rekognition.setFaults((call) =>
      call.operation === 'IndexFaces' && call.input.ExternalImageId === victim
        ? { type: 'error', strikes: 'before', error }
        : undefined,
    )
    const event = await stage.createEvent()
    const user = await stage.createAttendee(event, { photo: await stage.upload(bytes) })
    victim = user
    await stage.follow()
    expect(await jobOf(event, user)).toMatchObject({ state: 'skipped', reason, index_calls: 1 })
    expect(await stage.statusOf(event)).toBe('completed')
    expect(REASONS[reason]?.toAttendee).toMatch(words)
  })

  it.each([
    ['an empty object', Buffer.alloc(0), 'photo_empty'],
    ['an object of more than 15 MB', Buffer.alloc(15 * 1024 * 1024 + 1), 'photo_too_large'],
  ])('%s, without a call', async (_what, content, reason) => {
    const { event, user } = await eventWith(content)
    expect(await jobOf(event, user)).toMatchObject({ state: 'skipped', reason, index_calls: 0 })
  })

  it.each([
    ['blurred', 'face_blurred'],
    ['dark', 'face_too_dark'],
    ['turned', 'face_turned_away'],
    ['tiny', 'face_too_small'],
    ['washed-out', 'face_quality'],
  ])('a %s face', async (content, reason) => {
    const { event, user } = await eventWith(`${content} face`)
    expect(await jobOf(event, user)).toMatchObject({ state: 'skipped', reason, index_calls: 1 })
    expect(REASONS[reason]?.toAttendee).toMatch(/./)
    expect(faceOf(event, user)).toEqual([])
  })
})

describe('a call that is not answered, five times over', () => {
  /** Every call of IndexFaces for this attendee is lost, before or after its work is done. */
  function loseCallsOf(user: () => string | undefined, strikes: 'before' | 'after') {
    stage.rekognition.setFaults((call) =>
      call.operation === 'IndexFaces' && call.input.ExternalImageId === user()
        ? { type: 'drop', strikes }
        : undefined,
    )
  }

  async function eventOfOne(strikes: 'before' | 'after') {
    let user: string | undefined
    loseCallsOf(() => user, strikes)
    const event = await stage.createEvent()
    user = await stage.createAttendee(event)
    for (let receive = 0; receive < MAX_RECEIVES; receive++) {
      await stage.follow()
      await stage.secondsPass(40) // longer than such a call can still land
    }
    return { event, user }
  }

  it('says that Rekognition did not answer', async () => {
    const { event, user } = await eventOfOne('before')
    expect(await jobOf(event, user)).toMatchObject({
      reason: 'unclear',
      error: expect.stringContaining('Rekognition did not answer'),
    })
    expect(stage.facesOf(event)).toEqual([])
  })

  it('has the face that landed all the same adopted, with nothing left astray', async () => {
    const { event, user } = await eventOfOne('after')
    await stage.follow()
    expect(await jobOf(event, user)).toMatchObject({ state: 'indexed', error: null })
    await expectTheCollectionToBeRight(event)
    expect(await stage.statusOf(event)).toBe('completed')
  })
})
