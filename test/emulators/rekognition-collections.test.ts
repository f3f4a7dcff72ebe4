import {
  CreateCollectionCommand,
  DeleteCollectionCommand,
  DeleteFacesCommand,
  DescribeCollectionCommand,
  type Face,
  IndexFacesCommand,
  ListCollectionsCommand,
  ListFacesCommand,
  paginateListFaces,
} from '@aws-sdk/client-rekognition'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { syntheticEngine } from '../../local/rekognition/synthetic-engine.ts'
import { asBytes, openRekognition } from '../support/rekognition.ts'

let rekognition: Awaited<ReturnType<typeof openRekognition>>

beforeAll(async () => {
  rekognition = await openRekognition(syntheticEngine())
})
afterAll(() => rekognition.close())

let number = 0
let CollectionId: string

beforeEach(async () => {
  CollectionId = `collection_${++number}`
  await rekognition.client.send(new CreateCollectionCommand({ CollectionId }))
})

const index = (photo: string, ExternalImageId: string) =>
  rekognition.client.send(new IndexFacesCommand({ CollectionId, ExternalImageId, Image: asBytes(photo) }))

/** As many faces as names, a hundred a photo. */
async function indexCrowd(names: string[]): Promise<void> {
  for (let at = 0; at < names.length; at += 100) {
    await index(`faces:${names.slice(at, at + 100).join(',')}`, 'crowd')
  }
}

async function listAll(pageSize: number): Promise<Face[][]> {
  const pages: Face[][] = []
  for await (const { Faces } of paginateListFaces(
    { client: rekognition.client, pageSize },
    { CollectionId },
  )) {
    pages.push(Faces ?? [])
  }
  return pages
}

const numbered = (count: number) => Array.from({ length: count }, (_, at) => `person ${at}`)

const unknownFace = '00000000-0000-4000-8000-000000000000'

describe('CreateCollection', () => {
  it('answers with status, ARN and face model', async () => {
    const answer = await rekognition.client.send(new CreateCollectionCommand({ CollectionId: 'new.one-1' }))
    expect(answer).toMatchObject({
      StatusCode: 200,
      CollectionArn: 'aws:rekognition:eu-central-1:111122223333:collection/new.one-1',
      FaceModelVersion: '7.0',
    })
  })

  it('refuses an id that is taken', async () => {
    await expect(
      rekognition.client.send(new CreateCollectionCommand({ CollectionId })),
    ).rejects.toMatchObject({
      name: 'ResourceAlreadyExistsException',
      message: `The collection id: ${CollectionId} already exists`,
      $metadata: { httpStatusCode: 400 },
    })
  })

  it.each(['', 'with space', 'with:colon', 'ü', 'x'.repeat(256)])('refuses the id %j', async (id) => {
    await expect(
      rekognition.client.send(new CreateCollectionCommand({ CollectionId: id })),
    ).rejects.toMatchObject({ name: 'ValidationException' })
  })

  it('words a broken constraint as the service does', async () => {
    await expect(
      rekognition.client.send(new CreateCollectionCommand({ CollectionId: 'a b' })),
    ).rejects.toMatchObject({
      message:
        "1 validation error detected: Value 'a b' at 'collectionId' failed to satisfy constraint: " +
        'Member must satisfy regular expression pattern: [a-zA-Z0-9_.\\-]+',
    })
  })
})

describe('DeleteCollection', () => {
  it('deletes the collection with its faces', async () => {
    await index('alice', 'a')
    const { StatusCode } = await rekognition.client.send(new DeleteCollectionCommand({ CollectionId }))
    expect(StatusCode).toBe(200)
    await rekognition.client.send(new CreateCollectionCommand({ CollectionId }))
    expect(rekognition.server.collection(CollectionId)).toEqual([])
  })
})

describe('DescribeCollection', () => {
  it('tells the number of faces and the time of creation', async () => {
    await index('faces:alice,bob', 'pair')
    const answer = await rekognition.client.send(new DescribeCollectionCommand({ CollectionId }))
    expect(answer).toMatchObject({
      FaceCount: 2,
      UserCount: 0,
      FaceModelVersion: '7.0',
      CollectionARN: `arn:aws:rekognition:eu-central-1:111122223333:collection/${CollectionId}`,
    })
    expect(Date.now() - (answer.CreationTimestamp?.getTime() ?? 0)).toBeLessThan(60_000)
  })
})

describe('ListCollections', () => {
  it('pages through all collections', async () => {
    const ids: string[] = []
    let NextToken: string | undefined
    do {
      const page = await rekognition.client.send(new ListCollectionsCommand({ MaxResults: 3, NextToken }))
      expect(page.CollectionIds?.length).toBeLessThanOrEqual(3)
      expect(page.FaceModelVersions).toHaveLength(page.CollectionIds?.length ?? 0)
      ids.push(...(page.CollectionIds ?? []))
      NextToken = page.NextToken
    } while (NextToken)
    expect(ids.filter((id) => id === CollectionId)).toHaveLength(1)
    expect(new Set(ids).size).toBe(ids.length)
    expect(ids.length).toBeGreaterThan(3)
  })
})

describe('ListFaces', () => {
  it('gives at most 4,096 faces a page, and all of them over the pages, each once', async () => {
    await indexCrowd(numbered(5000))
    const pages = await listAll(4096)
    expect(pages.map((page) => page.length)).toEqual([4096, 904])
    expect(new Set(pages.flat().map((face) => face.FaceId)).size).toBe(5000)
  })

  it('gives no token when a page ends where the collection ends', async () => {
    await indexCrowd(numbered(6))
    const first = await rekognition.client.send(new ListFacesCommand({ CollectionId, MaxResults: 3 }))
    const second = await rekognition.client.send(
      new ListFacesCommand({ CollectionId, MaxResults: 3, NextToken: first.NextToken }),
    )
    expect(second.Faces).toHaveLength(3)
    expect(second.NextToken).toBeUndefined()
  })

  it('skips and repeats nothing that stays when faces are deleted between two pages', async () => {
    await indexCrowd(numbered(10))
    const first = await rekognition.client.send(new ListFacesCommand({ CollectionId, MaxResults: 5 }))
    const FaceIds = first.Faces?.map((face) => face.FaceId ?? '')
    await rekognition.client.send(new DeleteFacesCommand({ CollectionId, FaceIds }))
    const second = await rekognition.client.send(
      new ListFacesCommand({ CollectionId, MaxResults: 5, NextToken: first.NextToken }),
    )
    expect(second.Faces).toHaveLength(5)
  })

  it('gives what is known of a face', async () => {
    await index('alice', 'user:alice')
    const [[face] = []] = await listAll(10)
    expect(face).toMatchObject({
      FaceId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      ImageId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      ExternalImageId: 'user:alice',
      BoundingBox: { Left: expect.any(Number), Top: expect.any(Number) },
      Confidence: expect.any(Number),
    })
  })

  it('gives the asked faces alone', async () => {
    await indexCrowd(numbered(4))
    const [[, second] = []] = await listAll(10)
    const FaceIds = [second?.FaceId ?? '', unknownFace]
    const { Faces } = await rekognition.client.send(new ListFacesCommand({ CollectionId, FaceIds }))
    expect(Faces).toEqual([second])
  })

  it('refuses a token that it has not given for this collection', async () => {
    await indexCrowd(numbered(4))
    const collections = await rekognition.client.send(new ListCollectionsCommand({ MaxResults: 1 }))
    for (const NextToken of ['nonsense', collections.NextToken]) {
      await expect(
        rekognition.client.send(new ListFacesCommand({ CollectionId, NextToken })),
      ).rejects.toMatchObject({ name: 'InvalidPaginationTokenException' })
    }
  })

  it('refuses pages of more than 4,096', async () => {
    await expect(
      rekognition.client.send(new ListFacesCommand({ CollectionId, MaxResults: 4097 })),
    ).rejects.toMatchObject({
      name: 'ValidationException',
      message: expect.stringContaining("Value '4097' at 'maxResults'"),
    })
  })
})

describe('DeleteFaces', () => {
  it('deletes the faces that are there and names those that are not', async () => {
    const { FaceRecords } = await index('alice', 'a')
    const FaceId = FaceRecords?.[0]?.Face?.FaceId ?? ''
    const answer = await rekognition.client.send(
      new DeleteFacesCommand({ CollectionId, FaceIds: [FaceId, unknownFace] }),
    )
    expect(answer.DeletedFaces).toEqual([FaceId])
    expect(answer.UnsuccessfulFaceDeletions).toEqual([{ FaceId: unknownFace, Reasons: ['FACE_NOT_FOUND'] }])
    expect(rekognition.server.collection(CollectionId)).toEqual([])
  })

  it.each([
    ['none', []],
    ['more than 4,096', Array<string>(4097).fill(unknownFace)],
    ['what is no face id', ['alice']],
  ])('refuses %s', async (_, FaceIds) => {
    await expect(
      rekognition.client.send(new DeleteFacesCommand({ CollectionId, FaceIds })),
    ).rejects.toMatchObject({ name: 'ValidationException' })
  })
})

describe('a collection that does not exist', () => {
  const missing = { CollectionId: 'missing' }
  it.each([
    ['DeleteCollection', new DeleteCollectionCommand(missing)],
    ['DescribeCollection', new DescribeCollectionCommand(missing)],
    ['ListFaces', new ListFacesCommand(missing)],
    ['DeleteFaces', new DeleteFacesCommand({ ...missing, FaceIds: [unknownFace] })],
    ['IndexFaces', new IndexFacesCommand({ ...missing, Image: asBytes('alice') })],
  ])('%s answers ResourceNotFoundException', async (_, command) => {
    // The union of commands fits no overload of `send`, each of them does.
    const send = (each: object) => rekognition.client.send(each as ListFacesCommand)
    await expect(send(command)).rejects.toMatchObject({
      name: 'ResourceNotFoundException',
      message: 'The collection id: missing does not exist',
      $metadata: { httpStatusCode: 400 },
    })
  })

  it('is undefined to a test that looks', () => {
    expect(rekognition.server.collection('missing')).toBeUndefined()
  })
})
