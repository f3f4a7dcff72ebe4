import pg from 'pg'

/** A request that is answered with an error, in PostgREST's form: `{code, message, details, hint}`. */
export class ApiError extends Error {
  override name = 'ApiError'
  readonly status: number
  readonly body: { code: string; message: string; details: string | null; hint: string | null }

  constructor(
    status: number,
    code: string,
    message: string,
    { details = null, hint = null }: { details?: string | null; hint?: string | null } = {},
  ) {
    super(message)
    this.status = status
    this.body = { code, message, details, hint }
  }
}

/** The answer to whatever went wrong in or on the way to the database. */
export function toApiError(error: unknown, signedIn: boolean): ApiError {
  if (error instanceof ApiError) return error
  if (error instanceof pg.DatabaseError && error.code) {
    const { code, message, detail = null, hint = null } = error
    return new ApiError(statusOf(code, message, signedIn), code, message, { details: detail, hint })
  }
  const details = error instanceof Error ? error.message : String(error)
  if (details.includes('timeout exceeded when trying to connect'))
    return new ApiError(504, 'PGRST003', 'Timed out acquiring connection from connection pool.')
  return new ApiError(503, 'PGRST001', 'Database client error. Retrying the connection.', { details })
}

/** PostgREST's table of statuses (docs.postgrest.org, references/errors); the first prefix that fits counts. */
const STATUSES: [prefix: string, status: number][] = [
  ['08', 503],
  ['09', 500],
  ['0L', 403],
  ['0P', 403],
  ['21000', 500],
  ['23503', 409],
  ['23505', 409],
  ['25006', 405],
  ['25', 500],
  ['28', 403],
  ['2D', 500],
  ['38', 500],
  ['39', 500],
  ['3B', 500],
  ['40', 500],
  ['42883', 404],
  ['42P01', 404],
  ['42P17', 500],
  ['53400', 500],
  ['53', 503],
  ['54', 500],
  ['55', 500],
  ['57P01', 503],
  ['57', 500],
  ['58', 500],
  ['F0', 500],
  ['HV', 500],
  ['P0001', 400],
  ['P0', 500],
  ['XX', 500],
]

function statusOf(code: string, message: string, signedIn: boolean): number {
  if (code === '42501') return signedIn ? 403 : 401
  if (code === '22023' && /^role .* does not exist$/.test(message)) return 401
  const raised = /^PT(\d{3})$/.exec(code) // raise … using errcode = 'PT404'
  if (raised) return Number(raised[1])
  return STATUSES.find(([prefix]) => code.startsWith(prefix))?.[1] ?? 400
}
