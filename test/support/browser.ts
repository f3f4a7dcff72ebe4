import type { Browser, Page } from 'playwright-core'
import { afterAll, onTestFinished, type TestContext } from 'vitest'
import { launchBrowser } from './chromium.ts'

let launched: Promise<Browser | string> | undefined

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
  launched ??= launchBrowser()
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
