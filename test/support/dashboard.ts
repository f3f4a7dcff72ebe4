import { type IncomingHttpHeaders, request } from 'node:http'
import { text } from 'node:stream/consumers'
import { onTestFinished, vi } from 'vitest'
import { startDashboard } from '../../cli/dashboard/server.ts'
import { sessionOf } from '../../cli/session.ts'
import { type Environment, findSystem } from '../../cli/system.ts'
import { failedWith, refusedFor } from './ledger.ts'
import { openOperated, paper } from './operator.ts'

/** A name that would act if a page did not escape it: in markup, in an attribute, on a terminal. */
export const HOSTILE = `<script>alert(1)</script><img src=x onerror="alert(2)">\u001b[2J\u202e'"&`

/** An event with one attendee indexed, one whose photo is blurred, and one who has failed. */
export async function endedEvent(name = 'Gala dinner') {
  const system = await openOperated()
  const { app, exhaust, owner, prepare, sendAll } = system
  const event = await app.event()
  await owner.query('update events set name = $2 where event_id = $1', [event, name])
  await app.consent(event, await app.users(3))
  await prepare()
  const messages = (await sendAll()).sort((a, b) => a.user_id.localeCompare(b.user_id))
  await exhaust(messages.slice(0, 1))
  await exhaust(messages.slice(1, 2), refusedFor('face_blurred'))
  await exhaust(messages.slice(2), failedWith(`AccessDenied: ${name}`, 'denied'))
  const [indexed = '', blurred = '', failed = ''] = messages.map(({ user_id }) => user_id)
  return { ...system, event, indexed, blurred, failed }
}

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

  return { link, origin, send, open, close: page.close }
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
