import type { System } from '../../system.ts'
import { timeZone } from '../../words.ts'
import { type Html, html } from '../html.ts'

/** What every page needs besides what it shows. */
export interface PageContext {
  system: Pick<System, 'name' | 'nameColumn' | 'option' | 'supabaseUrl'>
  now: Date
  readOnly: boolean
  /** What an action that has just ended has to say. */
  said: string[]
}

const PAGES = [
  ['/', 'Events'],
  ['/dead-letters', 'Dead letters'],
  ['/erasures', 'Erasures'],
  ['/log', 'Log'],
  ['/doctor', 'Doctor'],
] as const

const head = (title: string): Html => html`
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>${title} · event-indexer</title>
    <link rel="stylesheet" href="/assets/page.css">`

/** A whole page. */
export function layout(
  title: string,
  body: Html,
  { system, now, readOnly, said }: PageContext,
  path = '',
): Html {
  return html`<!doctype html>
<html lang="en">
  <head>${head(title)}
    <link rel="icon" href="/assets/icon.svg">
    <script src="/assets/live.js" defer></script>
  </head>
  <body>
    <a class="skip" href="#main">To the content</a>
    <header>
      <p class="system"><img src="/assets/icon.svg" alt="event-indexer" width="24" height="24"> <strong>${system.name}</strong>
        ${readOnly ? html`<span class="badge">read-only</span>` : ''}</p>
      <nav aria-label="Pages">${PAGES.map(
        ([to, name]) => html`<a href="${to}" ${to === path ? html`aria-current="page"` : ''}>${name}</a>`,
      )}</nav>
    </header>
    <main id="main" tabindex="-1">
      ${said.length > 0 ? html`<div class="said" role="status">${said.map((line) => html`<p>${line}</p>`)}</div>` : ''}
      ${body}
    </main>
    <footer>
      <p><span id="as-of">As of ${now.toLocaleTimeString('en-GB')}, in ${timeZone}</span>, from ${system.supabaseUrl}
        <button type="button" id="live" hidden>Stop the updates</button></p>
      <p id="silence" role="status"></p>
    </footer>
  </body>
</html>`
}

/** A page that says why there is nothing else to see. */
export const refusal = (title: string, why: string): Html => html`<!doctype html>
<html lang="en">
  <head>${head(title)}</head>
  <body><main><h1>${title}</h1><p>${why}</p></main></body>
</html>`
