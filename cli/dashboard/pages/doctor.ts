import type { Check } from '../../doctor/check.ts'
import { amount } from '../../words.ts'
import { type Html, html } from '../html.ts'
import { oneLine, table } from './parts.ts'

const BADGES: Record<Check['verdict'], string> = {
  ok: 'completed',
  problem: 'failed',
  note: 'paused',
  unknown: 'paused',
}

/** What an examination of the whole system has found, problems first, with what to do about each. */
export function doctorPage(checks: Check[]): Html {
  const problems = checks.filter(({ verdict }) => verdict === 'problem')
  const others = checks.filter(({ verdict }) => verdict !== 'problem')
  return html`<h1>Doctor</h1>
    ${
      problems.length === 0
        ? html`<p class="calm">No problem found.</p>`
        : html`<p class="bad">${amount(problems.length, 'problem')} found.</p>`
    }
    ${table(
      'Looked at when this page was asked for, with your own rights',
      ['Verdict', 'Looked at', 'Found, and what to do'],
      [...problems, ...others].map(
        ({ check, found, todo, verdict }) => html`<tr>
        <td><span class="badge ${BADGES[verdict]}">${verdict}</span></td>
        <td>${check}</td>
        <td>${oneLine(found)}${todo === null ? '' : html`<br><span class="faint">→ ${oneLine(todo)}</span>`}</td>
      </tr>`,
      ),
    )}`
}
