import { type Html, html } from '../html.ts'

/** What is asked before anything is done. */
export interface Question {
  title: string
  /** What it would touch, and how many. */
  lines: string[]
  /** What is sent along, and where to. */
  fields: Record<string, string>
  to: string
  /** What the button says; null: there is nothing to do. */
  button: string | null
  back: string
}

export const confirmPage = ({ back, button, fields, lines, title, to }: Question): Html =>
  html`<h1>${title}</h1>
    ${lines.map((line) => html`<p>${line}</p>`)}
    <form method="post" action="${to}" class="actions">
      ${Object.entries(fields).map(([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`)}
      ${button === null ? '' : html`<button>${button}</button>`}
      <a class="button" href="${back}">${button === null ? 'Back' : 'Leave it'}</a>
    </form>`
