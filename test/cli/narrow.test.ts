import { expect, it } from 'vitest'
import { connectLedger } from '../../cli/ledger.ts'
import { lookAt, lookAtDetails, lookAtEvent } from '../../cli/status.ts'
import type { Terminal } from '../../cli/terminal.ts'
import { viewEvent } from '../../cli/views/event.ts'
import { viewOverview } from '../../cli/views/overview.ts'
import { failedWith } from '../support/ledger.ts'
import { openOperated } from '../support/operator.ts'

const terminalOf = (columns: number): Terminal => ({
  columns,
  rows: Number.POSITIVE_INFINITY,
  live: false,
  paint: (_, text) => text,
  write: () => {},
})

/** Lines but those that are commands, which are copied and so never broken. */
const linesOf = (text: string) => text.split('\n').filter((line) => !line.includes('npx event-indexer'))

it.each([40, 60, 80, 120])(
  'status on %i columns names every figure, and no line is longer',
  async (columns) => {
    const { app, exhaust, gateway, prepare, sendAll } = await openOperated()
    const event = await app.event()
    await app.change(event, { name: "'The annual gala dinner of the harbour quarter'" })
    await app.consent(event, await app.users(1207))
    await prepare()
    const messages = await sendAll()
    await exhaust(messages.slice(0, 50))
    await exhaust(messages.slice(50, 53), failedWith('AccessDeniedException', 'denied'))
    const ledger = connectLedger(gateway.url, async () => gateway.serviceRoleKey)
    const view = { terminal: terminalOf(columns), now: new Date(), option: '' }

    const overview = viewOverview((await lookAt(ledger, null)).events, view)
    const figures =
      columns < 76 ? 'in progress, 50 indexed, 0 skipped, 3 failed, 1,154 open' : 'in progress 50 0 3 1,154'
    expect(overview.replace(/\s+/g, ' ')).toContain(figures)
    const { status } = await lookAtEvent(ledger, event)
    const details = await lookAtDetails(ledger, event)
    for (const line of linesOf(`${overview}\n${viewEvent(status, details, view)}`))
      expect(line.length, line).toBeLessThanOrEqual(Math.max(columns, 60))
  },
)
