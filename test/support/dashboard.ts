import { type IncomingHttpHeaders, request } from 'node:http'
import { text } from 'node:stream/consumers'
import { onTestFinished, vi } from 'vitest'
import { startDashboard } from '../../cli/dashboard/server.ts'
import { sessionOf } from '../../cli/session.ts'
import { type Environment, findSystem } from '../../cli/system.ts'
import { paper } from './operator.ts'

export interface Answer {
  status: number
  headers: IncomingHttpHeaders
  body: string
}

/** The operator's page for the length of a test, on what this environment names, and a client that sends what it is told to. */
export async function openDashboard(environment: Environment, { readOnly = false } = {}) {
  const system = await findSystem(undefined, environment)
  for (const [name, value] of Object.entries(system.environment)) vi.stubEnv(name, value)
  onTestFinished(() => void vi.unstubAllEnvs())
  const { ledger } = sessionOf(
    system,
    paper(() => {}),
  )
  const page = await startDashboard({ system, ledger, readOnly })
  onTestFinished(page.close)
  const { link, origin } = page

  const send = (
    method: string,
    path: string,
    { headers = {}, form }: { headers?: Record<string, string>; form?: Record<string, string> } = {},
  ) =>
    new Promise<Answer>((resolve, reject) => {
      const sent = request(new URL(path, origin), { method, headers }, async (response) => {
        const { headers, statusCode = 0 } = response
        resolve({ status: statusCode, headers, body: await text(response) })
      })
      sent.on('error', reject)
      if (form) sent.setHeader('content-type', 'application/x-www-form-urlencoded')
      sent.end(form && new URLSearchParams(form).toString())
    })

  /** Opens the link, as the operator's browser does. Returns the cookie. */
  async function open(): Promise<string> {
    const { headers } = await send('GET', link)
    return headers['set-cookie']?.[0]?.split(';')[0] ?? ''
  }

  return { link, origin, send, open }
}

/** The page as the browser has it that has opened the link. */
export async function openedDashboard(environment: Environment, options: { readOnly?: boolean } = {}) {
  const { open, origin, send } = await openDashboard(environment, options)
  const cookie = await open()
  return {
    origin,
    get: (path: string) => send('GET', path, { headers: { cookie } }),
    post: (path: string, form: Record<string, string> = {}, headers: Record<string, string> = {}) =>
      send('POST', path, { headers: { cookie, origin, ...headers }, form }),
  }
}
