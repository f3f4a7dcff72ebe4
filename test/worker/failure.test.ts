import { RekognitionServiceException } from '@aws-sdk/client-rekognition'
import { describe, expect, it } from 'vitest'
import { PhotoStoreError } from '../../src/core/photo-store.ts'
import { backoffSeconds } from '../../src/worker/backoff.ts'
import { classify } from '../../src/worker/failure.ts'

const answered = (name: string, httpStatusCode = 400) =>
  new RekognitionServiceException({
    name,
    $fault: httpStatusCode < 500 ? 'client' : 'server',
    $metadata: { httpStatusCode },
    message: 'said the service',
  })

describe('what Rekognition answers', () => {
  it.each([
    ['ThrottlingException', 'throttled'],
    ['ProvisionedThroughputExceededException', 'throttled'],
    ['InvalidImageFormatException', 'photo_unusable'],
    ['ImageTooLargeException', 'photo_unusable'],
    ['InvalidParameterException', 'photo_unusable'],
    ['InvalidS3ObjectException', 'photo_unreadable'],
    ['ResourceNotFoundException', 'collection_missing'],
    ['AccessDeniedException', 'denied'],
    ['ServiceQuotaExceededException', 'quota_exceeded'],
    ['ValidationException', 'invalid'],
  ])('%s means %s', (name, kind) => {
    expect(classify(answered(name))).toMatchObject({ kind, message: `${name}: said the service` })
  })

  it.each(['InternalServerError', 'SomethingNobodyHasSeenYet'])(
    '%s with a 5xx may have been done',
    (name) => {
      expect(classify(answered(name, 500)).kind).toBe('unavailable')
    },
  )
})

describe('what S3 answers', () => {
  it.each([
    [403, 'denied'],
    [301, 'denied'],
    [400, 'denied'],
    [429, 'unavailable'],
    [503, 'unavailable'],
    [0, 'unavailable'],
  ])('%s means %s', (status, kind) => {
    expect(classify(new PhotoStoreError(status, 'said S3'))).toEqual({ kind, message: 'said S3' })
  })
})

describe('no answer', () => {
  it.each(['TimeoutError', 'AbortError', 'Error'])(
    '(%s) leaves open whether the call still lands',
    (name) => {
      const error = new Error('socket hang up')
      error.name = name
      expect(classify(error)).toEqual({
        kind: 'unclear',
        message: `Rekognition did not answer: ${name}: socket hang up`,
      })
    },
  )
})

describe('a failed message', () => {
  it('rests longer after each receive, with jitter, and never above the queue’s longest', () => {
    for (let received = 1; received < 12; received++) {
      const seconds = backoffSeconds('unavailable', received, 100)
      const least = Math.min(300, 15 * 2 ** (received - 1))
      expect(seconds).toBeGreaterThanOrEqual(least)
      expect(seconds).toBeLessThanOrEqual(Math.ceil(least * 1.2))
    }
  })

  it('goes to the dead-letter queue at once after its last receive', () => {
    expect(backoffSeconds('unavailable', 5, 5)).toBe(0)
  })

  it.each(['denied', 'photo_unreadable', 'quota_exceeded', 'invalid'] as const)(
    'is tried for minutes when AWS says %s',
    (kind) => {
      const seconds = [1, 2, 3, 4].map((received) => backoffSeconds(kind, received, 5))
      expect(seconds.reduce((sum, one) => sum + one, 0)).toBeGreaterThan(240)
    },
  )

  it('rests, after a call without an answer, until that call can no longer land', () => {
    expect(backoffSeconds('unclear', 1, 5)).toBeGreaterThan(30)
  })
})
