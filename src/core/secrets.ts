import { SSMProvider } from '@aws-lambda-powertools/parameters/ssm'
import { SSMClient } from '@aws-sdk/client-ssm'
import { NodeHttpHandler } from '@smithy/node-http-handler'
import { logger } from './log.ts'

/** Thrown when a secret cannot be read; the message names its parameter and the cause, never a value. */
export class SecretError extends Error {
  override name = 'SecretError'
}

/** A secret is read again after this, so that a new one is used without a deployment. */
const MAX_AGE_SECONDS = 300

let provider: SSMProvider | undefined
const ssm = (): SSMProvider => {
  provider ??= new SSMProvider({
    awsSdkV3Client: new SSMClient({
      maxAttempts: 2,
      requestHandler: new NodeHttpHandler({
        connectionTimeout: 2_000,
        requestTimeout: 4_000,
        throwOnRequestTimeout: true,
      }),
    }),
  })
  return provider
}

/** Where a secret is: itself, or the SSM parameter that holds it. */
export interface SecretSource {
  value?: string | undefined
  parameter?: string | undefined
}

/**
 * Reads a secret from its SSM parameter, where it is not given itself. It is kept for five minutes; a failed read is not kept.
 * @param what for messages, like "the Supabase key"
 * @param renew whether to read it even if it is kept
 * @throws {SecretError}
 */
export async function readSecret(
  what: string,
  { value, parameter }: SecretSource,
  renew = false,
): Promise<string> {
  if (value !== undefined) return value
  if (parameter === undefined) throw new SecretError(`${what} is not configured`)
  let found: string | undefined
  try {
    found = await ssm().get(parameter, { decrypt: true, maxAge: MAX_AGE_SECONDS, forceFetch: renew })
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : (error as Error)
    logger.error('could not read a secret', { parameter, error: cause })
    throw new SecretError(
      `cannot read ${what} from SSM parameter ${parameter}: ${cause.name}: ${cause.message}`,
      {
        cause,
      },
    )
  }
  const secret = found?.trim() ?? ''
  if (secret === '') throw new SecretError(`SSM parameter ${parameter}, for ${what}, is empty`)
  if (!/^[\x21-\x7e]+$/.test(secret))
    throw new SecretError(
      `SSM parameter ${parameter}, for ${what}, holds white space, line breaks or characters that are not ASCII: store the bare value`,
    )
  return secret
}
