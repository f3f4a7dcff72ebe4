import * as z from './zod.ts'

/** Thrown when a function cannot start: its message names every setting that is missing or malformed. */
export class SettingsError extends Error {
  override name = 'SettingsError'
}

/** A text of this form; the message says what it has to be. */
const text = (what: string, accepts: (value: string) => boolean) =>
  z
    .string({ error: ({ input }) => (input === undefined ? `is missing: ${what}` : `is not ${what}`) })
    .check(z.refine(accepts, { error: `is not ${what}` }))

/** A number in plain decimals. */
const number = (what: string, min: number, max: number) =>
  z.pipe(
    text(what, (value) => /^\d+(\.\d+)?$/.test(value) && Number(value) >= min && Number(value) <= max),
    z.transform(Number),
  )

const url = (what: string) => text(what, (value) => /^https?:\/\/\S+$/.test(value) && URL.canParse(value))

const parameterPath = (holds: string) =>
  text(`the path of the SSM parameter that holds ${holds}, such as /a/b`, (value) =>
    /^(\/[\w.-]+)+$/.test(value),
  )

const ON_THIS_MACHINE = ['127.0.0.1', 'localhost', '[::1]']

function isProjectUrl(value: string): boolean {
  if (/\s/.test(value) || !URL.canParse(value)) return false
  const { protocol, hostname } = new URL(value)
  return protocol === 'https:' || (protocol === 'http:' && ON_THIS_MACHINE.includes(hostname))
}

/** S3's rules for names: labels of lower-case letters, digits and hyphens, between dots; no IP address. */
const isBucketName = (value: string): boolean =>
  value.length >= 3 &&
  value.length <= 63 &&
  /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/.test(value) &&
  !/^(\d+\.){3}\d+$/.test(value)

/** The rule of each setting that a deployment takes, for it and for the functions alike. */
export const DEPLOYED_RULES = {
  SUPABASE_URL: text('the https:// URL of the Supabase project', isProjectUrl),
  SUPABASE_SERVICE_ROLE_KEY_PARAMETER: z.optional(
    parameterPath('the secret key of the Supabase project (sb_secret_… or service_role)'),
  ),
  NUDGE_SECRET_PARAMETER: z.optional(parameterPath("the nudge's secret")),
  S3_BUCKET_NAME: text('the name of the bucket of the profile photos', isBucketName),
  // Rekognition's rule for a CollectionId, less the 36 characters of the event's id. An empty prefix would give the functions
  // every collection of the account.
  COLLECTION_PREFIX: z._default(
    text('1 to 219 letters, digits, and _ . -', (value) => /^[a-zA-Z0-9_.-]{1,219}$/.test(value)),
    'memento_event_',
  ),
  INDEX_FACES_TPS: z._default(
    number('a number of IndexFaces calls a second from 0.1 to 10000', 0.1, 10_000),
    5,
  ),
  MAX_FAILED_SHARE: z._default(number('a share from 0 to 1', 0, 1), 0),
  // Empty, as an environment variable has it, is off.
  CLEANUP_AFTER_HOURS: z.pipe(
    z.transform((value) => value || undefined),
    z.optional(number('a number of hours from 1 to 9999, or nothing', 1, 9999)),
  ),
  SEVERAL_FACES: z._default(z.enum(['skip', 'largest'], 'is not skip or largest'), 'skip'),
  CONVERT_PHOTOS: z._default(z.enum(['ENABLED', 'DISABLED'], 'is not ENABLED or DISABLED'), 'ENABLED'),
}

const variables = z
  .object({
    ...DEPLOYED_RULES,
    SUPABASE_SERVICE_ROLE_KEY: z.optional(z.string().check(z.minLength(1, 'is empty'))),
    NUDGE_SECRET: z.optional(z.string().check(z.minLength(16, 'has fewer than 16 characters'))),
    AWS_REGION: text('the AWS region', (value) => value !== ''),
    WORK_QUEUE_URL: url('the URL of the work queue'),
    URGENT_QUEUE_URL: url('the URL of the urgent queue'),
    MAX_RECEIVE_COUNT: z._default(number('a number of receives from 1 to 1000', 1, 1000), 5),
    CONVERTER_FUNCTION: z.optional(z.string().check(z.minLength(1, 'is empty'))),
  })
  .check(
    z.refine((all) => all.SUPABASE_SERVICE_ROLE_KEY ?? all.SUPABASE_SERVICE_ROLE_KEY_PARAMETER, {
      path: ['SUPABASE_SERVICE_ROLE_KEY_PARAMETER'],
      when: () => true, // also beside other problems
      error:
        "is missing: the SSM parameter that holds the project's secret key (sb_secret_…, or the legacy service_role key), or SUPABASE_SERVICE_ROLE_KEY itself",
    }),
  )

const schema = z.pipe(
  variables,
  z.transform((all) => ({
    supabaseUrl: all.SUPABASE_URL,
    /** A secret key (sb_secret_…) or the legacy service_role key; or else the SSM parameter that holds it. */
    supabaseKey: all.SUPABASE_SERVICE_ROLE_KEY,
    supabaseKeyParameter: all.SUPABASE_SERVICE_ROLE_KEY_PARAMETER,
    /** What a nudge has to carry; likewise. Without either, every nudge is refused. */
    nudgeSecret: all.NUDGE_SECRET,
    nudgeSecretParameter: all.NUDGE_SECRET_PARAMETER,
    photoBucket: all.S3_BUCKET_NAME,
    region: all.AWS_REGION,
    workQueueUrl: all.WORK_QUEUE_URL,
    urgentQueueUrl: all.URGENT_QUEUE_URL,
    collectionPrefix: all.COLLECTION_PREFIX,
    /** IndexFaces calls a second that the account allows in this region. */
    indexFacesTps: all.INDEX_FACES_TPS,
    /** An event completes with up to this share of its jobs failed. */
    maxFailedShare: all.MAX_FAILED_SHARE,
    /** Events that ended so long ago lose their collection; undefined: the app sees to that. */
    cleanupAfterHours: all.CLEANUP_AFTER_HOURS,
    /** What becomes of a photo with several faces of similar size: skipped, or its largest face indexed. */
    severalFaces: all.SEVERAL_FACES,
    /** Whether a JPEG is made of a photo that Rekognition does not take; without, such attendees are skipped. */
    convertPhotos: all.CONVERT_PHOTOS === 'ENABLED',
    /** The function that makes it. */
    converterFunction: all.CONVERTER_FUNCTION,
    /** Receives after which a queue moves a message to the dead-letter queue. */
    maxReceives: all.MAX_RECEIVE_COUNT,
  })),
)

export type Settings = z.output<typeof schema>

/**
 * Reads the settings of a function from its environment.
 * @throws {SettingsError} naming each setting that is missing or malformed; never a value, which may be a secret.
 */
export function readSettings(environment: Record<string, string | undefined>): Settings {
  const read = schema.safeParse(environment, { reportInput: true })
  if (read.success) return read.data
  const problems = read.error.issues.map((issue) => `${issue.path.join('.')} ${issue.message}`)
  throw new SettingsError(`event-indexer cannot start: ${problems.join('; ')}`)
}

/** The id of an event's Rekognition collection. */
export const collectionId = (settings: Pick<Settings, 'collectionPrefix'>, eventId: string) =>
  `${settings.collectionPrefix}${eventId}`
