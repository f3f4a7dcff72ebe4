import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import AxeBuilder from '@axe-core/playwright'
import type { Page } from 'playwright-core'
import { expect, it, onTestFinished } from 'vitest'
import { openBrowser } from '../support/browser.ts'
import { endedEvent, HOSTILE, openDashboard } from '../support/dashboard.ts'
import { freshSystem } from '../support/system.ts'

const people = (count: number) =>
  Array.from({ length: count }, (_, index) => ({ name: `${index}`, photo: `face ${index}` }))

/** The paths of all pages about an event and one of its attendees. */
const pagesOf = (event: string, user: string) => [
  '/',
  `/events/${event}`,
  `/events/${event}/attendees`,
  `/events/${event}/replay`,
  `/attendees/${user}`,
  '/dead-letters',
  '/erasures',
  '/log',
]

const overflowOf = (page: Page) =>
  page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth')

it('an event is followed while it is indexed, without a reload', async (context) => {
  const { complaints, page } = await openBrowser(context)
  const { app, environment, functions } = await freshSystem({ tps: 4, photoEvents: false })
  const event = await app.createEvent({ name: 'Gala dinner', startsAt: new Date(Date.now() + 600_000) })
  await app.addAttendees(event, people(30))
  const { link, origin } = await openDashboard(environment)
  await page.goto(link)
  expect(page.url()).toBe(`${origin}/`)
  await page.evaluate('window.isTheSame = true')
  const named = page.locator('.card').getByRole('link', { name: 'Gala dinner' })
  await named.waitFor()
  await functions.invoke('scheduler', {})

  const done = page.locator('.card .progress span').first()
  const seen = new Set<number>()
  await expect
    .poll(
      async () => {
        seen.add(Number((await done.textContent().catch(() => ''))?.match(/^(\d+) of 30 done$/)?.[1] ?? 0))
        return page.locator('.card .badge').textContent()
      },
      { timeout: 60_000, interval: 200 },
    )
    .toBe('completed')
  expect([...seen].some((count) => count > 0 && count < 30)).toBe(true)
  expect(await page.evaluate('window.isTheSame')).toBe(true)

  await named.click()
  expect(await page.locator('.verdict').textContent()).toBe('GO 30 attendees indexed.')
  const width = () => page.evaluate<number>(`document.querySelector('img.chart').naturalWidth`)
  await expect.poll(width, { timeout: 15_000 }).toBeGreaterThan(0) // it was drawn
  expect(complaints).toEqual([])
})

it('a failure is explained, replayed after a question, and seen to be over', async (context) => {
  const { complaints, page } = await openBrowser(context)
  const { environment, event, startWorker } = await endedEvent()
  const { link, origin } = await openDashboard(environment)
  await page.goto(link)
  await page.locator('.concerns').getByText('FAILED').waitFor()
  await page.getByRole('button', { name: 'Stop the updates' }).waitFor()
  await page.getByRole('link', { name: 'Gala dinner' }).first().click()
  await page.getByText('Deploy the roles of serverless.yml again, then replay.').waitFor()
  await page.getByRole('link', { name: 'Replay who failed …' }).click()
  await page.getByText('1 attendee of 1 event would be tried again:').waitFor()
  expect(await page.getByRole('button', { name: 'Stop the updates' }).isVisible()).toBe(false) // nothing changes here
  await page.getByRole('button', { name: 'Replay' }).click()
  await page.getByText('1 attendee of 1 event queued again.').waitFor()
  expect(page.url()).toBe(`${origin}/events/${event}?said=1`)
  startWorker()
  await page.getByText('2 attendees indexed, 1 skipped.').waitFor({ timeout: 30_000 })
  await page.getByRole('cell', { name: 'replay' }).waitFor()
  expect(complaints).toEqual([])
})

it('an attendee is found by the keyboard alone, and focus stays while the page is brought up to date', async (context) => {
  const { page } = await openBrowser(context)
  const { environment, event, failed } = await endedEvent()
  const { link, origin } = await openDashboard(environment)
  await page.goto(link)
  await page.goto(`${origin}/events/${event}`)
  await page.keyboard.press('Tab')
  expect(await page.evaluate('document.activeElement.textContent')).toBe('To the content')
  const focused = () =>
    page.evaluate<string>('document.activeElement.id || document.activeElement.textContent.trim()')
  for (let presses = 0; (await focused()) !== 'search' && presses < 30; presses++)
    await page.keyboard.press('Tab')
  await page.keyboard.type(failed.slice(0, 8))
  await sleep(2500)
  expect(await page.inputValue('#search')).toBe(failed.slice(0, 8))
  await page.keyboard.press('Enter')
  await page.getByRole('link', { name: failed }).focus()
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'The last attempts, the latest last' }).waitFor()
  const again = page.getByRole('link', { name: 'Look at them again …' })
  await again.focus()
  await sleep(4500)
  expect(await focused()).toBe('Look at them again …')
})

it.for(['light', 'dark'] as const)(
  'no page is wider than a phone, and none fails the rules of accessibility, in %s',
  async (colorScheme, context) => {
    const { complaints, page } = await openBrowser(context, { width: 360, colorScheme })
    const { app, environment, event, failed, keepDeadLetters, processChanges } = await endedEvent(
      'A name as long as names get when nobody stops them: TheLongestWordThatThereIsInAnyNameOfAnEvent',
    )
    await app.consent(event, [failed], false)
    await processChanges()
    await keepDeadLetters([
      { message_id: 'a'.repeat(60), body: 'b'.repeat(500), attributes: {}, problem: 'c'.repeat(300) },
    ])
    const { link, origin } = await openDashboard(environment)
    await page.goto(link)
    for (const path of pagesOf(event, failed)) {
      await page.goto(origin + path)
      expect([path, await overflowOf(page)]).toEqual([path, 0])
      const { violations } = await new AxeBuilder({ page }).analyze()
      expect([path, violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])]).toEqual([
        path,
        [],
      ])
    }
    const ink = await page.evaluate<string>('getComputedStyle(document.body).backgroundColor')
    expect(ink).toBe(colorScheme === 'dark' ? 'rgb(20, 23, 28)' : 'rgb(255, 255, 255)')
    expect(complaints).toEqual([])
  },
)

it('a wrong token, or a link that was used already, shows nothing of the system', async (context) => {
  const [one, other] = [await openBrowser(context), await openBrowser(context)]
  const { environment } = await endedEvent()
  const { link, origin } = await openDashboard(environment)
  await one.page.goto(`${origin}/open/${'x'.repeat(43)}`)
  expect(await one.page.locator('main').textContent()).toContain(
    'This needs the link that the program printed',
  )
  await one.page.goto(link)
  await one.page.getByText('Gala dinner').first().waitFor()
  for (const address of [link, origin]) {
    await other.page.goto(address)
    expect(await other.page.locator('main').textContent()).toContain(
      'This needs the link that the program printed',
    )
    expect(await other.page.content()).not.toContain('Gala')
  }
  expect(await one.page.evaluate('document.cookie')).toBe('')
})

it('a page of another origin can neither read nor act nor embed, although it has the cookie sent', async (context) => {
  const { page } = await openBrowser(context)
  const { environment, event, owner } = await endedEvent()
  const { link, origin } = await openDashboard(environment)
  const theirs = await serving(`<!doctype html><title>theirs</title><iframe src="${origin}/"></iframe>
    <form method="post" action="${origin}/events/${event}/pause"><button>A prize</button></form>`)
  await page.goto(link)
  await page.goto(theirs) // another port of 127.0.0.1, which is the same site for cookies
  const read = await page.evaluate(
    `fetch('${origin}/', { credentials: 'include' }).then((answer) => answer.text(), () => 'refused')`,
  )
  expect(read).toBe('refused')
  expect(await page.frames()[1]?.content()).not.toContain('Gala')
  await page.getByRole('button', { name: 'A prize' }).click()
  await page.getByText('This was not sent by this page, so nothing was done.').waitFor()
  expect((await owner.query('select from indexing.pauses')).rowCount).toBe(0)
})

/** A page of somebody else's on this machine, for the length of a test. */
async function serving(content: string): Promise<string> {
  const server = createServer((_, response) => response.setHeader('content-type', 'text/html').end(content))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.close()
    server.closeAllConnections()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

it('the page says since when nobody answers', async (context) => {
  const { page } = await openBrowser(context)
  const { environment } = await endedEvent()
  const { close, link } = await openDashboard(environment)
  await page.goto(link)
  expect(await page.locator('#silence').textContent()).toBe('')
  await close()
  await page
    .getByText(/^No answer since \d\d:\d\d:\d\d: still waiting for it\.$/)
    .waitFor({ timeout: 15_000 })
  await page.getByText('Gala dinner').first().waitFor() // what was seen last stays
})

it('a hostile name is text, and runs nothing', async (context) => {
  const { complaints, dialogs, page } = await openBrowser(context)
  const { environment, event, failed } = await endedEvent(HOSTILE)
  const { link, origin } = await openDashboard(environment)
  await page.goto(link)
  for (const path of pagesOf(event, failed)) await page.goto(origin + path)
  await page.goto(`${origin}/events/${event}`)
  await sleep(2500) // the script has put its parts in place once
  expect(await page.locator('h1').textContent()).toContain('<script>alert(1)</script><img src=x')
  expect(await page.locator('main script, main img:not(.chart)').count()).toBe(0)
  expect({ complaints, dialogs }).toEqual({ complaints: [], dialogs: [] })
})
