import { readFile } from 'node:fs/promises'
import { type Context, Hono } from 'hono'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import { JOB_STATES, type Job, type JobState } from '../../src/core/contract.ts'
import { lookAtAttendee } from '../attendee.ts'
import type { Check } from '../doctor/check.ts'
import { EXIT, OperatorError } from '../exit.ts'
import { explain } from '../explain.ts'
import { isId } from '../ids.ts'
import type { Ledger } from '../ledger.ts'
import { countDeadLetters } from '../queues.ts'
import { verify } from '../receipts.ts'
import { lookAtAll, lookAtEvent, withNames } from '../status.ts'
import type { System } from '../system.ts'
import { nameOf } from '../views/view.ts'
import { type Access, accessOf } from './access.ts'
import {
  ACTIONS,
  type ActionName,
  ALL_ACTIONS,
  checkSubject,
  EVENT_ACTIONS,
  LETTER_ACTIONS,
  type Subject,
} from './actions.ts'
import type { Html } from './html.ts'
import { attendeePage } from './pages/attendee.ts'
import { attendeesPage } from './pages/attendees.ts'
import { confirmPage, type Question } from './pages/confirm.ts'
import { deadLettersPage } from './pages/dead-letters.ts'
import { doctorPage } from './pages/doctor.ts'
import { erasuresPage } from './pages/erasures.ts'
import { eventPage } from './pages/event.ts'
import { eventsPage } from './pages/events.ts'
import { layout, type PageContext, refusal } from './pages/layout.ts'
import { logPage } from './pages/log.ts'

export interface DashboardOptions {
  system: System
  ledger: () => Promise<Ledger>
  readOnly: boolean
}

const LISTED = 100 // attendees of a page
const FAILURES = 200 // that are read for their errors
const RECEIPTS = 50
const LETTERS = 20
const ACTIONS_OF_EVENT = 10
const ACTIONS_OF_ALL = 200
const MOST_EVENTS = 20 // of one attendee

const ASSETS = {
  'page.css': 'text/css; charset=utf-8',
  'live.js': 'text/javascript; charset=utf-8',
  'icon.svg': 'image/svg+xml',
}

/** The pages and what their buttons do. `host` is where it is served, such as 127.0.0.1:40123. */
export function dashboardOf(
  { ledger: connect, readOnly, system }: DashboardOptions,
  host: () => string,
): { fetch: (request: Request) => Response | Promise<Response>; access: Access } {
  const app = new Hono({ strict: false })
  const outcomes = new Outcomes()
  const access = accessOf({ host, refuse: (context, why) => context.html(refusal('Not here', why)) })
  let connected: Promise<Ledger> | undefined
  const ledger = async () => {
    connected ??= connect()
    return connected.catch((error) => {
      connected = undefined // the next page tries again
      throw error
    })
  }
  const show = (
    context: Context,
    title: string,
    body: (page: PageContext) => Html,
    status: ContentfulStatusCode = 200,
  ) => {
    const page = { system, now: new Date(), readOnly, said: outcomes.of(context.req.query('said')) }
    return context.html(layout(title, body(page), page, context.req.path), status)
  }

  app.use(access.headers, access.addressed)
  app.get('/assets/:name', async (context) => {
    const name = context.req.param('name')
    if (!isAsset(name)) return context.notFound()
    const content = await readFile(new URL(`assets/${name}`, import.meta.url), 'utf8')
    return context.body(content, 200, { 'content-type': ASSETS[name] })
  })
  app.use(access.known)
  if (readOnly)
    app.use((context, next) => {
      if (context.req.method === 'GET') return next()
      return Promise.resolve(
        context.html(refusal('Read-only', 'This page was started with --read-only: nothing was done.'), 403),
      )
    })

  app.get('/', async (context) => {
    const seen = await lookAtAll(await ledger())
    return show(context, 'Events', (page) => eventsPage(seen, page))
  })

  app.get('/events/:event', async (context) => {
    const event = idIn(context, 'event')
    const open = await ledger()
    const { status, pace } = await lookAtEvent(open, event)
    const hasFailed = status.state !== 'unclaimed' && status.attendees.failed > 0
    const [failures, drift, actions] = await Promise.all([
      hasFailed ? open.jobsAfter(event, ['failed'], null, FAILURES) : [],
      open.drift(event),
      open.actions(event, ACTIONS_OF_EVENT),
    ])
    return show(context, nameOf(status), (page) =>
      eventPage(status, pace, { failures, drift, actions }, page),
    )
  })

  app.get('/events/:event/curve.svg', async (context) => {
    const { database, ...rest } = await ledger()
    const { status, pace } = await lookAtEvent(rest, idIn(context, 'event'))
    if (status.state === 'unclaimed') return context.notFound()
    const { curveOf } = await import('./chart.ts') // slow to load
    const curve = await database.curve({ event: status.event_id })
    const look = {
      theme: context.req.query('theme') === 'dark' ? ('dark' as const) : ('light' as const),
      size: context.req.query('size') === 'narrow' ? ('narrow' as const) : ('wide' as const),
    }
    const picture = curveOf(status, curve, pace, new Date(), look)
    return context.body(picture, 200, { 'content-type': 'image/svg+xml' })
  })

  app.get('/log', async (context) => {
    const actions = await (await ledger()).actions(null, ACTIONS_OF_ALL)
    return show(context, 'Log', (page) => logPage(actions, page))
  })

  app.get('/events/:event/attendees', async (context) => {
    const event = idIn(context, 'event')
    const { status } = await lookAtEvent(await ledger(), event)
    const { after, reason = null, search = null, state = null } = context.req.query()
    const { jobs, next } = search
      ? { jobs: await (await ledger()).find(event, search.trim(), system.nameColumn), next: null }
      : await someJobs(await ledger(), event, statesOf(state), reason, after && isId(after) ? after : null)
    const rows = await withNames(await ledger(), jobs, system.nameColumn)
    return show(context, 'Attendees', (page) =>
      attendeesPage(page, status, { state, reason, search, rows, next }),
    )
  })

  app.get('/attendees/:user', async (context) => {
    const user = idIn(context, 'user')
    const event = context.req.query('event')
    const of = { user, event: event && isId(event) ? event : null, most: MOST_EVENTS }
    const seen = await lookAtAttendee(await ledger(), of, system.nameColumn)
    return show(context, 'Attendee', (page) => attendeePage(user, seen, page))
  })

  app.get('/doctor', async (context) => {
    const { examine } = await import('../doctor/examination.ts') // slow to load
    const checks: Check[] = []
    for await (const check of examine(system)) checks.push(check)
    return show(context, 'Doctor', () => doctorPage(checks))
  })

  app.get('/dead-letters', async (context) => {
    const [queue, kept] = await Promise.all([
      countDeadLetters(system).catch((error) => wordsOf(error, system)), // one may be there while the other is away
      ledger().then((open) => open.deadLetters(LETTERS)),
    ])
    return show(context, 'Dead letters', (page) => deadLettersPage({ queue, ...kept }, page))
  })

  app.get('/erasures', async (context) => {
    const { database } = await ledger()
    const before = Number(context.req.query('before')) || null
    const { open, receipts } = await database.receipts({ before, page: RECEIPTS })
    const chain = await verify({ database }, receipts)
    const more = receipts.length === RECEIPTS ? (receipts.at(-1)?.position ?? null) : null
    return show(context, 'Erasures', (page) => erasuresPage({ open, receipts, chain, before: more }, page))
  })

  /** A button: its page asks, with what it would touch; sent from there, it acts, and says on the page it came from what it has done. */
  const button = (name: ActionName, path: string, backOf: (subject: Subject) => string) => {
    const { act, ask } = ACTIONS[name]
    app.get(path, async (context) => {
      if (readOnly) return context.html(refusal('Read-only', 'This page was started with --read-only.'), 403)
      const subject = subjectOf(context, context.req.query())
      const question = await ask({ ledger: await ledger(), system }, subject)
      return show(context, question.title, () => confirmPage(asked(question, context.req.path, subject)))
    })
    app.post(path, async (context) => {
      const subject = subjectOf(context, await context.req.parseBody())
      const done = await act({ ledger: await ledger(), system }, subject)
      if ('said' in done) return context.redirect(`${backOf(subject)}?said=${outcomes.keep(done.said)}`, 303)
      const to = context.req.path.replace(/[^/]+$/, done.ask.action)
      return show(context, done.ask.title, () => confirmPage(asked(done.ask, to, subject)))
    })
    const asked = (
      question: Omit<Question, 'to' | 'fields' | 'back'>,
      to: string,
      subject: Subject,
    ): Question => ({
      ...question,
      to,
      back: backOf(subject),
      fields: fieldsOf(subject),
    })
  }
  for (const name of EVENT_ACTIONS)
    button(name, `/events/:event/${name}`, ({ event, user }) =>
      user ? `/attendees/${user}` : `/events/${event}`,
    )
  for (const name of ALL_ACTIONS) button(name, `/${name}`, () => '/')
  for (const name of LETTER_ACTIONS) button(name, `/dead-letters/${name}`, () => '/dead-letters')

  app.notFound((context) => context.html(refusal('Not found', 'There is no such page.'), 404))
  app.onError((error, context) => {
    const known = explain(error, system)
    if (!(known instanceof OperatorError)) console.error(error)
    return context.html(refusal('That did not work', wordsOf(error, system)), statusOf(known, context))
  })
  return { fetch: (request) => app.fetch(request), access }
}

const MOST_OUTCOMES = 100

/** What actions have said, for the page that is shown after them. */
class Outcomes {
  readonly #said = new Map<string, string[]>()
  #last = 0

  keep(said: string[]): string {
    const key = String(++this.#last)
    this.#said.set(key, said)
    this.#said.delete(String(this.#last - MOST_OUTCOMES))
    return key
  }

  of(key: string | undefined): string[] {
    return this.#said.get(key ?? '') ?? []
  }
}

const isAsset = (name: string): name is keyof typeof ASSETS => Object.hasOwn(ASSETS, name)

function idIn(context: Context, name: string): string {
  const id = context.req.param(name) ?? ''
  if (isId(id)) return id.toLowerCase()
  throw new OperatorError(EXIT.notDone, `It is not an id such as 8c1e7a52-5c0d-4c55-9d8e-6b1e6d1b9a11: ${id}`)
}

/** What a button is about, by its path and what was sent. */
function subjectOf(context: Context, given: Record<string, unknown>): Subject {
  const text = (name: string) => {
    const value = given[name]
    return typeof value === 'string' && value !== '' ? value : null
  }
  const user = text('user')
  if (user !== null && !isId(user))
    throw new OperatorError(EXIT.notDone, `It is not the id of an attendee: ${user}`)
  const subject = {
    event: context.req.param('event') === undefined ? null : idIn(context, 'event'),
    user,
    reason: text('reason'),
    message: text('message'),
  }
  checkSubject(subject)
  return subject
}

const fieldsOf = ({ event: _, ...given }: Subject): Record<string, string> =>
  Object.fromEntries(
    Object.entries(given).flatMap(([name, value]) => (value === null ? [] : [[name, value]])),
  )

function statesOf(state: string | null): JobState[] | null {
  if (state === null) return null
  const wanted = state.split(',')
  return JOB_STATES.filter((each) => wanted.includes(each))
}

/** Jobs in these states and for this reason: those of one page, and after whom the next page begins. */
async function someJobs(
  ledger: Ledger,
  event: string,
  states: JobState[] | null,
  reason: string | null,
  after: string | null,
): Promise<{ jobs: Job[]; next: string | null }> {
  const jobs: Job[] = []
  let last = after
  for (;;) {
    const page = await ledger.jobsAfter(event, states, last)
    jobs.push(...page.filter((job) => reason === null || (job.reason ?? 'unknown') === reason))
    last = page.at(-1)?.user_id ?? null
    if (jobs.length > LISTED) return { jobs: jobs.slice(0, LISTED), next: jobs[LISTED - 1]?.user_id ?? null }
    if (last === null) return { jobs, next: null }
  }
}

function wordsOf(error: unknown, system: System): string {
  const known = explain(error, system)
  return known instanceof Error ? known.message : String(known)
}

function statusOf(error: unknown, { req }: Context): ContentfulStatusCode {
  if (!(error instanceof OperatorError)) return 500
  if (error.exitCode === EXIT.unreachable) return 502
  return req.method === 'GET' ? 404 : 409
}
