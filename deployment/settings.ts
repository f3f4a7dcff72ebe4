import { DEPLOYED_RULES } from '../src/core/settings.ts'
import * as z from '../src/core/zod.ts'

const form = (what: string, pattern: RegExp) => z.string().check(z.regex(pattern, `is not ${what}`))

/** The rules of what the template alone depends on. */
const TEMPLATE_RULES = {
  PHOTO_EVENTS: form('ENABLED or DISABLED', /^(ENABLED|DISABLED)$/),
  ALARM_EMAIL: form('an address for the alarms, or nothing', /^([^@\s]+@[^@\s]+)?$/),
  ALARM_TOPIC_ARN: form('the ARN of an SNS topic, or nothing', /^(arn:[\w-]+:sns:[\w-]+:\d{12}:[\w-]+)?$/),
  NUDGE_CONCURRENCY: form('a whole number from 1 to 999, or none', /^([1-9]\d{0,2}|none)$/),
  TRACING: form('Active or PassThrough', /^(Active|PassThrough)$/),
  // The roles allow the use of a key by its ARN, not by an alias.
  KMS_KEY_ARN: form('the ARN of a KMS key, or nothing', /^(arn:[\w-]+:kms:[\w-]+:\d{12}:key\/[\w-]+)?$/),
}

const RULES = { ...DEPLOYED_RULES, ...TEMPLATE_RULES }

/** The settings of `custom` in serverless.yml, each with the environment variable that sets it. */
export const VARIABLES: Record<string, keyof typeof RULES> = {
  supabaseUrl: 'SUPABASE_URL',
  photoBucket: 'S3_BUCKET_NAME',
  serviceRoleKeyParameter: 'SUPABASE_SERVICE_ROLE_KEY_PARAMETER',
  nudgeSecretParameter: 'NUDGE_SECRET_PARAMETER',
  collectionPrefix: 'COLLECTION_PREFIX',
  indexFacesTps: 'INDEX_FACES_TPS',
  maxFailedShare: 'MAX_FAILED_SHARE',
  cleanupAfterHours: 'CLEANUP_AFTER_HOURS',
  severalFaces: 'SEVERAL_FACES',
  convertPhotos: 'CONVERT_PHOTOS',
  photoEvents: 'PHOTO_EVENTS',
  alarmEmail: 'ALARM_EMAIL',
  alarmTopicArn: 'ALARM_TOPIC_ARN',
  nudgeConcurrency: 'NUDGE_CONCURRENCY',
  tracing: 'TRACING',
  kmsKeyArn: 'KMS_KEY_ARN',
}

/**
 * What is wrong with a setting; undefined when nothing is.
 * @param value undefined when it is not set
 */
export function problemOf(name: string, value: string | undefined): string | undefined {
  const variable = VARIABLES[name]
  if (variable === undefined) throw new Error(`there is no setting ${name}`)
  const message = RULES[variable].safeParse(value, { reportInput: true }).error?.issues[0]?.message
  if (message === undefined) return undefined
  return `${variable} (or --param ${name}=…) ${value ? message : message.replace(/^is not /, 'is missing: ')}`
}
