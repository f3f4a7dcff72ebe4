import type { Check } from '../doctor/check.ts'
import { examine } from '../doctor/examination.ts'
import { EXIT, type ExitCode } from '../exit.ts'
import { type DocumentHead, documentHead, type Session, titleOf } from '../session.ts'
import { jsonOf, plain, type Style, type Terminal, wrap } from '../terminal.ts'
import { amount } from '../words.ts'

export interface DoctorOptions {
  json?: boolean
}

/** What `--json` prints: fields are added to it, never changed. */
export interface DoctorDocument extends DocumentHead {
  /** Whether there is no problem. */
  healthy: boolean
  checks: Check[]
}

/** Tells what an examination of the whole system finds. */
export async function doctor(session: Session, { json = false }: DoctorOptions): Promise<ExitCode> {
  const { system, terminal } = session
  if (!json) terminal.write(`${titleOf(session)}\n\n`)
  const checks: Check[] = []
  for await (const check of examine(system)) {
    checks.push(check)
    if (!json) terminal.write(`${viewCheck(check, terminal)}\n`)
  }
  const problems = checks.filter(({ verdict }) => verdict === 'problem').length
  if (json) {
    const document: DoctorDocument = {
      ...documentHead(session),
      healthy: problems === 0,
      checks,
    }
    terminal.write(`${jsonOf(document, 2)}\n`)
  } else
    terminal.write(
      problems === 0
        ? `\n${terminal.paint('green', 'No problem found.')}\n`
        : `\n${terminal.paint('red', `${amount(problems, 'problem')} found.`)}\n`,
    )
  return problems === 0 ? EXIT.done : EXIT.failed
}

const STYLES: Record<Check['verdict'], Style> = {
  ok: 'green',
  problem: 'red',
  note: 'yellow',
  unknown: 'yellow',
}
const INDENT = 24

function viewCheck({ check, verdict, found, todo }: Check, { columns, paint }: Terminal): string {
  const head = `${paint(STYLES[verdict], verdict.padEnd(9))}${check.padEnd(INDENT - 9)}`
  const lines = [head + wrap(plain(found), columns, INDENT).trimStart()]
  if (todo) lines.push(paint('dim', wrap(`→ ${plain(todo)}`, columns, INDENT)))
  return lines.join('\n')
}
