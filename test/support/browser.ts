import { type Browser, chromium, type Page } from 'playwright-core'
import { afterAll, onTestFinished, type TestContext } from 'vitest'

/** Where a browser may be: in its npm package, which is for Linux, or installed on this machine. */
const PLACES = [
  async () => (await import('@sparticuz/chromium')).default.executablePath(),
  async () => '/usr/bin/chromium',
  async () => '/usr/bin/google-chrome',
  async () => '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
]

let launched: Promise<Browser | string> | undefined

/** A browser, or why there is none. */
async function launch(): Promise<Browser | string> {
  const reasons: string[] = []
  for (const place of PLACES) {
    try {
      const args = process.getuid?.() === 0 ? ['--no-sandbox'] : [] // as root there is no sandbox
      return await chromium.launch({ executablePath: await place(), args })
    } catch (error) {
      reasons.push((error as Error).message.split('\n')[0] ?? '')
    }
  }
  return `no browser was found on this machine: ${reasons.join('; ')}`
}

afterAll(async () => {
  const browser = await launched
  if (typeof browser === 'object') await browser.close()
})

export interface Opened {
  page: Page
  /** What the browser has complained about: errors of scripts, and what the Content-Security-Policy has kept from it. */
  complaints: string[]
  /** Dialogs that a page has opened, as an injected alert would. */
  dialogs: string[]
}

/** A fresh browser for one test. Without one on this machine the test is skipped with a message; in CI it fails. */
export async function openBrowser(
  { skip }: TestContext,
  { width = 1280, colorScheme = 'light' }: { width?: number; colorScheme?: 'light' | 'dark' } = {},
): Promise<Opened> {
  launched ??= launch()
  const browser = await launched
  if (typeof browser === 'string') {
    if (process.env.CI) throw new Error(browser)
    return skip(browser)
  }
  const context = await browser.newContext({ viewport: { width, height: 800 }, colorScheme })
  onTestFinished(() => context.close())
  const page = await context.newPage()
  const complaints: string[] = []
  const dialogs: string[] = []
  page.on('console', (message) => {
    if (message.type() === 'error') complaints.push(message.text())
  })
  page.on('pageerror', (error) => complaints.push(error.message))
  page.on('dialog', (dialog) => {
    dialogs.push(dialog.message())
    void dialog.dismiss()
  })
  return { page, complaints, dialogs }
}
