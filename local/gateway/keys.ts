import { createHmac, randomBytes } from 'node:crypto'
import { errors, type JWTPayload, jwtVerify, SignJWT } from 'jose'
import { ApiError } from './errors.ts'

const TEN_YEARS = 315_576_000 // seconds; as the keys that Supabase makes
const SKEW_SECONDS = 30 // between our clock and the one that signed, as PostgREST allows

/** The API keys of a project, and the check of what comes with a request. */
export interface Keys {
  /** The keys of today, which are no JWT: `sb_publishable_…` and `sb_secret_…`. */
  publishableKey: string
  secretKey: string
  /** The legacy ones, which are JWTs: `anon` and `service_role`. */
  anonKey: string
  serviceRoleKey: string
  /** The access token of an attendee who has signed in. */
  keyFor: (userId: string, expires?: string) => Promise<string>
  /**
   * The claims of a request, `role` among them.
   * @throws {ApiError} 401, for a key or token that is missing, malformed, expired, or signed by somebody else
   */
  claimsOf: (apiKey: string | undefined, authorization: string | undefined) => Promise<Claims>
}

export type Claims = JWTPayload & { role: string }

/** From the same secret and time come the same API keys. */
export interface KeyOptions {
  /** Signs keys and tokens; a new one unless given. */
  secret?: Uint8Array
  /** Of the API keys, in seconds since 1970; now unless given. */
  issuedAt?: number
}

export async function makeKeys({
  secret = randomBytes(32),
  issuedAt = Math.floor(Date.now() / 1000),
}: KeyOptions = {}): Promise<Keys> {
  const sign = (claims: JWTPayload, issued: number | undefined, expires: number | string) =>
    new SignJWT({ iss: 'supabase', ...claims })
      .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
      .setIssuedAt(issued)
      .setExpirationTime(expires)
      .sign(secret)
  const [anonKey, serviceRoleKey] = await Promise.all([
    sign({ role: 'anon' }, issuedAt, issuedAt + TEN_YEARS),
    sign({ role: 'service_role' }, issuedAt, issuedAt + TEN_YEARS),
  ])
  const opaque = (kind: 'publishable' | 'secret') =>
    `sb_${kind}_${createHmac('sha256', secret).update(`${kind} ${issuedAt}`).digest('base64url').slice(0, 31)}`
  const [publishableKey, secretKey] = [opaque('publishable'), opaque('secret')]
  const roles = new Map([
    [publishableKey, 'anon'],
    [secretKey, 'service_role'],
    [anonKey, 'anon'],
    [serviceRoleKey, 'anon'], // a legacy key has its role as a token alone
  ])

  return {
    publishableKey,
    secretKey,
    anonKey,
    serviceRoleKey,
    keyFor: (userId, expires = '1h') =>
      sign({ sub: userId, aud: 'authenticated', role: 'authenticated' }, undefined, expires),
    claimsOf: async (apiKey, authorization) => {
      // These two are answered by Supabase's gateway, in front of PostgREST.
      if (!apiKey) throw new ApiError(401, '', 'No API key found in request')
      const role = roles.get(apiKey)
      if (role === undefined) throw new ApiError(401, '', 'Invalid API key')

      const token = /^bearer\s+(.*)$/i.exec(authorization ?? '')?.[1]
      // Clients that take each key for a JWT send one of today's as a token, too: the gateway drops it.
      if (token === undefined || token.startsWith('sb_')) return { role }
      try {
        const { payload } = await jwtVerify(token, secret, {
          algorithms: ['HS256'],
          clockTolerance: SKEW_SECONDS,
        })
        return { ...payload, role: typeof payload.role === 'string' ? payload.role : 'anon' }
      } catch (error) {
        throw refusal(token, error)
      }
    },
  }
}

function refusal(token: string, error: unknown): ApiError {
  const parts = token.split('.').length
  if (parts !== 3) return new ApiError(401, 'PGRST301', `Expected 3 parts in JWT; got ${parts}`)
  if (error instanceof errors.JWTExpired) return new ApiError(401, 'PGRST303', 'JWT expired')
  if (error instanceof errors.JWTClaimValidationFailed && error.claim === 'nbf')
    return new ApiError(401, 'PGRST303', 'JWT not yet valid')
  if (error instanceof errors.JOSEAlgNotAllowed)
    return new ApiError(401, 'PGRST301', 'Wrong or unsupported encoding algorithm')
  return new ApiError(401, 'PGRST301', 'No suitable key or wrong key type', {
    details: 'None of the keys was able to decode the JWT',
  })
}
