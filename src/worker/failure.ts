import { RekognitionServiceException } from '@aws-sdk/client-rekognition'
import { isThrottling } from '../core/collection.ts'
import { ConverterError } from '../core/converter.ts'
import { PhotoStoreError } from '../core/photo-store.ts'

/**
 * What a failed call of Rekognition or S3 means for the attendee. This is the table of outcomes of docs/architecture.md.
 * - `throttled`: refused, nothing done; the same call may pass a moment later
 * - `unavailable`: an answer that leaves open whether it was done (5xx), or S3 did not answer
 * - `unclear`: Rekognition did not answer; the call may still land
 * - `photo_unusable`: the photo is of a kind or size that Rekognition can't take: skipped
 * - `photo_unreadable`: Rekognition could not read an object that is there: its rights, or another region
 * - `conversion_failed`: the converter failed, which is no answer about the photo
 * - `collection_missing`
 * - `denied`: our role lacks a permission, of Rekognition or S3
 * - `quota_exceeded`: the collection holds as many faces as the account may have in one
 * - `invalid`: a request that Rekognition refuses
 */
export type FailureKind =
  | 'throttled'
  | 'unavailable'
  | 'unclear'
  | 'photo_unusable'
  | 'photo_unreadable'
  | 'conversion_failed'
  | 'collection_missing'
  | 'denied'
  | 'quota_exceeded'
  | 'invalid'

export interface Failure {
  kind: FailureKind
  /** For people: the service's error and message. */
  message: string
}

const KINDS: Record<string, FailureKind> = {
  InternalServerError: 'unavailable',
  ServiceUnavailableException: 'unavailable',
  InvalidS3ObjectException: 'photo_unreadable',
  ResourceNotFoundException: 'collection_missing',
  AccessDeniedException: 'denied',
  ExpiredTokenException: 'denied',
  UnrecognizedClientException: 'denied',
  InvalidSignatureException: 'denied',
  ServiceQuotaExceededException: 'quota_exceeded',
  InvalidImageFormatException: 'photo_unusable',
  ImageTooLargeException: 'photo_unusable',
  // All other parameters are checked before: what is left is the photo's own size in pixels.
  InvalidParameterException: 'photo_unusable',
}

/** Rekognition answered that it could not delete a face. */
export class FacesRemainError extends Error {
  override name = 'FacesRemainError'
}

/** Classifies what a call of Rekognition or S3 threw. */
export function classify(error: unknown): Failure {
  if (!(error instanceof Error)) return { kind: 'unclear', message: String(error) }
  if (error instanceof PhotoStoreError || error instanceof ConverterError) {
    const passing = error.status === 0 || error.status >= 500 || error.status === 429
    const failed = error instanceof ConverterError && error.status !== 403 ? 'conversion_failed' : 'denied'
    return { kind: passing ? 'unavailable' : failed, message: error.message }
  }
  const message = `${error.name}: ${error.message}`
  if (error instanceof FacesRemainError) return { kind: 'unavailable', message }
  if (!(error instanceof RekognitionServiceException))
    return { kind: 'unclear', message: `Rekognition did not answer: ${message}` }
  if (isThrottling(error)) return { kind: 'throttled', message }
  const status = error.$metadata.httpStatusCode ?? 0
  return { kind: KINDS[error.name] ?? (status >= 500 ? 'unavailable' : 'invalid'), message }
}
