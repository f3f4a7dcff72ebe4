import {
  AssociateFacesCommand,
  CompareFacesCommand,
  CreateCollectionCommand,
  CreateUserCommand,
  DeleteFacesCommand,
  DeleteUserCommand,
  DescribeCollectionCommand,
  DisassociateFacesCommand,
  IndexFacesCommand,
  ListFacesCommand,
  ListUsersCommand,
  SearchUsersByImageCommand,
  SearchUsersCommand,
} from '@aws-sdk/client-rekognition'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { syntheticEngine } from '../../local/rekognition/synthetic-engine.ts'
import { asBytes, inBucket, openRekognition } from '../support/rekognition.ts'

const NOBODYS_FACE = '00000000-0000-4000-8000-000000000000'

let rekognition: Awaited<ReturnType<typeof openRekognition>>

beforeAll(async () => {
  rekognition = await openRekognition(syntheticEngine())
})
afterAll(() => rekognition.close())

let number = 0
let CollectionId: string

beforeEach(async () => {
  CollectionId = `users_${++number}`
  await rekognition.client.send(new CreateCollectionCommand({ CollectionId }))
})

const index = async (photo: string, ExternalImageId?: string) => {
  const { FaceRecords = [] } = await rekognition.client.send(
    new IndexFacesCommand({ CollectionId, Image: asBytes(photo), ExternalImageId }),
  )
  return FaceRecords[0]?.Face?.FaceId ?? ''
}
const createUser = (UserId: string, ClientRequestToken?: string) =>
  rekognition.client.send(new CreateUserCommand({ CollectionId, UserId, ClientRequestToken }))
const associate = (UserId: string, ...FaceIds: string[]) =>
  rekognition.client.send(new AssociateFacesCommand({ CollectionId, UserId, FaceIds }))
const disassociate = (UserId: string, ...FaceIds: string[]) =>
  rekognition.client.send(new DisassociateFacesCommand({ CollectionId, UserId, FaceIds }))
const search = (photo: string, more: { MaxUsers?: number; UserMatchThreshold?: number } = {}) =>
  rekognition.client.send(new SearchUsersByImageCommand({ CollectionId, Image: asBytes(photo), ...more }))
const users = async () => (await rekognition.client.send(new ListUsersCommand({ CollectionId }))).Users

describe('CreateUser', () => {
  it('creates a user without a face, once', async () => {
    await createUser('alice')
    expect(await users()).toEqual([{ UserId: 'alice', UserStatus: 'CREATED' }])
    const { UserCount } = await rekognition.client.send(new DescribeCollectionCommand({ CollectionId }))
    expect(UserCount).toBe(1)
    await expect(createUser('alice')).rejects.toMatchObject({ name: 'ConflictException' })
  })

  it('is no conflict when the same request comes again', async () => {
    await createUser('alice', 'token')
    await createUser('alice', 'token')
    expect(await users()).toHaveLength(1)
  })

  it.each(['with space', '', 'x'.repeat(129)])('refuses the id %j', async (UserId) => {
    await expect(createUser(UserId)).rejects.toMatchObject({ name: 'ValidationException' })
  })

  it('asks for a collection', async () => {
    const create = new CreateUserCommand({ CollectionId: 'nowhere', UserId: 'alice' })
    await expect(rekognition.client.send(create)).rejects.toMatchObject({ name: 'ResourceNotFoundException' })
  })
})

describe('AssociateFaces', () => {
  it('makes faces those of a user, and says which were not', async () => {
    const [face, same, other] = [await index('alice', '1'), await index('alice', '2'), await index('bob')]
    await createUser('alice')
    await createUser('bob')
    await associate('bob', other)
    const answer = await associate('alice', face, same, other, NOBODYS_FACE)
    expect(answer).toMatchObject({
      AssociatedFaces: [{ FaceId: face }, { FaceId: same }],
      UnsuccessfulFaceAssociations: [
        { FaceId: other, UserId: 'bob', Reasons: ['ASSOCIATED_TO_A_DIFFERENT_USER'] },
        { FaceId: NOBODYS_FACE, Reasons: ['FACE_NOT_FOUND'] },
      ],
      UserStatus: 'UPDATING',
    })
    expect(await users()).toContainEqual({ UserId: 'alice', UserStatus: 'ACTIVE' })
  })

  it('refuses a face that is too little like those that the user has', async () => {
    const [face, other] = [await index('alice'), await index('bob')]
    await createUser('alice')
    await associate('alice', face)
    expect((await associate('alice', other)).UnsuccessfulFaceAssociations).toEqual([
      { FaceId: other, Confidence: 0, Reasons: ['LOW_MATCH_CONFIDENCE'] },
    ])
  })

  it('leaves out of its answer what is the user’s already', async () => {
    const face = await index('alice')
    await createUser('alice')
    await associate('alice', face)
    expect(await associate('alice', face)).toMatchObject({
      AssociatedFaces: [],
      UnsuccessfulFaceAssociations: [],
    })
  })

  it('gives a user no more than 100 faces', async () => {
    const faces = await Promise.all(Array.from({ length: 101 }, (_, at) => index('alice', `${at}`)))
    await createUser('alice')
    await associate('alice', ...faces.slice(0, 100))
    await expect(associate('alice', ...faces.slice(100))).rejects.toMatchObject({
      name: 'ServiceQuotaExceededException',
    })
  })

  it('knows users that were created alone', async () => {
    await expect(associate('nobody', await index('alice'))).rejects.toMatchObject({
      name: 'ResourceNotFoundException',
    })
  })
})

describe('a face of a user', () => {
  it('is listed with the user, and cannot be deleted as long as it is theirs', async () => {
    const [face, other] = [await index('alice'), await index('bob')]
    await createUser('alice')
    await associate('alice', face)
    const ofAlice = new ListFacesCommand({ CollectionId, UserId: 'alice' })
    expect((await rekognition.client.send(ofAlice)).Faces).toMatchObject([{ FaceId: face, UserId: 'alice' }])

    const remove = new DeleteFacesCommand({ CollectionId, FaceIds: [face, other] })
    expect(await rekognition.client.send(remove)).toMatchObject({
      DeletedFaces: [other],
      UnsuccessfulFaceDeletions: [
        { FaceId: face, UserId: 'alice', Reasons: ['ASSOCIATED_TO_AN_EXISTING_USER'] },
      ],
    })
    expect(await disassociate('alice', face, other)).toMatchObject({
      DisassociatedFaces: [{ FaceId: face }],
      UnsuccessfulFaceDisassociations: [{ FaceId: other, Reasons: ['FACE_NOT_FOUND'] }],
    })
    expect((await rekognition.client.send(remove)).DeletedFaces).toEqual([face])
  })

  it('stays when the user is deleted', async () => {
    const face = await index('alice')
    await createUser('alice')
    await associate('alice', face)
    await rekognition.client.send(new DeleteUserCommand({ CollectionId, UserId: 'alice' }))
    expect(await users()).toEqual([])
    const { Faces = [] } = await rekognition.client.send(new ListFacesCommand({ CollectionId }))
    expect(Faces.map(({ FaceId, UserId }) => [FaceId, UserId])).toEqual([[face, undefined]])
    await expect(
      rekognition.client.send(new DeleteUserCommand({ CollectionId, UserId: 'alice' })),
    ).rejects.toMatchObject({ name: 'ResourceNotFoundException' })
  })
})

describe('SearchUsersByImage', () => {
  it('finds the user of the largest face, once for all their faces', async () => {
    const faces = [await index('alice', '1'), await index('alice', '2')]
    await createUser('alice')
    await associate('alice', ...faces)
    await createUser('faceless')
    const answer = await search('faces:alice,bob,blurred')
    expect(answer).toMatchObject({
      UserMatches: [{ Similarity: 100, User: { UserId: 'alice', UserStatus: 'ACTIVE' } }],
      SearchedFace: { FaceDetail: { BoundingBox: { Left: 0 } } },
      UnsearchedFaces: [{ Reasons: ['FACE_NOT_LARGEST'] }, { Reasons: ['FACE_NOT_LARGEST'] }],
      FaceModelVersion: '7.0',
    })
    expect(answer.UserMatches).toHaveLength(1)
  })

  it('matches from 80 percent on unless told otherwise, the best first, up to MaxUsers', async () => {
    for (const name of ['bob', 'alice']) {
      const face = await index(name)
      await createUser(name)
      await associate(name, face)
    }
    expect((await search('carol')).UserMatches).toEqual([])
    const found = async (more: Parameters<typeof search>[1]) =>
      (await search('alice', more)).UserMatches?.map(({ User }) => User?.UserId)
    expect(await found({ UserMatchThreshold: 0 })).toEqual(['alice', 'bob'])
    expect(await found({ UserMatchThreshold: 0, MaxUsers: 1 })).toEqual(['alice'])
  })

  it('refuses a photo without a face', async () => {
    await expect(search('no-face')).rejects.toMatchObject({
      name: 'InvalidParameterException',
      message: 'There are no faces in the image. Should be at least 1.',
    })
  })

  it.each([{ MaxUsers: 0 }, { MaxUsers: 501 }, { UserMatchThreshold: 101 }])('refuses %j', async (more) => {
    await expect(search('alice', more)).rejects.toMatchObject({ name: 'ValidationException' })
  })
})

describe('SearchUsers', () => {
  const searchFor = (wanted: {
    FaceId?: string
    UserId?: string
    UserMatchThreshold?: number
    MaxUsers?: number
  }) => rekognition.client.send(new SearchUsersCommand({ CollectionId, ...wanted }))

  it('finds the user of a face', async () => {
    const [face, same] = [await index('alice', '1'), await index('alice', '2')]
    await createUser('alice')
    await associate('alice', face)
    expect(await searchFor({ FaceId: same })).toMatchObject({
      UserMatches: [{ Similarity: 100, User: { UserId: 'alice', UserStatus: 'ACTIVE' } }],
      SearchedFace: { FaceId: same },
      FaceModelVersion: '7.0',
    })
    expect((await searchFor({ FaceId: await index('bob') })).UserMatches).toEqual([])
  })

  it('finds the other users with the face of a user, the best first, up to MaxUsers', async () => {
    for (const [user, person] of [
      ['alice', 'alice'],
      ['bob', 'bob'],
      ['alice-again', 'alice'],
    ]) {
      await createUser(String(user))
      await associate(String(user), await index(String(person), user))
    }
    const { SearchedUser, UserMatches } = await searchFor({ UserId: 'alice' })
    expect(SearchedUser).toEqual({ UserId: 'alice' })
    expect(UserMatches?.map(({ User }) => User?.UserId)).toEqual(['alice-again'])
    const all = await searchFor({ UserId: 'alice', UserMatchThreshold: 0 })
    expect(all.UserMatches?.map(({ User }) => User?.UserId)).toEqual(['alice-again', 'bob'])
    const best = await searchFor({ UserId: 'alice', UserMatchThreshold: 0, MaxUsers: 1 })
    expect(best.UserMatches?.map(({ User }) => User?.UserId)).toEqual(['alice-again'])
  })

  it('asks for either a face of the collection or a user of it', async () => {
    const face = await index('alice')
    await createUser('alice')
    for (const wanted of [{}, { FaceId: face, UserId: 'alice' }, { FaceId: NOBODYS_FACE }])
      await expect(searchFor(wanted)).rejects.toMatchObject({ name: 'InvalidParameterException' })
    await expect(searchFor({ UserId: 'nobody' })).rejects.toMatchObject({ name: 'ResourceNotFoundException' })
  })
})

describe('CompareFaces', () => {
  const compare = (source: string, target: string, SimilarityThreshold?: number) =>
    rekognition.client.send(
      new CompareFacesCommand({
        SourceImage: asBytes(source),
        TargetImage: asBytes(target),
        SimilarityThreshold,
      }),
    )

  it('parts the faces of the target into those of the source’s largest face and the others', async () => {
    const { SourceImageFace, FaceMatches, UnmatchedFaces } = await compare(
      'faces:bob,carol',
      'faces:alice,bob',
    )
    expect(SourceImageFace).toMatchObject({ BoundingBox: { Left: 0 }, Confidence: 99.9 })
    expect(FaceMatches).toMatchObject([{ Similarity: 100, Face: { BoundingBox: { Left: 0.5 } } }])
    expect(UnmatchedFaces).toMatchObject([{ BoundingBox: { Left: 0 } }])
  })

  it('matches all from a threshold of 0 on, the most similar first', async () => {
    const { FaceMatches, UnmatchedFaces } = await compare('bob', 'faces:alice,bob', 0)
    expect(FaceMatches?.map(({ Similarity }) => Similarity)).toEqual([100, 0])
    expect(UnmatchedFaces).toEqual([])
  })

  it('reads both images from S3', async () => {
    const image = await rekognition.upload('compared.jpg', 'alice')
    const { FaceMatches } = await rekognition.client.send(
      new CompareFacesCommand({ SourceImage: image, TargetImage: image }),
    )
    expect(FaceMatches).toHaveLength(1)
    const missing = new CompareFacesCommand({ SourceImage: image, TargetImage: inBucket('missing.jpg') })
    await expect(rekognition.client.send(missing)).rejects.toMatchObject({ name: 'InvalidS3ObjectException' })
  })

  it.each([
    ['source', 'no-face', 'alice'],
    ['target', 'alice', 'no-face'],
  ])('refuses a %s without a face', async (_, source, target) => {
    await expect(compare(source, target)).rejects.toMatchObject({ name: 'InvalidParameterException' })
  })

  it('counts as no match what its filter refuses', async () => {
    const command = new CompareFacesCommand({
      SourceImage: asBytes('alice'),
      TargetImage: asBytes('blurred alice'),
      QualityFilter: 'AUTO',
    })
    await expect(rekognition.client.send(command)).rejects.toMatchObject({
      name: 'InvalidParameterException',
    })
  })
})
