import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'

export interface Child {
  process: ChildProcess
  /** What it has left in its temporary directory. */
  leftovers: () => Promise<string[]>
  /** Signals the process and its process group, as a terminal's Ctrl-C does. */
  signalGroup: (signal: NodeJS.Signals) => void
}

export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'event-indexer-test-'))
  onTestFinished(() => rm(directory, { recursive: true, force: true }))
  return directory
}

/** A directory that Postgres can enter also when it runs as nobody, for root. */
export async function openableDirectory(): Promise<string> {
  const directory = await temporaryDirectory()
  await chmod(directory, 0o755)
  return directory
}

/** Runs a fixture in a process and process group of its own, with a temporary directory of its own. */
export async function startChild(fixture: string): Promise<Child> {
  const directory = await temporaryDirectory()
  await chmod(directory, 0o1777) // as /tmp is
  const child = fork(fileURLToPath(new URL(`../fixtures/${fixture}`, import.meta.url)), {
    execArgv: ['--import', 'tsx'],
    env: { ...process.env, TMPDIR: directory },
    detached: true,
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  const ended = once(child, 'exit')
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return {
    process: child,
    leftovers: async () => (await readdir(directory)).filter((name) => name.startsWith('event-indexer-')),
    signalGroup: (signal) => process.kill(-(child.pid ?? Number.NaN), signal),
  }
}

/** Whether somebody listens on this port of 127.0.0.1. */
export const answers = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
