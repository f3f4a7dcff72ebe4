import type { html } from 'hono/html'

/** What the template `html` makes: every value in it is escaped. */
export type Html = ReturnType<typeof html>

export { html } from 'hono/html'
