import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { copyService, type Service } from './serverless.ts'

let service: Service
beforeAll(async () => {
  service = await copyService()
})
afterAll(() => service.remove())

const deploy = (settings: Record<string, string>) =>
  service.serverless(['deploy', '--stage', 'prod'], settings)

describe('serverless deploy', { timeout: 180_000 }, () => {
  const NEEDED = {
    SUPABASE_URL: 'https://project.supabase.co',
    S3_BUCKET_NAME: 'profile-photos',
    AWS_REGION: 'eu-west-1',
  }

  it('stops before it does anything, with one message that names all that is not set', async () => {
    // An empty prefix would take in the collections of everybody else in the account.
    const { code, output } = await deploy({ S3_BUCKET_NAME: '', COLLECTION_PREFIX: '' })
    expect(code).not.toBe(0)
    for (const setting of ['SUPABASE_URL', 'S3_BUCKET_NAME', 'COLLECTION_PREFIX', 'AWS_REGION'])
      expect(output).toMatch(new RegExp(`^ +${setting} .*is missing: `, 'm'))
  })

  it('names all that is malformed', async () => {
    const { code, output } = await deploy({
      SUPABASE_URL: 'http://project.supabase.co',
      S3_BUCKET_NAME: 's3://profile-photos',
      AWS_REGION: 'eu-west-1',
      SUPABASE_SERVICE_ROLE_KEY_PARAMETER: 'the-key',
      NUDGE_SECRET_PARAMETER: 'the secret',
      COLLECTION_PREFIX: 'every event/',
      INDEX_FACES_TPS: '0.05',
      MAX_FAILED_SHARE: '10%',
      ALARM_EMAIL: 'nobody',
      ALARM_TOPIC_ARN: 'on-call',
      NUDGE_CONCURRENCY: 'all',
      CONVERT_PHOTOS: 'yes',
      PHOTO_EVENTS: 'on',
      TRACING: 'yes',
      KMS_KEY_ARN: 'alias/own',
    })
    expect(code).not.toBe(0)
    for (const setting of [
      'SUPABASE_URL',
      'S3_BUCKET_NAME',
      'SUPABASE_SERVICE_ROLE_KEY_PARAMETER',
      'NUDGE_SECRET_PARAMETER',
      'COLLECTION_PREFIX',
      'INDEX_FACES_TPS',
      'MAX_FAILED_SHARE',
      'ALARM_EMAIL',
      'ALARM_TOPIC_ARN',
      'NUDGE_CONCURRENCY',
      'CONVERT_PHOTOS',
      'PHOTO_EVENTS',
      'TRACING',
      'KMS_KEY_ARN',
    ])
      expect(output).toMatch(new RegExp(`^ +${setting} .*is not `, 'm'))
  })

  it.each(['deploy', 'package'])(
    '%s names each setting that is no number or no valid name',
    async (command) => {
      const settings = {
        ...NEEDED,
        SUPABASE_URL: 'https://abc def',
        S3_BUCKET_NAME: 'a..b',
        INDEX_FACES_TPS: 'abc',
        CLEANUP_AFTER_HOURS: 'a day',
      }
      const { code, output } = await service.serverless([command, '--stage', 'prod'], settings)
      expect(code).not.toBe(0)
      expect(output).not.toContain('NaN')
      for (const setting of ['SUPABASE_URL', 'S3_BUCKET_NAME', 'INDEX_FACES_TPS', 'CLEANUP_AFTER_HOURS'])
        expect(output).toMatch(new RegExp(`^ +${setting} .*is not `, 'm'))
    },
  )

  it('goes on to AWS once everything is set, and says that the alarms reach nobody', async () => {
    const { output } = await deploy(NEEDED)
    expect(output).not.toContain('Nothing is done')
    expect(output).toContain('connect ECONNREFUSED 127.0.0.1:1')
    expect(output).toContain('The alarms reach nobody')
  })

  it.each([
    ['ALARM_EMAIL', 'on-call@example.com', 'mailed to on-call@example.com, once it has confirmed'],
    ['ALARM_TOPIC_ARN', 'arn:aws:sns:eu-west-1:123456789012:on-call', ''],
  ])('does not warn about alarms without a receiver with %s', async (setting, value, said) => {
    const { output } = await deploy({ ...NEEDED, [setting]: value })
    expect(output).toContain('connect ECONNREFUSED 127.0.0.1:1')
    expect(output).not.toContain('reach nobody')
    expect(output).toContain(said)
  })
})

it.each([['info'], ['remove'], ['invoke', '--function', 'scheduler']])(
  'serverless %s does not guess a region',
  async (...command) => {
    const { code, output } = await service.serverless([...command, '--stage', 'prod'])
    expect(code).not.toBe(0)
    expect(output).toContain('AWS_REGION (or --region) is missing')
    expect(output).not.toContain('ECONNREFUSED')
  },
  180_000,
)
