import type { Face } from '@aws-sdk/client-rekognition'
import type { Match, StoredFace } from './collections.ts'

/** The face model that the service is at; its number says nothing about the engines here. */
export const faceModelVersion = '7.0'

/** The account that the documentation's examples use. */
const accountId = '111122223333'

/** A collection's ARN without the leading `arn:`, which CreateCollection leaves out. */
export function collectionResource(region: string, id: string): string {
  return `aws:rekognition:${region}:${accountId}:collection/${id}`
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
