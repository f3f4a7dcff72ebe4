import { z } from 'zod'
import { RekognitionError } from './errors.ts'

// The constraints are those of the API Reference, its patterns in its own notation.

const matching = (pattern: string) => new RegExp(`^${pattern}$`)

export const collectionIdSchema = z.string().min(1).max(255).regex(matching(String.raw`[a-zA-Z0-9_.\-]+`))

export const externalImageIdSchema = z.string().min(1).max(255).regex(matching(String.raw`[a-zA-Z0-9_.\-:]+`))

export const faceIdSchema = z
  .string()
  .regex(matching('[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'))

export const userIdSchema = z.string().min(1).max(128).regex(matching(String.raw`[a-zA-Z0-9_.\-:]+`))

/** SDKs send one with each request, the same when they try it again. */
export const requestTokenSchema = z.string().min(1).max(64).optional()

export const maxResultsSchema = z.int().min(0).max(4096)

export const nextTokenSchema = z.string().max(255)

/** MaxFaces of the searches. */
export const maxFacesSchema = z.int().min(1).max(4096).default(4096)

/** MaxUsers of the searches. */
export const maxUsersSchema = z.int().min(1).max(500).default(500)

export const faceMatchThresholdSchema = z.number().min(0).max(100).default(80)

export const qualityFilterSchema = z.enum(['NONE', 'AUTO', 'LOW', 'MEDIUM', 'HIGH'])

export const attributesSchema = z.array(
  z.enum([
    'DEFAULT',
    'ALL',
    'AGE_RANGE',
    'BEARD',
    'EMOTIONS',
    'EYE_DIRECTION',
    'EYEGLASSES',
    'EYES_OPEN',
    'GENDER',
    'MOUTH_OPEN',
    'MUSTACHE',
    'FACE_OCCLUDED',
    'SMILE',
    'SUNGLASSES',
  ]),
)

/** The most that an image may have when it comes as bytes in the request. */
const maximumBytes = 5 * 1024 * 1024

const bytesSchema = z.string().transform((base64, context): Uint8Array => {
  const bytes = Buffer.from(base64, 'base64')
  if (bytes.length < 1) {
    context.issues.push({ code: 'too_small', origin: 'string', minimum: 1, input: bytes })
  } else if (bytes.length > maximumBytes) {
    context.issues.push({ code: 'too_big', origin: 'string', maximum: maximumBytes, input: bytes })
  }
  return bytes
})

export const imageSchema = z.object({
  Bytes: bytesSchema.optional(),
  S3Object: z
    .object({
      Bucket: z.string().min(3).max(255).regex(matching(String.raw`[0-9A-Za-z\.\-_]*`)).optional(),
      Name: z.string().min(1).max(1024).optional(),
      Version: z.string().min(1).max(1024).optional(),
    })
    .optional(),
})

export type ImageInput = z.output<typeof imageSchema>

/**
 * Reads a request's body as an operation's input.
 * @throws RekognitionError ValidationException, worded as the service words broken constraints (seen in
 *   a report to aws/aws-sdk-js-v3), or SerializationException for a value of the wrong type
 */
export function parseInput<Output>(schema: z.ZodType<Output>, body: unknown): Output {
  const parsed = schema.safeParse(body)
  if (parsed.success) return parsed.data

  const violations = parsed.error.issues.map((issue) => violation(issue, valueAt(body, issue.path)))
  const errors = violations.length === 1 ? 'error' : 'errors'
  throw new RekognitionError(
    'ValidationException',
    `${violations.length} validation ${errors} detected: ${violations.join('; ')}`,
  )
}

type Issue = z.core.$ZodIssue

function violation(issue: Issue, value: unknown): string {
  return `${shown(value)} at '${member(issue.path)}' failed to satisfy constraint: ${constraint(issue, value)}`
}

function constraint(issue: Issue, value: unknown): string {
  switch (issue.code) {
    case 'invalid_format':
      return `Member must satisfy regular expression pattern: ${pattern(issue.pattern)}`
    case 'too_small':
      return `Member must have ${measure(issue.origin)} greater than or equal to ${issue.minimum}`
    case 'too_big':
      return `Member must have ${measure(issue.origin)} less than or equal to ${issue.maximum}`
    case 'invalid_value':
      return `Member must satisfy enum value set: [${issue.values.map(String).join(', ')}]`
    default:
      if (value === undefined || value === null) return 'Member must not be null'
      throw new RekognitionError('SerializationException', `${member(issue.path)}: ${issue.message}`)
  }
}

function measure(origin: string): 'length' | 'value' {
  return origin === 'string' || origin === 'array' ? 'length' : 'value'
}

/** A pattern as the API Reference prints it: without the anchors. */
function pattern(source: string | undefined): string {
  return (source ?? '').replace(/^\/\^|\$\/$/g, '')
}

function shown(value: unknown): string {
  if (value === undefined || value === null) return 'Value null'
  return typeof value === 'object' ? 'Value' : `Value '${String(value).slice(0, 300)}'`
}

/** The path of a member as the service prints it: `image.s3Object.bucket`, `faceIds.1.member`. */
function member(path: PropertyKey[]): string {
  return path
    .map((key) =>
      typeof key === 'number' ? `${key + 1}.member` : String(key).replace(/^./, (c) => c.toLowerCase()),
    )
    .join('.')
}

function valueAt(body: unknown, path: PropertyKey[]): unknown {
  let value = body
  for (const key of path) {
    if (typeof value !== 'object' || value === null) return undefined
    value = Reflect.get(value, key)
  }
  return value
}
