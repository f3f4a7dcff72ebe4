import type { ComparedFace, Face, UserMatch as UserMatchOnTheWire } from '@aws-sdk/client-rekognition'
import type { Collection, Match, StoredFace, User, UserMatch } from './collections.ts'
import type { DetectedFace } from './engine.ts'

/** The face model that the service is at; its number says nothing about the engines here. */
export const faceModelVersion = '7.0'

/** The account that the documentation's examples use. */
const accountId = '111122223333'

/** A collection's ARN without the leading `arn:`, which CreateCollection leaves out. */
export function collectionResource(region: string, id: string): string {
  return `aws:rekognition:${region}:${accountId}:collection/${id}`
}

/** A face, with its user if it has one. */
export function wireFaceOf(collection: Collection, face: StoredFace): Face {
  return { ...wireFace(face), UserId: collection.userOf(face.faceId)?.userId }
}

export function wireUser({ userId, faceIds }: User): { UserId: string; UserStatus: 'ACTIVE' | 'CREATED' } {
  return { UserId: userId, UserStatus: faceIds.size > 0 ? 'ACTIVE' : 'CREATED' }
}

export function wireUserMatch({ user, similarity }: UserMatch): UserMatchOnTheWire {
  return { Similarity: similarity, User: wireUser(user) }
}

/** A face of the target image of CompareFaces. */
export function wireComparedFace({ detail }: DetectedFace): ComparedFace {
  const { BoundingBox, Confidence, Landmarks, Pose, Quality } = detail
  return { BoundingBox, Confidence, Landmarks, Pose, Quality }
}

export function wireFace(face: StoredFace): Face {
  return {
    FaceId: face.faceId,
    BoundingBox: face.boundingBox,
    ImageId: face.imageId,
    ExternalImageId: face.externalImageId,
    Confidence: face.confidence,
    IndexFacesModelVersion: faceModelVersion,
  }
}

export function wireMatch({ face, similarity }: Match): { Similarity: number; Face: Face } {
  return { Similarity: similarity, Face: wireFace(face) }
}
