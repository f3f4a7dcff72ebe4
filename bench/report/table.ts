import CliTable from 'cli-table3'

export interface Table {
  head: string[]
  rows: (string | number)[][]
}

/** A table for a terminal: words to the left, figures to the right. */
export function textOf({ head, rows }: Table): string {
  const colAligns = figureColumns({ head, rows }).map((isFigure) => (isFigure ? 'right' : 'left'))
  const table = new CliTable({ head, colAligns, style: { head: [], border: [] } })
  table.push(...rows.map((row) => row.map(String)))
  return table.toString()
}

/** Which columns have figures and nothing else, with or without a unit. */
const figureColumns = ({ head, rows }: Table): boolean[] =>
  head.map((_, column) =>
    rows.every(
      (row) =>
        typeof row[column] === 'number' || /^\$?[\d.,\s–-]+( ?[\w%×$/]+)?$|^$/.test(String(row[column])),
    ),
  )

/** The same as Markdown. */
export function markdownOf({ head, rows }: Table): string {
  const cell = (content: string | number) => String(content).replaceAll('|', '\\|').replaceAll('\n', '<br>')
  const line = (cells: (string | number)[]) => `| ${cells.map(cell).join(' | ')} |`
  const rule = figureColumns({ head, rows }).map((isFigure) => (isFigure ? '--:' : '---'))
  return [line(head), line(rule), ...rows.map(line)].join('\n')
}
