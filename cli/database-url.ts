import { EXIT, OperatorError } from './exit.ts'
import type { Environment } from './system.ts'

const HOW =
  "Give the connection string of the database's owner in DATABASE_URL, or with --database-url. Supabase shows it under Connect: the direct connection or the session pooler, with role postgres."

/**
 * The connection string of the database, for what cannot be done through the API.
 * @throws {OperatorError} when there is none, or it is none
 */
export function databaseUrlOf(option: string | undefined, environment: Environment): string {
  const url = option ?? environment.DATABASE_URL
  if (!url) throw new OperatorError(EXIT.notDone, `No database is named. ${HOW}`)
  if (!URL.canParse(url) || !/^postgres(ql)?:$/.test(new URL(url).protocol))
    throw new OperatorError(
      EXIT.notDone,
      `DATABASE_URL is not a connection string such as postgresql://postgres:PASSWORD@HOST:5432/postgres. Characters of the password that are special in URLs are written as %XX. ${HOW}`,
    )
  return url
}

/** Host and database of a connection string, which has a password in it. */
export function placeOf(url: string): string {
  const { host, pathname } = new URL(url)
  return `${host}${pathname}`
}

const NO_CONNECTION = /^(ECONN\w+|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|EPIPE)$/
const CERTIFICATE = /^(SELF_SIGNED_CERT_IN_CHAIN|DEPTH_ZERO_SELF_SIGNED_CERT|UNABLE_TO_\w+|CERT_\w+)$/

/** Says what an error of a direct connection means to the operator. What it does not know it returns as it is. */
export function explainConnection(error: unknown, url: string): unknown {
  if (!(error instanceof Error)) return error
  const place = placeOf(url)
  const say = (code: 2 | 3, text: string) => new OperatorError(code, text, { cause: error })
  const code = 'code' in error ? String(error.code) : ''
  if (error.name === 'MigrationError') return say(EXIT.failed, error.message)
  if (NO_CONNECTION.test(code) || /timeout|terminated/i.test(error.message))
    return say(
      EXIT.unreachable,
      `No answer from ${place}. A direct connection to Supabase needs IPv6; the session pooler does not. (${code || error.message})`,
    )
  if (CERTIFICATE.test(code))
    return say(
      EXIT.unreachable,
      `The certificate of ${place} is not known here: download the one of your project (Database settings, SSL), and add ?sslmode=verify-full&sslrootcert=FILE to the connection string. (${error.message})`,
    )
  if (/^28/.test(code) || code === '3D000' || code === 'XX000')
    return say(EXIT.unreachable, `${place} does not let us in: ${error.message}`)
  if (code === '42501')
    return say(
      EXIT.failed,
      `The role of the connection string lacks a right, it must be the database's owner: ${error.message}`,
    )
  return code && 'severity' in error
    ? say(EXIT.failed, `${place} refuses: ${error.message} (${code})`)
    : error
}
