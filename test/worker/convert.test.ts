import sharp from 'sharp'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { convertObject } from '../../src/converter/converter.ts'
import { type Convert, ConverterError } from '../../src/core/converter.ts'
import type { PhotoStore } from '../../src/core/photo-store.ts'
import { openStage, type Stage } from '../support/stage.ts'

let stage: Stage
let webp: Buffer
beforeAll(async () => {
  stage = await openStage()
  webp = await sharp({ create: { width: 200, height: 100, channels: 3, background: 'teal' } })
    .webp()
    .toBuffer()
})
afterEach(() => stage.rekognition.setFaults(undefined))
afterAll(() => stage.close())

const conversions: string[] = []
/** The photos whose first bytes were read. */
const starts: string[] = []
const convert: Convert = (photo) => {
  conversions.push(photo.key)
  return convertObject(photo, stage.parts.photos)
}

interface Job {
  state: string
  reason: string | null
  index_calls: number
  photo_key: string | null
  photo_etag: string | null
}

/** One attendee with this photo, after one pass of a worker that has this converter. */
async function afterOnePass(
  photo: Buffer | string,
  converter: Convert | null = convert,
  { forMs, contentType }: { forMs?: number; contentType?: string } = {},
) {
  conversions.length = 0
  starts.length = 0
  const key = await stage.upload(photo, undefined, contentType)
  const event = await stage.createEvent()
  const user = await stage.createAttendee(event, { photo: key })
  await stage.runScheduler()
  const photos: PhotoStore = {
    ...stage.parts.photos,
    readStart: (name, bytes) => {
      starts.push(name)
      return stage.parts.photos.readStart(name, bytes)
    },
  }
  const parts = { ...stage.parts, photos, ...(converter && { convert: converter }) }
  await stage.runWorker(await stage.receive(event), parts, forMs)
  const jobs = await stage.sql<Job>(
    'select state, reason, index_calls, photo_key, photo_etag from indexing.face_jobs where (event_id, user_id) = ($1, $2)',
    [event, user],
  )
  return { event, user, key, job: jobs[0] }
}

describe('a photo that Rekognition does not take', () => {
  it('is converted, and indexed by one call; the face is that of the original', async () => {
    const { event, key, job } = await afterOnePass(webp)
    expect(conversions).toEqual([key])
    const original = await stage.parts.photos.look(key)
    expect(job).toEqual({
      state: 'indexed',
      reason: null,
      index_calls: 1,
      photo_key: key,
      photo_etag: original?.etag,
    })
    expect(stage.facesOf(event)).toHaveLength(1)
    expect(await stage.statusOf(event)).toBe('completed')
  })

  it('is not converted again while its content stays the same', async () => {
    const { event, user, key } = await afterOnePass(webp)
    await stage.sql('update profiles set photo_path = $2 where user_id = $1', [user, key])
    await stage.runScheduler()
    await stage.runWorker(await stage.receive(event), { ...stage.parts, convert })
    expect(conversions).toHaveLength(1)
  })

  it.each([
    ['damaged', () => webp.subarray(0, 40), 'photo_damaged'],
    [
      'of more pixels than are decoded',
      () => {
        const bomb = Buffer.from(webp)
        bomb.writeUInt16LE(16_000, 26)
        bomb.writeUInt16LE(16_000, 28)
        return bomb
      },
      'photo_too_many_pixels',
    ],
  ])('and is %s is skipped, without a call', async (_, photo, reason) => {
    const { event, job } = await afterOnePass(photo())
    expect(job).toMatchObject({ state: 'skipped', reason, index_calls: 0 })
    expect(await stage.statusOf(event)).toBe('completed')
  })

  it('and has too many pixels is converted once Rekognition has refused it', async () => {
    let refused = false
    stage.rekognition.setFaults(({ operation }) => {
      if (operation !== 'IndexFaces' || refused) return undefined
      refused = true
      return { type: 'error', strikes: 'before', error: 'ImageTooLargeException' }
    })
    const jpeg = await sharp(webp).jpeg().toBuffer()
    const { job } = await afterOnePass(jpeg)
    expect(conversions).toHaveLength(1)
    expect(job).toMatchObject({ state: 'indexed', index_calls: 2 })
  })

  it.each(['image/jpeg', 'image/png'])(
    'and was uploaded as %s is converted once Rekognition has refused it',
    async (contentType) => {
      const { key, job } = await afterOnePass(webp, convert, { contentType })
      expect(conversions).toEqual([key])
      expect(job).toMatchObject({ state: 'indexed', index_calls: 2 })
    },
  )

  it('is skipped with its format as the reason where nothing is converted', async () => {
    const { job } = await afterOnePass(webp, null)
    expect(job).toMatchObject({ state: 'skipped', reason: 'photo_webp', index_calls: 1 })
    expect(conversions).toEqual([])
  })

  it('is looked at again when it was replaced while it was converted', async () => {
    const { event, job } = await afterOnePass(webp, async () => ({ outcome: 'changed' }))
    expect(job).toMatchObject({ state: 'sent', index_calls: 0 })
    expect(stage.facesOf(event) ?? []).toEqual([])
  })

  it('waits for a worker with time, when there is too little of it', async () => {
    const { job } = await afterOnePass(webp, convert, { forMs: 20_000 })
    expect(conversions).toEqual([])
    expect(job).toMatchObject({ state: 'queued', index_calls: 0 })
  })

  it.each([
    [503, 'unavailable'],
    [429, 'unavailable'],
    [403, 'denied'],
    [200, 'conversion_failed'],
  ])('comes again when the converter fails with %d', async (status, reason) => {
    const { job } = await afterOnePass(webp, async () => {
      throw new ConverterError(status, 'it failed')
    })
    expect(job).toMatchObject({ state: 'sent', reason, index_calls: 0 })
  })
})

it('JPEG and PNG go to Rekognition as they are', async () => {
  for (const photo of [await sharp(webp).jpeg().toBuffer(), await sharp(webp).png().toBuffer()]) {
    const { job } = await afterOnePass(photo)
    expect(conversions).toEqual([])
    expect(job).toMatchObject({ state: 'indexed', index_calls: 1 })
  }
})

describe('a photo that Rekognition takes', () => {
  it.each(['jpeg', 'png'] as const)('and was uploaded as image/%s costs no more requests', async (format) => {
    const photo = await sharp(webp).toFormat(format).toBuffer()
    const { job } = await afterOnePass(photo, convert, { contentType: `image/${format}` })
    expect(job).toMatchObject({ state: 'indexed', index_calls: 1 })
    expect([...starts, ...conversions]).toEqual([])
  })

  it('and was uploaded without a content type is known by its first bytes', async () => {
    const { key, job } = await afterOnePass(await sharp(webp).jpeg().toBuffer())
    expect(job).toMatchObject({ state: 'indexed', index_calls: 1 })
    expect(starts).toEqual([key])
    expect(conversions).toEqual([])
  })
})
