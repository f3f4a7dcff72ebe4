import {
  CreateCollectionCommand,
  DeleteFacesCommand,
  DetectFacesCommand,
  type FaceMatch,
  IndexFacesCommand,
  type IndexFacesCommandInput,
  SearchFacesByImageCommand,
  SearchFacesCommand,
} from '@aws-sdk/client-rekognition'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { syntheticEngine } from '../../local/rekognition/synthetic-engine.ts'
import { asBytes, inBucket, openRekognition } from '../support/rekognition.ts'

let rekognition: Awaited<ReturnType<typeof openRekognition>>

beforeAll(async () => {
  rekognition = await openRekognition(syntheticEngine())
})
afterAll(() => rekognition.close())

const megabyte = 1024 * 1024

let number = 0
let CollectionId: string

beforeEach(async () => {
  CollectionId = `collection_${++number}`
  await rekognition.client.send(new CreateCollectionCommand({ CollectionId }))
})

const index = (input: Omit<IndexFacesCommandInput, 'CollectionId'>) =>
  rekognition.client.send(new IndexFacesCommand({ CollectionId, ...input }))

const indexPhoto = async (photo: string, ExternalImageId: string) => {
  const { FaceRecords = [] } = await index({ Image: asBytes(photo), ExternalImageId })
  return FaceRecords.map(({ Face }) => Face?.FaceId ?? '')
}

const searchByImage = (photo: string, more: { MaxFaces?: number; FaceMatchThreshold?: number } = {}) =>
  rekognition.client.send(new SearchFacesByImageCommand({ CollectionId, Image: asBytes(photo), ...more }))

const externalIds = (answer: { FaceMatches?: FaceMatch[] | undefined }) =>
  answer.FaceMatches?.map(({ Face }) => Face?.ExternalImageId)

const indexed = () => rekognition.server.collection(CollectionId) ?? []

describe('IndexFaces', () => {
  it('stores the face of a photo in S3 and tells its id, image, place and quality', async () => {
    const Image = await rekognition.upload('people/a b/ä.jpg', 'alice')
    const {
      FaceRecords = [],
      UnindexedFaces,
      FaceModelVersion,
    } = await index({ Image, ExternalImageId: 'alice' })
    expect(FaceModelVersion).toBe('7.0')
    expect(UnindexedFaces).toEqual([])
    expect(FaceRecords).toHaveLength(1)
    const [{ Face, FaceDetail } = {}] = FaceRecords
    expect(Face).toMatchObject({
      FaceId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      ImageId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      ExternalImageId: 'alice',
      Confidence: 99.9,
    })
    expect(FaceDetail).toMatchObject({
      BoundingBox: Face?.BoundingBox,
      Quality: { Brightness: expect.any(Number), Sharpness: expect.any(Number) },
      Pose: { Roll: 0, Yaw: 0, Pitch: 0 },
    })
    expect(FaceDetail?.Landmarks?.map(({ Type }) => Type)).toContain('nose')
    expect(indexed()).toEqual([
      {
        faceId: Face?.FaceId,
        externalImageId: 'alice',
        imageKey: 'people/a b/ä.jpg',
        imageId: Face?.ImageId,
      },
    ])
  })

  it('stores no second face of the same image under the same external id, and returns the first', async () => {
    const first = await indexPhoto('alice', 'alice')
    const Image = await rekognition.upload('again.jpg', 'alice')
    const { FaceRecords } = await index({ Image, ExternalImageId: 'alice' })
    expect(FaceRecords?.map(({ Face }) => Face?.FaceId)).toEqual(first)
    expect(indexed()).toHaveLength(1)
  })

  it('stores one face when the same image comes many times at once', async () => {
    const answers = await Promise.all(Array.from({ length: 20 }, () => indexPhoto('alice', 'alice')))
    expect(new Set(answers.flat()).size).toBe(1)
    expect(indexed()).toHaveLength(1)
  })

  it('stores another face of the same image under another external id, and of another image under the same', async () => {
    await indexPhoto('alice', 'alice')
    await indexPhoto('alice', 'bob')
    await indexPhoto('alice, ten years later', 'alice')
    expect(indexed()).toHaveLength(3)
  })

  it('stores a face anew after it was deleted', async () => {
    const [faceId = ''] = await indexPhoto('alice', 'alice')
    await rekognition.client.send(new DeleteFacesCommand({ CollectionId, FaceIds: [faceId] }))
    const [again] = await indexPhoto('alice', 'alice')
    expect(again).not.toBe(faceId)
    expect(indexed().map((face) => face.faceId)).toEqual([again])
  })

  it('indexes the largest faces up to MaxFaces, and returns the others as EXCEEDS_MAX_FACES', async () => {
    const { FaceRecords = [], UnindexedFaces = [] } = await index({
      Image: asBytes('faces:alice,bob,carol'),
      MaxFaces: 2,
    })
    const area = ({ Width = 0, Height = 0 } = {}) => Width * Height
    const areas = FaceRecords.map(({ Face }) => area(Face?.BoundingBox))
    expect(areas).toHaveLength(2)
    expect(areas[0]).toBeGreaterThan(areas[1] ?? 0)
    expect(UnindexedFaces).toMatchObject([{ Reasons: ['EXCEEDS_MAX_FACES'] }])
    expect(area(UnindexedFaces[0]?.FaceDetail?.BoundingBox)).toBeLessThan(areas[1] ?? 0)
  })

  it('indexes no more than 100 faces of a photo', async () => {
    const crowd = Array.from({ length: 101 }, (_, at) => `person ${at}`)
    const { FaceRecords, UnindexedFaces } = await index({ Image: asBytes(`faces:${crowd.join(',')}`) })
    expect(FaceRecords).toHaveLength(100)
    expect(UnindexedFaces).toMatchObject([{ Reasons: ['EXCEEDS_MAX_FACES'] }])
  })

  it('leaves out a face of low quality, unless told to take any', async () => {
    const Image = asBytes('blurred alice')
    const filtered = await index({ Image, ExternalImageId: 'alice' })
    expect(filtered.FaceRecords).toEqual([])
    expect(filtered.UnindexedFaces).toMatchObject([{ Reasons: ['LOW_SHARPNESS'] }])
    const { FaceRecords } = await index({ Image, ExternalImageId: 'alice', QualityFilter: 'NONE' })
    expect(FaceRecords).toHaveLength(1)
  })

  it('filters faces of low quality before it counts to MaxFaces', async () => {
    const { FaceRecords, UnindexedFaces } = await index({ Image: asBytes('faces:blurred,bob'), MaxFaces: 1 })
    expect(FaceRecords).toHaveLength(1)
    expect(UnindexedFaces).toMatchObject([{ Reasons: ['LOW_SHARPNESS'] }])
  })

  it('finds nothing in a photo without a face', async () => {
    const answer = await index({ Image: asBytes('no-face, a landscape') })
    expect(answer).toMatchObject({ FaceRecords: [], UnindexedFaces: [] })
  })

  it.each(['', 'with space', 'x'.repeat(256)])('refuses the ExternalImageId %j', async (ExternalImageId) => {
    await expect(index({ Image: asBytes('alice'), ExternalImageId })).rejects.toMatchObject({
      name: 'ValidationException',
      message: expect.stringContaining("at 'externalImageId'"),
    })
  })

  it('names every broken constraint', async () => {
    await expect(
      index({
        Image: { S3Object: { Bucket: 'x', Name: 'y' } },
        MaxFaces: 0,
        QualityFilter: 'BEST' as 'HIGH',
      }),
    ).rejects.toMatchObject({
      name: 'ValidationException',
      message:
        "3 validation errors detected: Value 'x' at 'image.s3Object.bucket' failed to satisfy constraint: " +
        "Member must have length greater than or equal to 3; Value '0' at 'maxFaces' failed to satisfy constraint: " +
        "Member must have value greater than or equal to 1; Value 'BEST' at 'qualityFilter' failed to satisfy " +
        'constraint: Member must satisfy enum value set: [NONE, AUTO, LOW, MEDIUM, HIGH]',
    })
  })
})

describe('the image of a request', () => {
  it('may have 5 MB as bytes', async () => {
    const { FaceRecords } = await index({ Image: asBytes(Buffer.alloc(5 * megabyte, 'a')) })
    expect(FaceRecords).toHaveLength(1)
    await expect(index({ Image: asBytes(Buffer.alloc(5 * megabyte + 1, 'a')) })).rejects.toMatchObject({
      name: 'ValidationException',
      message: expect.stringContaining(
        "'image.bytes' failed to satisfy constraint: Member must have length less than or equal to 5242880",
      ),
    })
  })

  it('may have 15 MB in S3', async () => {
    const parts = [Buffer.alloc(8 * megabyte, 'a'), Buffer.alloc(7 * megabyte, 'a')]
    const largest = await rekognition.uploadInParts('largest.jpg', parts)
    expect((await index({ Image: largest })).FaceRecords).toHaveLength(1)
    const beyond = await rekognition.uploadInParts('beyond.jpg', [...parts, Buffer.from('a')])
    await expect(index({ Image: beyond })).rejects.toMatchObject({ name: 'ImageTooLargeException' })
  })

  it('must be a JPEG or PNG', async () => {
    await expect(index({ Image: asBytes('not-an-image') })).rejects.toMatchObject({
      name: 'InvalidImageFormatException',
    })
  })

  it('must not be empty', async () => {
    await expect(index({ Image: asBytes('') })).rejects.toMatchObject({ name: 'ValidationException' })
  })

  it.each([
    ['an object that is not there', inBucket('missing.jpg')],
    ['a bucket that is not there', { S3Object: { Bucket: 'missing', Name: 'a.jpg' } }],
    ['no name', { S3Object: { Bucket: 'photos' } }],
  ])('with %s is an InvalidS3ObjectException', async (_, Image) => {
    await expect(index({ Image })).rejects.toMatchObject({
      name: 'InvalidS3ObjectException',
      $metadata: { httpStatusCode: 400 },
    })
  })

  it.each([
    ['neither', {}],
    ['both', { ...asBytes('alice'), ...inBucket('alice.jpg') }],
  ])('must come as bytes or in S3: %s is an InvalidParameterException', async (_, Image) => {
    await expect(index({ Image })).rejects.toMatchObject({ name: 'InvalidParameterException' })
  })
})

describe('DetectFaces', () => {
  it('describes every face, the largest first', async () => {
    const { FaceDetails = [] } = await rekognition.client.send(
      new DetectFacesCommand({ Image: asBytes('faces:alice,blurred bob') }),
    )
    expect(FaceDetails).toHaveLength(2)
    expect(FaceDetails[0]?.Quality?.Sharpness).toBeGreaterThan(FaceDetails[1]?.Quality?.Sharpness ?? 100)
  })

  it('finds nothing in a photo without a face', async () => {
    const { FaceDetails } = await rekognition.client.send(
      new DetectFacesCommand({ Image: asBytes('no-face') }),
    )
    expect(FaceDetails).toEqual([])
  })
})

describe('SearchFacesByImage', () => {
  it('finds the person of a photo and nobody else', async () => {
    await indexPhoto('alice', 'alice')
    await indexPhoto('bob', 'bob')
    const answer = await searchByImage('alice')
    expect(externalIds(answer)).toEqual(['alice'])
    expect(answer).toMatchObject({
      FaceMatches: [{ Similarity: 100 }],
      SearchedFaceConfidence: 99.9,
      SearchedFaceBoundingBox: { Left: 0 },
      FaceModelVersion: '7.0',
    })
  })

  it('searches for the largest face alone', async () => {
    await indexPhoto('alice', 'alice')
    await indexPhoto('bob', 'bob')
    expect(externalIds(await searchByImage('faces:bob,alice'))).toEqual(['bob'])
  })

  it('matches from 80 percent on unless told otherwise', async () => {
    await indexPhoto('bob', 'bob')
    expect(externalIds(await searchByImage('alice'))).toEqual([])
    expect(externalIds(await searchByImage('alice', { FaceMatchThreshold: 0 }))).toEqual(['bob'])
  })

  it('gives the best matches, up to MaxFaces', async () => {
    await indexPhoto('bob', 'bob')
    await indexPhoto('alice', 'alice')
    const answer = await searchByImage('alice', { FaceMatchThreshold: 0, MaxFaces: 1 })
    expect(externalIds(answer)).toEqual(['alice'])
  })

  it('refuses a photo without a face', async () => {
    await expect(searchByImage('no-face')).rejects.toMatchObject({
      name: 'InvalidParameterException',
      message: 'There are no faces in the image. Should be at least 1.',
    })
  })

  it.each([{ FaceMatchThreshold: 101 }, { FaceMatchThreshold: -1 }, { MaxFaces: 0 }, { MaxFaces: 4097 }])(
    'refuses %j',
    async (more) => {
      await expect(searchByImage('alice', more)).rejects.toMatchObject({ name: 'ValidationException' })
    },
  )
})

describe('SearchFaces', () => {
  it('finds the other faces of the same person', async () => {
    const [faceId] = await indexPhoto('alice', 'alice')
    await indexPhoto('alice', 'alice-2')
    await indexPhoto('bob', 'bob')
    const answer = await rekognition.client.send(new SearchFacesCommand({ CollectionId, FaceId: faceId }))
    expect(answer.SearchedFaceId).toBe(faceId)
    expect(externalIds(answer)).toEqual(['alice-2'])
  })

  it('refuses a face that is not in the collection', async () => {
    const FaceId = '00000000-0000-4000-8000-000000000000'
    await expect(
      rekognition.client.send(new SearchFacesCommand({ CollectionId, FaceId })),
    ).rejects.toMatchObject({
      name: 'InvalidParameterException',
      message: 'faceId was not found in the collection.',
    })
  })
})
