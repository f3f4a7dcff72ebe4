import { hostname, userInfo } from 'node:os'
import { describe, expect, it, onTestFinished } from 'vitest'
import { pause } from '../../cli/commands/pause.ts'
import { endedEvent, HOSTILE, openDashboard, openedDashboard } from '../support/dashboard.ts'
import { one } from '../support/ledger.ts'
import { openOperated, startCli } from '../support/operator.ts'
import { openStage } from '../support/stage.ts'

describe('who may see the page', () => {
  it('nobody without the cookie, and the link gives it once', async () => {
    const { environment } = await openOperated()
    const { link, send } = await openDashboard(environment)
    expect(await send('GET', '/')).toMatchObject({ status: 403 })
    const opened = await send('GET', link)
    expect(opened).toMatchObject({ status: 303, headers: { location: '/' } })
    expect(opened.headers['set-cookie']?.[0]).toMatch(
      /^event-indexer-\d+=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict$/,
    )
    const again = await send('GET', link)
    expect(again).toMatchObject({ status: 403 })
    expect(again.headers['set-cookie']).toBeUndefined()
    const cookie = opened.headers['set-cookie']?.[0]?.split(';')[0] ?? ''
    expect(await send('GET', '/', { headers: { cookie } })).toMatchObject({ status: 200 })
    expect(await send('GET', link, { headers: { cookie } })).toMatchObject({ status: 303 })
  })

  it('nobody with another token, which does not use up the right one', async () => {
    const { environment } = await openOperated()
    const { link, open, send } = await openDashboard(environment)
    for (const path of [
      '/open/',
      '/open/x',
      `${new URL(link).pathname}x`,
      new URL(link).pathname.slice(0, -1),
    ])
      expect(await send('GET', path)).toMatchObject({
        status: 403,
        body: expect.stringContaining('needs the link'),
      })
    expect(await open()).toMatch(/^event-indexer-/)
  })

  it('nobody by another name of this machine', async () => {
    const { environment } = await openOperated()
    const { link, open, origin, send } = await openDashboard(environment)
    const { host, port } = new URL(origin)
    for (const other of ['rebound.example', `rebound.example:${port}`, `localhost:${port}`, '127.0.0.1'])
      expect(await send('GET', link, { headers: { host: other } })).toMatchObject({ status: 403 })
    const cookie = await open()
    expect(await send('GET', '/', { headers: { cookie, host: `evil.example:${port}` } })).toMatchObject({
      status: 403,
    })
    expect(await send('GET', '/', { headers: { cookie, host } })).toMatchObject({ status: 200 })
  })

  it('nothing is embedded, loaded from elsewhere, run inline or kept', async () => {
    const { environment } = await openOperated()
    const { get } = await openedDashboard(environment)
    for (const path of ['/', '/assets/page.css', '/events/none']) {
      const { headers } = await get(path)
      expect(headers['content-security-policy']).toBe(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
      )
      expect(headers).toMatchObject({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' })
      expect(headers['access-control-allow-origin']).toBeUndefined()
    }
  })

  it('the command prints a link of 127.0.0.1, and ends with Ctrl-C', async () => {
    const { environment } = await openOperated()
    const { ended, output, pressCtrlC } = startCli(['dashboard', '--read-only'], environment)
    await expect.poll(output, { timeout: 20_000 }).toMatch(/http:\/\/127\.0\.0\.1:\d+\/open\/[\w-]{43}\n/)
    pressCtrlC()
    expect(await ended).toMatchObject({ code: 0 })
  })
})

describe('what is sent to the page', () => {
  it('from another origin does nothing, also with the cookie', async () => {
    const { environment, event, owner } = await endedEvent()
    const { post, get, origin } = await openedDashboard(environment)
    for (const from of [
      'http://evil.example',
      'null',
      origin.replace(/\d$/, (digit) => String((Number(digit) + 1) % 10)),
      '',
    ])
      expect(await post(`/events/${event}/pause`, {}, { origin: from })).toMatchObject({ status: 403 })
    expect(await one(owner, 'select count(*)::int from indexing.pauses')).toBe(0)
    expect((await get('/')).body).not.toContain('paused')
  })

  it('read-only does nothing, and has no buttons', async () => {
    const { environment, event, owner } = await endedEvent()
    const { get, post } = await openedDashboard(environment, { readOnly: true })
    for (const path of [`/events/${event}/pause`, '/pause', `/events/${event}/replay`]) {
      expect(await post(path)).toMatchObject({ status: 403 })
      expect(await get(path)).toMatchObject({ status: 403 })
    }
    expect(await one(owner, 'select count(*)::int from indexing.pauses')).toBe(0)
    for (const path of ['/', `/events/${event}`, '/dead-letters']) {
      const { body, status } = await get(path)
      expect(status).toBe(200)
      expect(body).not.toContain(' …</a>')
      expect(body).not.toContain('method="post"')
    }
  })

  it('is asked first, with how many it touches, then does what the command does', async () => {
    const { depth, environment, event, failed, owner, workQueueUrl } = await endedEvent()
    const { get, post } = await openedDashboard(environment)
    const question = await get(`/events/${event}/replay?reason=denied`)
    expect(question.body).toContain('1 attendee of 1 event would be tried again:')
    expect(question.body).toContain('Gala dinner: 1 × denied')
    expect(await depth(workQueueUrl)).toBe(0)
    const done = await post(`/events/${event}/replay`, { reason: 'denied' })
    expect(done).toMatchObject({ status: 303, headers: { location: `/events/${event}?said=1` } })
    const after = await get(done.headers.location ?? '')
    expect(after.body).toContain('1 attendee of 1 event queued again.')
    expect(after.body).toContain('1 message sent to the workers.')
    expect(await depth(workQueueUrl)).toBe(1)
    expect(await one(owner, 'select state from indexing.face_jobs where user_id = $1', [failed])).toBe('sent')
  })

  it('pauses and resumes an event', async () => {
    const { environment, event, owner } = await endedEvent()
    const { get, post } = await openedDashboard(environment)
    expect((await get(`/events/${event}/pause`)).body).toContain('Pause Gala dinner?')
    await post(`/events/${event}/pause`)
    expect(await one(owner, 'select event_id from indexing.pauses')).toBe(event)
    const { headers } = await post(`/events/${event}/resume`)
    expect((await get(headers.location ?? '')).body).toContain('The event is not paused any more.')
    expect(await one(owner, 'select count(*)::int from indexing.pauses')).toBe(0)
  })

  it('pauses everything, also while there is no event, and shows that on the page', async () => {
    const { environment, owner } = await openOperated()
    const { get, post } = await openedDashboard(environment)
    await post('/pause')
    const { body } = await get('/')
    expect(body).toContain('Everything is paused since')
    expect(body).toContain('Resume everything …')
    await post('/resume')
    expect((await get('/')).body).toContain('Pause everything …')
    expect(await one(owner, 'select count(*)::int from indexing.pauses')).toBe(0)
  })

  it('compares a collection, and repairs what differs after a second question', async () => {
    const stage = await openStage()
    onTestFinished(stage.close)
    const event = await stage.createEvent()
    const users = [await stage.createAttendee(event), await stage.createAttendee(event)]
    await stage.comeToRest()
    const { get, post } = await openedDashboard(stage.environment)
    expect((await get(`/events/${event}/audit`)).body).toContain('2 of them known')
    const fine = await post(`/events/${event}/audit`)
    expect((await get(fine.headers.location ?? '')).body).toContain('as it should be: 2 faces of attendees.')

    await stage.dropCollection(event)
    const question = await post(`/events/${event}/audit`)
    expect(question).toMatchObject({
      status: 200,
      body: expect.stringContaining('The collection differs. Repair it?'),
    })
    expect(question.body).toContain(`action="/events/${event}/repair"`)
    expect(stage.facesOf(event)).toBeUndefined()
    await post(`/events/${event}/repair`)
    await stage.comeToRest()
    expect(
      stage
        .facesOf(event)
        ?.map(({ user }) => user)
        .toSorted(),
    ).toEqual(users.toSorted())
    expect((await get('/log')).body).toContain('<td>repair</td>')
  })

  it('that cannot be done says why', async () => {
    const { environment, event, indexed } = await endedEvent()
    const { get, post } = await openedDashboard(environment)
    const nothing = await post(`/events/${event}/replay`, { user: indexed })
    expect(nothing).toMatchObject({ status: 409 })
    expect(nothing.body).toContain('Nothing to replay: the attendee is indexed.')
    expect(await post(`/events/${event}/replay`, { reason: 'bored' })).toMatchObject({ status: 409 })
    expect(await get(`/events/${indexed}`)).toMatchObject({ status: 404 })
    expect(await get('/events/12')).toMatchObject({ status: 404 })
  })
})

describe('what the page shows', () => {
  it('says of an event who failed, why and what to do, and whether it may open', async () => {
    const { environment, event } = await endedEvent()
    const { get } = await openedDashboard(environment)
    const { body } = await get(`/events/${event}`)
    expect(body).toContain(
      '<strong>NO GO</strong> <span>Its indexing_status is failed: the app recognises nobody; 1 attendee failed.</span>',
    )
    expect(body).toContain('1 × the worker&#39;s role lacks a permission')
    expect(body).toContain('AccessDenied: Gala dinner')
    expect(body).toContain('Deploy the roles of serverless.yml again, then replay.')
    expect(body).toContain('Your face in the profile photo is blurred. Choose a sharp one.')
  })

  it('draws the curve of done against the quota and the start, for light and dark', async () => {
    const { environment, event } = await endedEvent()
    const { get } = await openedDashboard(environment)
    const [light, dark] = await Promise.all(
      ['light', 'dark'].map((theme) => get(`/events/${event}/curve.svg?theme=${theme}`)),
    )
    expect(light?.headers['content-type']).toBe('image/svg+xml')
    for (const word of ['done', 'allowed by the quota']) expect(light?.body).toContain(`>${word}</text>`)
    expect(dark?.body).not.toBe(light?.body)
    expect((await get(`/events/${event}`)).body).toContain(`/events/${event}/curve.svg?theme=dark`)
  })

  it('keeps a log of who did what, by the page and by commands alike', async () => {
    const { environment, event, failed, run } = await endedEvent()
    const { get, post } = await openedDashboard(environment)
    await post(`/events/${event}/replay`, { user: failed })
    await run(pause, {})
    const entries = (await get('/log')).body.match(/<td>(pause|replay)<\/td>/g)
    expect(entries).toEqual(['<td>pause</td>', '<td>replay</td>'])
    const { body } = await get(`/events/${event}`)
    expect(body).toContain(`${userInfo().username}@${hostname()}`)
    expect(body).toMatch(new RegExp(`<td>replay</td>[^]*${failed}[^]*<td>1</td>`))
  })

  it('finds attendees by state, by reason and by the beginning of an id', async () => {
    const { blurred, environment, event, failed, indexed } = await endedEvent()
    const { get } = await openedDashboard(environment)
    const listed = async (query: string) => {
      const { body } = await get(`/events/${event}/attendees?${query}`)
      return [indexed, blurred, failed].filter((user) => body.includes(`/attendees/${user}`))
    }
    expect(await listed('')).toEqual([indexed, blurred, failed])
    expect(await listed('state=indexed')).toEqual([indexed])
    expect(await listed('state=skipped,failed')).toEqual([blurred, failed])
    expect(await listed('state=failed&reason=denied')).toEqual([failed])
    expect(await listed('state=failed&reason=unclear')).toEqual([])
    expect(await listed(`search=${failed.slice(0, 13)}`)).toEqual([failed])
  })

  it('finds attendees by name, and shows names, if the operator has said which column holds them', async () => {
    const { environment, event, failed, indexed, owner } = await endedEvent()
    await owner.query(`update profiles set full_name = 'Ada Lovelace' where user_id = $1`, [failed])
    const anonymous = await openedDashboard(environment)
    const search = `/events/${event}/attendees?search=lovel`
    expect((await anonymous.get(search)).body).toContain('Nobody.')
    expect((await anonymous.get(`/attendees/${failed}`)).body).not.toContain('Lovelace')
    const { get } = await openedDashboard({ ...environment, ATTENDEE_NAME_COLUMN: 'full_name' })
    const { body } = await get(search)
    expect(body).toContain('Ada Lovelace')
    expect(body).not.toContain(indexed)
    expect((await get(`/attendees/${failed}`)).body).toContain('<h1>Attendee Ada Lovelace</h1>')
  })

  it('goes on with a long list where it ended', async () => {
    const { app, environment, owner, prepare } = await openOperated()
    const event = await app.event()
    await app.consent(event, await app.users(230))
    await prepare()
    const { get } = await openedDashboard(environment)
    const seen: string[] = []
    let path: string | undefined = `/events/${event}/attendees?state=queued`
    for (let pages = 0; path && pages < 4; pages++) {
      const { body } = await get(path)
      seen.push(...[...body.matchAll(/\/attendees\/([\w-]{36})\?/g)].map(([, user = '']) => user))
      path = body.match(/href="([^"]*after=[^"]*)"/)?.[1]?.replaceAll('&amp;', '&')
    }
    expect(seen).toHaveLength(230)
    expect(new Set(seen).size).toBe(230)
    expect(await one(owner, 'select count(*)::int from indexing.face_jobs')).toBe(230)
  })

  it('tells what happened to one attendee, attempt by attempt', async () => {
    const { environment, event, failed } = await endedEvent()
    const { get } = await openedDashboard(environment)
    const { body } = await get(`/attendees/${failed}`)
    expect(body).toMatch(/<strong>retry<\/strong>\s+<span class="faint">\(denied\)<\/span>/)
    expect(body).toContain(`/events/${event}/replay?user=${failed}`)
  })

  it('lists dead letters, and acknowledges them', async () => {
    const { environment, keepDeadLetters } = await openOperated()
    const letter = { message_id: 'letter/1', body: `<b>${HOSTILE}`, attributes: {}, problem: HOSTILE }
    await keepDeadLetters([letter, { ...letter, message_id: 'letter/2' }])
    const { get, post } = await openedDashboard(environment)
    const { body } = await get('/dead-letters')
    expect(body).toContain('In the dead-letter queue: 0 waiting')
    expect(body).toContain('2 messages, the latest first')
    expect(body).not.toMatch(/<script>alert|<img src=x|<b>/)
    expect((await get('/dead-letters/acknowledge?message=letter%2F1')).body).toContain(
      '1 message (letter/1) would be',
    )
    await post('/dead-letters/acknowledge', { message: 'letter/1' })
    expect((await get('/dead-letters')).body).toContain('1 message, the latest first')
  })

  it('lists erasures with their time from the change to the proof', async () => {
    const { app, environment, event, indexed, processChanges } = await endedEvent()
    await app.consent(event, [indexed], false)
    await processChanges()
    const { get } = await openedDashboard(environment)
    const { body } = await get('/erasures')
    expect(body).toContain('1 erasure not proven')
    expect(body).toContain(`/attendees/${indexed}`)
    expect(body).toContain('not deleted yet')
    expect(body).toContain('The chain of receipts: 0 receipts to this day.')
  })

  it('says that the database is away', async () => {
    const { environment } = await openOperated()
    const { get } = await openedDashboard({ ...environment, SUPABASE_URL: 'http://127.0.0.1:9' })
    const { body, status } = await get('/')
    expect(status).toBe(502)
    expect(body).toContain('No answer from http://127.0.0.1:9.')
  })

  it('shows a hostile name as text, on every page', async () => {
    const { environment, event, failed } = await endedEvent(HOSTILE)
    const { get } = await openedDashboard(environment)
    for (const path of [
      '/',
      `/events/${event}`,
      `/events/${event}/attendees`,
      `/events/${event}/replay`,
      `/attendees/${failed}`,
    ]) {
      const { body, status } = await get(path)
      expect(status).toBe(200)
      expect(body).toContain('&lt;script&gt;alert(1)&lt;/script&gt;')
      for (const raw of ['<script>alert', '<img src=x', '\u001b', '\u202e']) expect(body).not.toContain(raw)
    }
    const wanted = `/events/${event}/attendees?search=${encodeURIComponent('"><script>alert(3)</script>')}`
    expect((await get(wanted)).body).not.toContain('<script>alert')
  })
})
