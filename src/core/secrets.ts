import { BaseProvider } from '@aws-lambda-powertools/parameters/base'
import { logger } from './log.ts'
import { connectParameterStore } from './parameter-store.ts'

/** Thrown when a secret cannot be read; the message names its parameter and the cause, never a value. */
export class SecretError extends Error {
  override name = 'SecretError'
}

/** A secret is read again after this, so that a new one is used without a deployment. */
const MAX_AGE_SECONDS = 300

/** Powertools' cache of parameters over our own reader. What is no secret is not kept. */
class Parameters extends BaseProvider {
  readonly #read = connectParameterStore(process.env.AWS_REGION ?? '')

  constructor() {
    super({})
  }

  protected override async _get(name: string): Promise<string> {
    return secretIn(await this.#read(name))
  }

  protected override _getMultiple(): Promise<never> {
    throw new Error('a secret is one parameter')
  }
}

function secretIn(value: string): string {
  const secret = value.trim()
  if (secret === '') throw new SecretError('it is empty')
  if (!/^[\x21-\x7e]+$/.test(secret))
    throw new SecretError(
      'it holds white space, line breaks or characters that are not ASCII: store the bare value',
    )
  return secret
}

let parameters: Parameters | undefined

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
  try {
    parameters ??= new Parameters()
    return String(await parameters.get(parameter, { maxAge: MAX_AGE_SECONDS, forceFetch: renew }))
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : (error as Error)
    logger.error('could not read a secret', { parameter, error: cause })
    const why = cause instanceof SecretError ? cause.message : `${cause.name}: ${cause.message}`
    throw new SecretError(`cannot read ${what} from SSM parameter ${parameter}: ${why}`, { cause })
  }
}
