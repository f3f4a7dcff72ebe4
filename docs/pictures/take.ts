import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Browser } from 'playwright-core'
import sharp from 'sharp'
import { type Dashboard, startDashboard } from '../../cli/dashboard/server.ts'
import { sessionOf } from '../../cli/session.ts'
import { findSystem } from '../../cli/system.ts'
import { terminalOf } from '../../cli/terminal.ts'
import type { NewAttendee } from '../../local/app.ts'
import type { Deployment } from '../../local/deployment.ts'
import { type LocalSystem, startLocalSystem } from '../../local/system.ts'
import { launchBrowser } from '../../test/support/chromium.ts'

// npm run pictures: takes the pictures of the operator's page that README.md and docs/operations.md show. All events and people are
// made up, and photos are text, which the synthetic engine takes for faces.

const MINUTE = 60_000
const MOST_KILOBYTES = 120

interface Picture {
  /** Its file beside this one. */
  file: string
  path: string
  width: number
  /** What of the page is shown, from its top; all of it unless given. */
  height?: number
  colorScheme: 'light' | 'dark'
}

async function main(): Promise<void> {
  const browser = await launchBrowser({ ...process.env, FONTCONFIG_FILE: await nameFont() })
  if (typeof browser === 'string') throw new Error(browser)
  const system = await startLocalSystem({
    engine: 'synthetic',
    tps: 6,
    photoEvents: false,
    change: failAtOnce,
  })
  const page = await servePage(system)
  try {
    await takeAll(system, page, browser)
  } finally {
    await page.close()
    await browser.close()
    await system.close()
  }
}

/** Has the pages drawn with the font of the browser's package, which looks more like those of people's own machines than a server's. */
async function nameFont(): Promise<string> {
  const file = join(await mkdtemp(join(tmpdir(), 'event-indexer-pictures-')), 'fonts.conf')
  const fonts = { 'system-ui': 'Open Sans', 'sans-serif': 'Open Sans', monospace: 'DejaVu Sans Mono' }
  const names = Object.entries(fonts).map(
    ([name, font]) => `<alias><family>${name}</family><prefer><family>${font}</family></prefer></alias>`,
  )
  const folders = [join(tmpdir(), 'fonts'), '/usr/share/fonts'].map((folder) => `<dir>${folder}</dir>`)
  await writeFile(
    file,
    `<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>${[...folders, ...names].join('')}</fontconfig>`,
  )
  return file
}

/** Attendees fail after their attempts without the minutes between these. */
const failAtOnce = ({ functions }: Deployment) => {
  for (const { environment } of functions) environment.MAX_RECEIVE_COUNT = '1'
}

async function servePage({ environment }: LocalSystem): Promise<Dashboard> {
  Object.assign(process.env, environment) // for the AWS clients
  const system = {
    ...(await findSystem(undefined, environment)),
    name: 'stage prod',
    option: ' --stage prod',
  }
  const { ledger } = sessionOf(system, terminalOf(process.stdout, process.env))
  return startDashboard({ system, ledger, readOnly: false })
}

async function takeAll(system: LocalSystem, page: Dashboard, browser: Browser): Promise<void> {
  const { app, functions, rekognition } = system
  const take = taker(browser, page)
  const create = (name: string, minutes: number) =>
    app.createEvent({ name, startsAt: new Date(Date.now() + minutes * MINUTE) })

  const denied = new Set<string>()
  rekognition.setFaults((call) =>
    call.operation === 'IndexFaces' && denied.has(call.input.ExternalImageId ?? '')
      ? { type: 'error', strikes: 'before', error: 'AccessDeniedException' }
      : undefined,
  )
  const jazz = await create('Jazz at the old gasworks', 12)
  await app.addAttendees(jazz, [...people(36), ...people(2, 'blurred')])
  const reunion = await create('Reunion of the class of 2001', 16)
  const failing = await app.addAttendees(reunion, [
    ...people(52),
    ...people(4, 'turned'),
    ...people(2, 'no-face'),
    { name: 'late upload', photoIsMissing: true },
  ])
  for (const user of failing.slice(0, 9)) denied.add(user)
  await functions.invoke('scheduler', {})
  await until(async () => (await app.statusOf(jazz)) === 'completed')
  await until(async () => (await app.statusOf(reunion)) === 'failed')
  await take({
    file: 'failed.png',
    path: `/events/${reunion}`,
    width: 900,
    colorScheme: 'light',
  })

  const gala = await create('Harbour gala', 2.5)
  await app.addAttendees(gala, people(420))
  const film = await create('Film night', 170)
  await app.addAttendees(film, people(64))
  await functions.invoke('scheduler', {})
  await sleep(35_000)
  await take({
    file: 'indexing.png',
    path: `/events/${gala}`,
    width: 900,
    colorScheme: 'light',
    height: 1046,
  })
  await take({ file: 'events.png', path: '/', width: 390, colorScheme: 'dark', height: 1436 })
}

let number = 0

/** So many people with a photo each; one that begins with a flaw is of no use. */
const people = (count: number, flaw = ''): NewAttendee[] =>
  Array.from({ length: count }, () => {
    number++
    return { name: `guest ${number}`, photo: `${flaw} face ${number}` }
  })

async function until(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo())) await sleep(200)
}

/** Takes pictures in one browser context after another, all of which have the cookie of the first. */
function taker(browser: Browser, { link, origin }: Dashboard) {
  let state: Awaited<ReturnType<Awaited<ReturnType<Browser['newContext']>>['storageState']>> | undefined
  return async ({ colorScheme, file, height, path, width }: Picture): Promise<void> => {
    const context = await browser.newContext({
      viewport: { width, height: height ?? 800 },
      colorScheme,
      deviceScaleFactor: 1.5,
      ...(state && { storageState: state }),
    })
    const tab = await context.newPage()
    if (!state) await tab.goto(link)
    state ??= await context.storageState()
    await tab.goto(origin + path)
    await tab.waitForLoadState('networkidle')
    const picture = await tab.screenshot({ fullPage: height === undefined })
    await context.close()
    const small = await sharp(picture).png({ palette: true, colours: 16, dither: 0, effort: 10 }).toBuffer()
    await writeFile(new URL(file, import.meta.url), small)
    const kilobytes = Math.ceil(small.length / 1000)
    console.log(`docs/pictures/${file}  ${kilobytes} KB`)
    if (kilobytes > MOST_KILOBYTES) console.error(`${file} has more than ${MOST_KILOBYTES} KB`)
  }
}

await main()
