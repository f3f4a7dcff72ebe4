import CliTable from 'cli-table3'

export interface Table {
  head: string[]
  rows: (string | number)[][]
}

/** A table for a terminal: words to the left, figures to the right. */
export function textOf({ head, rows }: Table): string {
  const colAligns = head.map((_, column) =>
    rows.every(
      (row) => typeof row[column] === 'number' || /^[\d.,\s–-]+( ?[\w%×$/]+)?$/.test(String(row[column])),
    )
      ? ('right' as const)
      : ('left' as const),
  )
  const table = new CliTable({ head, colAligns, style: { head: [], border: [] } })
  table.push(...rows.map((row) => row.map(String)))
  return table.toString()
}

/** The same as Markdown, for the README. */
export function markdownOf({ head, rows }: Table): string {
  const line = (cells: (string | number)[]) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}
