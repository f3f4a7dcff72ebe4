import { createHash } from 'node:crypto'
import pg from 'pg'
import sharp from 'sharp'
import { expect, it, vi } from 'vitest'
import { cropPortrait, groupPhotos } from '../../local/photos.ts'
import { startFacesEngine } from '../../local/rekognition/faces-engine.ts'
import { heicOf } from '../support/heic.ts'
import { freshSystem } from '../support/system.ts'

const PATIENCE_MS = 240_000 // for the face engine, on a busy machine
const MINUTE = 60_000

/** A portrait of one person, from a photo that the face engine's package carries. */
async function portrait(): Promise<Buffer> {
  const engine = await startFacesEngine()
  try {
    const [photo] = await groupPhotos()
    const [face] = (await engine.detect(photo?.bytes ?? Buffer.alloc(0))).toSorted(
      (one, other) => other.detail.BoundingBox.Width - one.detail.BoundingBox.Width,
    )
    if (!photo || !face) throw new Error('the package has no group photo with faces')
    return await cropPortrait(photo.bytes, face.detail.BoundingBox)
  } finally {
    await engine.close()
  }
}

/** The photo large and in the noise of a dark room: more bytes than Rekognition reads from a bucket. */
async function largeJpeg(photo: Buffer): Promise<Buffer> {
  const side = 3000
  const noise = await sharp({
    create: {
      width: side,
      height: side,
      channels: 3,
      background: 'grey',
      noise: { type: 'gaussian', mean: 128, sigma: 40 },
    },
  })
    .png({ compressionLevel: 0 })
    .toBuffer()
  return sharp(photo)
    .resize(side, side, { fit: 'fill' })
    .composite([{ input: noise, blend: 'soft-light' }])
    .jpeg({ quality: 100, chromaSubsampling: '4:4:4' })
    .toBuffer()
}

interface Job {
  full_name: string
  state: string
  reason: string | null
  photo_key: string | null
  photo_etag: string | null
  photo_path: string
}

it(
  'whatever their phone uploads, attendees are indexed, by the functions as they are deployed and of real faces',
  async () => {
    const photo = await portrait()
    const picture = () => sharp(photo)
    const turned = await picture().rotate(90).png().toBuffer()
    const large = await largeJpeg(photo)
    expect(large.length).toBeGreaterThan(15 * 1024 * 1024)
    const photos: [name: string, photo: Buffer, state: string, reason: string | null][] = [
      ['JPEG', await picture().jpeg().toBuffer(), 'indexed', null],
      ['JPEG of more than 15 MB', large, 'indexed', null],
      ['PNG', await picture().png().toBuffer(), 'indexed', null],
      ['HEIC', await heicOf(photo), 'indexed', null],
      ['HEIC, turned', await heicOf(turned, { turns: 1 }), 'indexed', null],
      ['WebP', await picture().webp().toBuffer(), 'indexed', null],
      ['AVIF', await picture().avif({ effort: 0 }).toBuffer(), 'indexed', null],
      ['TIFF', await picture().tiff().toBuffer(), 'indexed', null],
      ['GIF', await picture().gif().toBuffer(), 'indexed', null],
      ['damaged HEIC', (await heicOf(photo)).subarray(0, 50_000), 'skipped', 'photo_damaged'],
      [
        'HEIC of 900 million pixels',
        await heicOf(photo, { claimed: { width: 30_000, height: 30_000 } }),
        'skipped',
        'photo_too_many_pixels',
      ],
      ['PDF', Buffer.from('%PDF-1.7\n%'), 'skipped', 'photo_pdf'],
    ]
    const lines: string[] = []
    const system = await freshSystem({
      engine: 'faces',
      onLog: (name, line) => lines.push(`${name}: ${line}`),
    })
    const event = await system.app.createEvent({
      name: 'Gala',
      startsAt: new Date(Date.now() + 10 * MINUTE),
    })
    await system.app.addAttendees(
      event,
      photos.map(([name, photo]) => ({ name, photo })),
    )
    await system.functions.invoke('scheduler', {})
    await vi.waitFor(
      async () => expect(await system.app.statusOf(event), lines.slice(-3).join('\n')).toBe('completed'),
      { timeout: PATIENCE_MS - 60_000, interval: 500 },
    )

    const database = new pg.Client(system.database.url)
    await database.connect()
    const { rows } = await database
      .query<Job>(
        `select full_name, state, reason, photo_key, photo_etag, photo_path
         from indexing.face_jobs join public.profiles using (user_id)`,
      )
      .finally(() => database.end())
    const jobOf = (name: string) => rows.find(({ full_name }) => full_name === name)
    expect(
      photos.map(([name]) => {
        const { state, reason } = jobOf(name) ?? {}
        return [name, state, reason]
      }),
    ).toEqual(photos.map(([name, , state, reason]) => [name, state, reason]))
    for (const job of rows) {
      const photo = photos.find(([name]) => name === job.full_name)?.[1] ?? Buffer.alloc(0)
      const original = createHash('md5').update(photo).digest('hex')
      expect([job.photo_key, job.photo_etag]).toEqual([job.photo_path, original])
    }
    // On a slow machine some calls are given up, and their photos converted again.
    const converted = lines.filter((line) => line.startsWith('converter:') && line.includes('"Converted":1'))
    expect(converted.length).toBeGreaterThanOrEqual(7)
  },
  PATIENCE_MS,
)
