import { once } from 'node:events'
import { startDashboard } from '../dashboard/server.ts'
import { EXIT, type ExitCode } from '../exit.ts'
import { type Session, titleOf } from '../session.ts'

export interface DashboardCommandOptions {
  readOnly?: boolean
  port?: number
}

const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP']

/** Serves the page until Ctrl-C. */
export async function dashboard(
  session: Session,
  { port, readOnly = false }: DashboardCommandOptions,
): Promise<ExitCode> {
  const { ledger, system, terminal } = session
  await ledger() // what keeps it from the database is said here, not in the browser
  const page = await startDashboard({ ledger, system, readOnly, ...(port && { port }) })
  const ended = Promise.race(ENDING.map((signal) => once(process, signal)))
  terminal.write(`${titleOf(session)}\n\nOpen this once, in your browser: ${page.link}\nCtrl-C ends it.\n`)
  await ended
  await page.close()
  return EXIT.done
}
