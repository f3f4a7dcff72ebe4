import { type Browser, chromium } from 'playwright-core'

/** Where a browser may be: in its npm package, which is for Linux, or installed on this machine. */
const PLACES = [
  async () => (await import('@sparticuz/chromium')).default.executablePath(),
  async () => '/usr/bin/chromium',
  async () => '/usr/bin/google-chrome',
  async () => '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
]

/** A browser, or why there is none. */
export async function launchBrowser(env: NodeJS.ProcessEnv = process.env): Promise<Browser | string> {
  const reasons: string[] = []
  for (const place of PLACES) {
    try {
      const args = process.getuid?.() === 0 ? ['--no-sandbox'] : [] // as root there is no sandbox
      return await chromium.launch({ executablePath: await place(), args, env })
    } catch (error) {
      reasons.push((error as Error).message.split('\n')[0] ?? '')
    }
  }
  return `no browser was found on this machine: ${reasons.join('; ')}`
}
