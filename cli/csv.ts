import { plain } from './terminal.ts'

/**
 * A table as CSV by RFC 4180. A value that a spreadsheet would take for a formula gets an apostrophe in front, since names,
 * keys and errors are other people's text; control characters are left out.
 */
export const csvOf = (head: string[], rows: (string | null)[][]): string =>
  [head, ...rows].map((row) => `${row.map(cellOf).join(',')}\r\n`).join('')

function cellOf(value: string | null): string {
  const text = plain(value ?? '')
  const safe = /^[=+\-@]/.test(text) ? `'${text}` : text
  return /[",]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}
