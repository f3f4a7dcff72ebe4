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
      INDEX_FACES_TPS: '0',
      ALARM_EMAIL: 'nobody',
    })
    expect(code).not.toBe(0)
    for (const setting of [
      'SUPABASE_URL',
      'S3_BUCKET_NAME',
      'SUPABASE_SERVICE_ROLE_KEY_PARAMETER',
      'NUDGE_SECRET_PARAMETER',
      'COLLECTION_PREFIX',
      'INDEX_FACES_TPS',
      'ALARM_EMAIL',
    ])
      expect(output).toMatch(new RegExp(`^ +${setting} .*is not `, 'm'))
  })

  it('goes on to AWS once everything is set', async () => {
    const { output } = await deploy({
      SUPABASE_URL: 'https://project.supabase.co',
      S3_BUCKET_NAME: 'profile-photos',
      AWS_REGION: 'eu-west-1',
    })
    expect(output).not.toContain('Not deployed')
    expect(output).toContain('connect ECONNREFUSED 127.0.0.1:1')
  })
})
