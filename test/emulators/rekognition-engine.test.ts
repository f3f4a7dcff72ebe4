import {
  CreateCollectionCommand,
  DetectFacesCommand,
  IndexFacesCommand,
  type IndexFacesCommandInput,
  SearchFacesByImageCommand,
} from '@aws-sdk/client-rekognition'
import sharp, { type Sharp } from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { groupPhotos, type Portrait, portraitsFromGroupPhotos } from '../../local/photos.ts'
import type { BoundingBox, FaceEngine } from '../../local/rekognition/engine.ts'
import { similarity } from '../../local/rekognition/faces/similarity.ts'
import { startFacesEngine } from '../../local/rekognition/faces-engine.ts'
import { asBytes, openRekognition } from '../support/rekognition.ts'

const CollectionId = 'people'
let engine: FaceEngine
let rekognition: Awaited<ReturnType<typeof openRekognition>>
let portraits: Portrait[]

beforeAll(async () => {
  engine = await startFacesEngine()
  rekognition = await openRekognition(engine)
  portraits = await portraitsFromGroupPhotos(engine)
  await rekognition.client.send(new CreateCollectionCommand({ CollectionId }))
  for (const [person, { portrait }] of portraits.entries())
    await index({ Image: asBytes(portrait), ExternalImageId: `person-${person}`, MaxFaces: 1 })
}, 600_000)

afterAll(async () => {
  await rekognition.close()
  await engine.close()
})

const index = (input: Omit<IndexFacesCommandInput, 'CollectionId'>) =>
  rekognition.client.send(new IndexFacesCommand({ CollectionId, ...input }))

const search = async (photo: Uint8Array) => {
  const image = { CollectionId, Image: asBytes(photo) }
  const { FaceMatches = [] } = await rekognition.client.send(new SearchFacesByImageCommand(image))
  return FaceMatches.map(({ Face }) => Face?.ExternalImageId)
}

const portraitOf = (person: number): Buffer => {
  const portrait = portraits[person]?.portrait
  if (!portrait) throw new Error(`There is no person ${person}`)
  return portrait
}

/** Not the photo that was indexed: less is seen around the face. */
async function cutClosely(photo: Buffer | undefined, box: BoundingBox): Promise<Buffer> {
  const { width, height } = await sharp(photo).metadata()
  const left = Math.max(0, Math.floor((box.Left - 0.35 * box.Width) * width))
  const top = Math.max(0, Math.floor((box.Top - 0.35 * box.Height) * height))
  const right = Math.min(width, Math.ceil((box.Left + 1.35 * box.Width) * width))
  const bottom = Math.min(height, Math.ceil((box.Top + 1.35 * box.Height) * height))
  return sharp(photo)
    .extract({ left, top, width: right - left, height: bottom - top })
    .jpeg()
    .toBuffer()
}

const blank = (width: number, height: number) =>
  sharp({ create: { width, height, channels: 3, background: 'teal' } })

describe('on six group photos with 22 people, the face engine', () => {
  it('finds every face', () => {
    const counts = [1, 2, 3, 4, 5, 6].map(
      (number) => portraits.filter(({ photo }) => photo === `sample${number}.jpg`).length,
    )
    expect(counts).toEqual([3, 3, 3, 4, 5, 4])
  })

  it('indexes the portrait cut out around each', () => {
    expect(rekognition.server.collection(CollectionId)).toHaveLength(22)
  })

  it('finds each person in the photo again, and takes nobody for somebody else', async () => {
    const photos = new Map((await groupPhotos()).map(({ name, bytes }) => [name, bytes]))
    const found: (string | undefined)[][] = []
    for (const { photo, box } of portraits) found.push(await search(await cutClosely(photos.get(photo), box)))
    // These two may be one person: the photos come without names, and the engine cannot tell them apart.
    const lookAlike = new Map([
      [2, 'person-7'],
      [7, 'person-2'],
    ])
    const expected = portraits.map((_, person) => [`person-${person}`, lookAlike.get(person)].filter(Boolean))
    expect(found).toEqual(expected)
  }, 180_000)

  it('says where a face is', async () => {
    const [photo] = await groupPhotos()
    const Image = asBytes(photo?.bytes ?? '')
    const { FaceDetails = [] } = await rekognition.client.send(new DetectFacesCommand({ Image }))
    expect(FaceDetails).toHaveLength(3)
    for (const { BoundingBox, Landmarks = [], Confidence } of FaceDetails) {
      const { Left = 0, Top = 0, Width = 0, Height = 0 } = BoundingBox ?? {}
      expect(Landmarks).toHaveLength(5)
      for (const { X = 0, Y = 0 } of Landmarks) {
        expect(X).toBeGreaterThan(Left)
        expect(X).toBeLessThan(Left + Width)
        expect(Y).toBeGreaterThan(Top)
        expect(Y).toBeLessThan(Top + Height)
      }
      expect(Confidence).toBeGreaterThan(90)
    }
  })
})

describe('the face engine', () => {
  it.each([
    ['mirrored', (photo: Sharp) => photo.flop()],
    ['in grey', (photo: Sharp) => photo.greyscale()],
    ['as PNG with transparency', (photo: Sharp) => photo.ensureAlpha().png()],
    [
      'lying on its side, with the orientation in Exif',
      (photo: Sharp) => photo.rotate(-90).withMetadata({ orientation: 6 }),
    ],
  ])('recognises a person %s', async (_, change) => {
    const other = await change(sharp(portraitOf(0))).toBuffer()
    expect(await search(other)).toEqual(['person-0'])
  })

  it('leaves out a blurred face, and says why', async () => {
    const blurred = await sharp(portraitOf(0)).blur(7).jpeg().toBuffer()
    const { FaceRecords, UnindexedFaces } = await index({ Image: asBytes(blurred) })
    expect(FaceRecords).toEqual([])
    expect(UnindexedFaces?.flatMap(({ Reasons }) => Reasons)).toContain('LOW_SHARPNESS')
  })

  it('finds no face where there is none', async () => {
    const Image = asBytes(await blank(640, 480).jpeg().toBuffer())
    const { FaceDetails } = await rekognition.client.send(new DetectFacesCommand({ Image }))
    expect(FaceDetails).toEqual([])
  })

  it.each([
    ['a GIF', () => blank(200, 200).gif().toBuffer()],
    ['text', async () => Buffer.from('Dear diary')],
    ['half a JPEG', async () => portraitOf(0).subarray(0, 5000)],
  ])('refuses %s as InvalidImageFormatException', async (_, photo) => {
    await expect(index({ Image: asBytes(await photo()) })).rejects.toMatchObject({
      name: 'InvalidImageFormatException',
    })
  })

  it('refuses an image of less than 80 pixels a side', async () => {
    const Image = asBytes(await blank(79, 300).jpeg().toBuffer())
    await expect(index({ Image })).rejects.toMatchObject({ name: 'InvalidParameterException' })
  })

  it('keeps the event loop free while it works', async () => {
    const unseen = await sharp(portraitOf(0)).modulate({ brightness: 1.1 }).jpeg().toBuffer() // what was seen is answered from memory
    let turns = 0
    const timer = setInterval(() => {
      turns++
    }, 5)
    await engine.detect(unseen)
    clearInterval(timer)
    expect(turns).toBeGreaterThan(10)
  })

  it('answers with an error when it was closed, also what is under way', async () => {
    const shortLived = await startFacesEngine()
    const underWay = shortLived.detect(portraitOf(0))
    const refused = expect(underWay).rejects.toMatchObject({ name: 'InternalServerError' })
    await shortLived.close()
    await refused
    await expect(shortLived.detect(portraitOf(0))).rejects.toThrow('has stopped')
  })
})

describe('similarity', () => {
  const apart = (distance: number) => similarity(new Float32Array([0]), new Float32Array([distance]))

  it('falls from 100 to 0 as the distance grows', () => {
    const distances = Array.from({ length: 100 }, (_, at) => at / 100)
    const percents = distances.map(apart)
    expect(percents[0]).toBe(100)
    expect(percents.at(-1)).toBe(0)
    expect(percents).toEqual([...percents].sort((one, other) => other - one))
  })

  it('is 80 at a distance of 0.5, where one person and two people were told apart best', () => {
    expect(apart(0.5)).toBeCloseTo(80)
    expect(apart(0.3)).toBeGreaterThan(95)
    expect(apart(0.56)).toBeLessThan(60)
  })
})
