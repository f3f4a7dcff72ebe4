import { describe, expect, it } from 'vitest'
import { readSettings, SettingsError } from '../../src/core/settings.ts'

const complete = {
  SUPABASE_URL: 'https://project.supabase.co',
  SUPABASE_SERVICE_ROLE_KEY: 'the-key',
  S3_BUCKET_NAME: 'photos',
  AWS_REGION: 'eu-central-1',
  WORK_QUEUE_URL: 'https://sqs.eu-central-1.amazonaws.com/1/work',
  URGENT_QUEUE_URL: 'https://sqs.eu-central-1.amazonaws.com/1/urgent',
}

const refusal = (environment: Record<string, string | undefined>): string => {
  try {
    readSettings(environment)
  } catch (error) {
    if (error instanceof SettingsError) return error.message
    throw error
  }
  throw new Error('these settings were not refused')
}

describe('the settings', () => {
  it('have defaults for all that is not particular to a project', () => {
    expect(readSettings(complete)).toMatchObject({
      collectionPrefix: 'memento_event_',
      indexFacesTps: 5,
      maxReceives: 5,
      maxFailedShare: 0,
      cleanupAfterHours: undefined,
      severalFaces: 'skip',
      convertPhotos: true,
    })
  })

  it('may name the SSM parameter of the service role key instead of the key', () => {
    const settings = readSettings({
      ...complete,
      SUPABASE_SERVICE_ROLE_KEY: undefined,
      SUPABASE_SERVICE_ROLE_KEY_PARAMETER: '/event-indexer/prod/key',
    })
    expect(settings.supabaseKeyParameter).toBe('/event-indexer/prod/key')
  })

  it('have a clean-up after so many hours; empty, as a deployment without it has it, is off', () => {
    const hours = (CLEANUP_AFTER_HOURS: string) =>
      readSettings({ ...complete, CLEANUP_AFTER_HOURS }).cleanupAfterHours
    expect([hours('24'), hours('1.5'), hours('')]).toEqual([24, 1.5, undefined])
    for (const bad of ['0', '10000', 'x', ' '])
      expect(refusal({ ...complete, CLEANUP_AFTER_HOURS: bad })).toContain(
        'CLEANUP_AFTER_HOURS is not a number of hours from 1 to 9999',
      )
  })

  it('may stand beside those of the first version that are no longer used', () => {
    expect(() =>
      readSettings({ ...complete, SUPABASE_ANON_KEY: 'x', SUPABASE_JWT_SECRET: 'y' }),
    ).not.toThrow()
  })

  it('are refused in one message that names all that is missing', () => {
    const message = refusal({})
    for (const name of [
      'SUPABASE_URL',
      'SUPABASE_SERVICE_ROLE_KEY_PARAMETER',
      'S3_BUCKET_NAME',
      'AWS_REGION',
      'WORK_QUEUE_URL',
      'URGENT_QUEUE_URL',
    ]) {
      expect(message).toContain(`${name} is missing`)
    }
  })

  it.each([
    ['SUPABASE_URL', 'project.supabase.co'],
    ['SUPABASE_URL', 'ftp://project.supabase.co'],
    ['WORK_QUEUE_URL', 'work'],
    ['S3_BUCKET_NAME', ''],
    ['COLLECTION_PREFIX', 'spaces are not allowed'],
    ['COLLECTION_PREFIX', 'x'.repeat(220)],
    ['MAX_FAILED_SHARE', '1.5'],
    ['MAX_FAILED_SHARE', 'some'],
    ['SEVERAL_FACES', 'all'],
    ['URGENT_QUEUE_URL', 'urgent'],
    ['INDEX_FACES_TPS', 'fast'],
    ['INDEX_FACES_TPS', '0'],
    ['INDEX_FACES_TPS', ''],
    ['NUDGE_SECRET', 'short'],
    ['SUPABASE_SERVICE_ROLE_KEY_PARAMETER', 'no-slash'],
  ])('are refused by the name of what is malformed: %s = "%s"', (name, value) => {
    const message = refusal({ ...complete, [name]: value })
    expect(message).toContain(name)
    expect(message).not.toContain('SUPABASE_SERVICE_ROLE_KEY ')
  })

  it('never show a secret when they are refused', () => {
    expect(
      refusal({ ...complete, SUPABASE_SERVICE_ROLE_KEY: 'eyJ-secret', AWS_REGION: undefined }),
    ).not.toContain('eyJ-secret')
  })
})
