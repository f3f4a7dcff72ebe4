import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { problemOf, VARIABLES } from '../../deployment/settings.ts'
import { readSettings } from '../../src/core/settings.ts'

const COMPLETE = {
  SUPABASE_URL: 'https://project.supabase.co',
  SUPABASE_SERVICE_ROLE_KEY_PARAMETER: '/event-indexer/prod/supabase-service-role-key',
  S3_BUCKET_NAME: 'photos',
  AWS_REGION: 'eu-central-1',
  WORK_QUEUE_URL: 'https://sqs.eu-central-1.amazonaws.com/1/work',
  URGENT_QUEUE_URL: 'https://sqs.eu-central-1.amazonaws.com/1/urgent',
}

/** What a function says of a setting: nothing when it starts. */
function ofFunction(variable: string, value: string | undefined): string | undefined {
  try {
    readSettings({ ...COMPLETE, [variable]: value })
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

/** What the deployment says of it. */
function ofDeployment(variable: string, value: string | undefined): string | undefined {
  const name = Object.keys(VARIABLES).find((each) => VARIABLES[each] === variable)
  if (!name) throw new Error(`the deployment has no setting ${variable}`)
  return problemOf(name, value)
}

describe('a setting is refused by its name, by the deployment as by the functions', () => {
  it.each([
    ['SUPABASE_URL', undefined],
    ['SUPABASE_URL', 'project.supabase.co'],
    ['SUPABASE_URL', 'http://project.supabase.co'],
    ['SUPABASE_URL', 'https://abc def'],
    ['SUPABASE_URL', ' https://project.supabase.co'],
    ['SUPABASE_URL', 'https://'],
    ['S3_BUCKET_NAME', undefined],
    ['S3_BUCKET_NAME', ''],
    ['S3_BUCKET_NAME', 'a..b'],
    ['S3_BUCKET_NAME', 'a.-b'],
    ['S3_BUCKET_NAME', 'ab'],
    ['S3_BUCKET_NAME', 'Photos'],
    ['S3_BUCKET_NAME', 's3://photos'],
    ['S3_BUCKET_NAME', '192.168.0.1'],
    ['S3_BUCKET_NAME', 'x'.repeat(64)],
    ['SUPABASE_SERVICE_ROLE_KEY_PARAMETER', 'no-slash'],
    ['SUPABASE_SERVICE_ROLE_KEY_PARAMETER', '/with space'],
    ['SUPABASE_SERVICE_ROLE_KEY_PARAMETER', '/ends/with/'],
    ['NUDGE_SECRET_PARAMETER', 'the secret'],
    ['COLLECTION_PREFIX', ''],
    ['COLLECTION_PREFIX', 'every event/'],
    ['COLLECTION_PREFIX', 'x'.repeat(220)],
    ['INDEX_FACES_TPS', 'abc'],
    ['INDEX_FACES_TPS', ''],
    ['INDEX_FACES_TPS', '0'],
    ['INDEX_FACES_TPS', '0.05'],
    ['INDEX_FACES_TPS', '10001'],
    ['INDEX_FACES_TPS', '-5'],
    ['INDEX_FACES_TPS', '1e2'],
    ['INDEX_FACES_TPS', '5 '],
    ['MAX_FAILED_SHARE', '1.5'],
    ['MAX_FAILED_SHARE', '10%'],
    ['MAX_FAILED_SHARE', ''],
    ['CLEANUP_AFTER_HOURS', '0'],
    ['CLEANUP_AFTER_HOURS', '10000'],
    ['CLEANUP_AFTER_HOURS', 'a day'],
    ['SEVERAL_FACES', 'all'],
    ['SEVERAL_FACES', ''],
  ])('%s = %j', (variable, value) => {
    for (const said of [ofFunction(variable, value), ofDeployment(variable, value)])
      expect(said).toMatch(new RegExp(`\\b${variable} .*is (not|missing)`))
  })
})

describe('a setting is taken by both', () => {
  it.each([
    ['SUPABASE_URL', 'https://project.supabase.co'],
    ['SUPABASE_URL', 'http://127.0.0.1:54321'],
    ['S3_BUCKET_NAME', 'profile-photos.example.org'],
    ['COLLECTION_PREFIX', 'staging_event_'],
    ['INDEX_FACES_TPS', '0.1'],
    ['INDEX_FACES_TPS', '2.5'],
    ['INDEX_FACES_TPS', '10000'],
    ['MAX_FAILED_SHARE', '0.02'],
    ['CLEANUP_AFTER_HOURS', ''],
    ['CLEANUP_AFTER_HOURS', '24'],
    ['SEVERAL_FACES', 'largest'],
  ])('%s = %j', (variable, value) => {
    expect([ofFunction(variable, value), ofDeployment(variable, value)]).toEqual([undefined, undefined])
  })
})

it('every setting that serverless.yml takes from the environment has a rule, and is in the table of settings', () => {
  const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')
  const taken = [...read('serverless.yml').matchAll(/\$\{param:(\w+), env:(\w+),/g)].map(
    ([, name = '', variable = '']) => [name, variable],
  )
  expect(Object.entries(VARIABLES)).toEqual(expect.arrayContaining(taken))
  expect(taken).toHaveLength(Object.keys(VARIABLES).length)
  for (const [name, variable] of taken)
    expect(read('docs/settings.md')).toContain(`| \`${variable}\` | \`${name}\` |`)
})
