import { RekognitionServiceException } from '@aws-sdk/client-rekognition'
import { isThrottling } from '../core/collection.ts'

/**
 * What a failed Rekognition call means for the attendee. This is the table of outcomes of the README.
 * - `throttled`: refused, nothing done; the same call may pass a moment later
 * - `unavailable`: an answer that leaves open whether it was done (5xx)
 * - `unclear`: no answer; the call may still land
 * - `photo_unusable`: the photo is of a kind or size that Rekognition can't take: skipped
 * - `photo_unreadable`: Rekognition could not read the photo from S3; missing object and missing permission look the same
 * - `collection_missing`
 * - `denied`: our role lacks a permission
 * - `invalid`: a request that can never pass
 */
export type FailureKind =
  | 'throttled'
  | 'unavailable'
  | 'unclear'
  | 'photo_unusable'
  | 'photo_unreadable'
  | 'collection_missing'
  | 'denied'
  | 'invalid'

export interface Failure {
  kind: FailureKind
  /** For people: the service's error and message. */
  message: string
  /** What the ledger keeps as the reason of a skipped photo; null for the other kinds. */
  reason: string | null
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
}

const PHOTO_REASONS: Record<string, string> = {
  InvalidImageFormatException: 'photo_format',
  ImageTooLargeException: 'photo_too_large',
  // All other parameters are checked before: what is left is the photo's own size in pixels.
  InvalidParameterException: 'photo_refused',
}

/** Classifies what a Rekognition call threw. */
export function classify(error: unknown): Failure {
  if (!(error instanceof Error)) return { kind: 'unclear', message: String(error), reason: null }
  const message = `${error.name}: ${error.message}`
  if (!(error instanceof RekognitionServiceException)) return { kind: 'unclear', message, reason: null }

  if (isThrottling(error)) return { kind: 'throttled', message, reason: null }
  const reason = PHOTO_REASONS[error.name] ?? null
  if (reason) return { kind: 'photo_unusable', message, reason }
  const status = error.$metadata.httpStatusCode ?? 0
  return { kind: KINDS[error.name] ?? (status >= 500 ? 'unavailable' : 'invalid'), message, reason: null }
}
