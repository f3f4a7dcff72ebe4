import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test, vi } from 'vitest'
import { answers, openableDirectory } from '../support/child.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** Starts the program of `npm start`. */
const start = (...args: string[]) => run('local/start.ts', ...args)

function run(...args: string[]) {
  const child = spawn(process.execPath, ['--import', 'tsx', ...args], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const closed = once(child, 'close')
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await closed
  })
  const said = { out: '', error: '' }
  child.stdout.setEncoding('utf8').on('data', (text) => {
    said.out += text
  })
  child.stderr.setEncoding('utf8').on('data', (text) => {
    said.error += text
  })
  return { child, said, code: async () => (await closed)[0] as number | null }
}

test('a file to search in that is missing is said before anything starts, with exit code 1', async () => {
  const { said, code } = start('--find', 'nowhere.jpg', 'nor-here.png')
  expect(await code()).toBe(1)
  expect(said.out).toBe('')
  expect(said.error).toBe(
    '\nNothing was started. Cannot search in\n' +
      '  nowhere.jpg: there is no such file or folder\n' +
      '  nor-here.png: there is no such file or folder\n',
  )
})

test('it runs to a good end: the event is completed, nobody is mistaken, and every change is followed', async () => {
  const { said, code } = start()
  expect(await code(), said.out).toBe(0)
  expect(said.out).toContain('The event is completed')
  expect(said.out).toContain('nobody is taken for somebody else')
  expect(said.out.match(/^ {2}guest \d\d .* {2}\d+\.\d s /gm)).toHaveLength(5)
  expect(said.error).toBe('')
})

test.each([
  ['while it starts', 'Starting the system', 130, 'SIGINT'],
  ['while it works', 'starts in ten minutes', 130, 'SIGINT'],
  ['by SIGTERM', 'starts in ten minutes', 143, 'SIGTERM'],
] as const)(
  'it stops when it is told to, at once and without a stack trace: %s',
  async (_what, line, exitCode, signal) => {
    const { child, said, code } = start()
    await vi.waitFor(() => expect(said.out).toContain(line), { timeout: 60_000 })
    child.kill(signal)
    await vi.waitFor(() => expect(said.out).toMatch(/\nstopping…\n$/), { timeout: 10_000 })
    expect(await code()).toBe(exitCode)
    expect(said.out).toMatch(/\nstopping…\n$/)
    expect(said.error).toBe('')
  },
)

test('it ends quietly when nobody reads any more, as with head', async () => {
  const { child, said, code } = start()
  await vi.waitFor(() => expect(said.out).toContain('Starting the system'), { timeout: 60_000 })
  child.stdout.destroy()
  expect(await code()).toBe(0)
  expect(said.error).toBe('')
})

test('npm run dev prints the address of the operator’s page, which answers until it is told to stop', async () => {
  const { child, said, code } = run(
    'local/dev.ts',
    '--engine',
    'synthetic',
    '--folder',
    await openableDirectory(),
  )
  await vi.waitFor(() => expect(said.out, said.error).toContain('/open/'), { timeout: 60_000 })
  const link = said.out.match(/http:\S+\/open\/\S+/)?.[0] ?? ''
  const opened = await fetch(link, { redirect: 'manual' })
  const cookie = opened.headers.get('set-cookie')?.split(';')[0] ?? ''
  const page = await fetch(new URL('/', link), { headers: { cookie } })
  expect(await page.text()).toContain('<strong>the local system</strong>')

  child.kill('SIGTERM')
  expect(await code()).toBe(143)
  expect(said.error).toBe('')
  expect(await answers(Number(new URL(link).port))).toBe(false)
})
