import { DatabaseError, SchemaVersionError } from '../src/core/database.ts'
import { EXIT, OperatorError } from './exit.ts'
import type { System } from './system.ts'
import { cut } from './terminal.ts'

/** Says what an error means to the operator, and what to do about it. What it does not know it returns as it is. */
export function explain(error: unknown, system: System): unknown {
  if (error instanceof DatabaseError) return explainDatabase(error, system)
  if (error instanceof SchemaVersionError)
    return new OperatorError(
      EXIT.unreachable,
      `This program and the database of ${system.name} are of different releases: use the program of the release that is deployed, or apply its migrations. (${error.message})`,
      { cause: error },
    )
  return error instanceof Error ? (explainAws(error, system) ?? error) : error
}

const MOST = 300 // characters of somebody else's text

/** The words of an error, without the markup of a server that answers with a page or a document. */
const wordsOf = ({ message }: Error): string =>
  cut(
    message
      .replace(/<[^>]*>/g, ' ')
      .replace(/\s+/g, ' ')
      .trim(),
    MOST,
  )

/** Whether the same may succeed a moment later. */
export const isPassing = (error: unknown): boolean => error instanceof DatabaseError && error.passing

function explainDatabase(error: DatabaseError, { supabaseUrl, name }: System): OperatorError {
  const say = (what: string) => new OperatorError(EXIT.unreachable, what, { cause: error })
  if (error.message.includes('does not fit its schema'))
    return say(
      `The database of ${name} answers otherwise than this program expects: they are of different releases. (${wordsOf(error)})`,
    )
  if (error.code === '')
    return say(
      `No answer from ${supabaseUrl}. Is SUPABASE_URL right, is the network there, is the project running? (${wordsOf(error)})`,
    )
  if (/^(401|403|42501|PGRST30\d)$/.test(error.code))
    return say(
      `${supabaseUrl} does not let us in: the key is neither a secret key (sb_secret_…) nor the legacy service_role key of this project. (${wordsOf(error)})`,
    )
  if (error.code === 'PGRST202' || error.code === '42883')
    return say(
      `The database of ${name} has not all of this version's functions: apply supabase/migrations to it. (${wordsOf(error)})`,
    )
  if (error.passing)
    return say(`The database of ${name} is away or overloaded: try again in a moment. (${wordsOf(error)})`)
  return say(`The database of ${name} refuses: ${wordsOf(error)}`)
}

const NO_CREDENTIALS =
  /^(CredentialsProviderError|TokenProviderError|ExpiredToken\w*|InvalidClientTokenId|UnrecognizedClientException|InvalidSignatureException|SignatureDoesNotMatch|IncompleteSignature|MissingAuthenticationToken\w*|InvalidSecurity)$/
const NO_CONNECTION = /^(ECONN\w+|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|EPIPE)$/

function explainAws(error: Error, { name }: System): OperatorError | undefined {
  const say = (what: string) => new OperatorError(EXIT.unreachable, what, { cause: error })
  if (/^AccessDenied/.test(error.name))
    return say(`AWS does not allow it; your role or user lacks the permission: ${wordsOf(error)}`)
  if (NO_CREDENTIALS.test(error.name))
    return say(
      `AWS accepts no credentials of yours: set AWS_PROFILE, or sign in again. (${error.name}: ${wordsOf(error)})`,
    )
  if (error.message === 'Region is missing')
    return say('Which AWS region? Set AWS_REGION to the one that the system is deployed in.')
  if (/QueueDoesNotExist|NonExistentQueue/.test(error.name))
    return say(`There is no such queue: is ${name} deployed in this region and account? (${wordsOf(error)})`)
  if (error.name === 'ParameterNotFound')
    return say(
      `The SSM parameter of the project's secret key is not there: is ${name} deployed in this region and account? SUPABASE_SERVICE_ROLE_KEY_PARAMETER names another one.`,
    )
  const code = 'code' in error ? String(error.code) : ''
  if (NO_CONNECTION.test(code) || error.name === 'TimeoutError')
    return say(
      `No answer from AWS. Is the network there, is AWS_REGION right? (${code || error.name}: ${wordsOf(error)})`,
    )
  if ('$fault' in error) return say(`AWS refuses: ${error.name}: ${wordsOf(error)}`)
  return undefined
}
