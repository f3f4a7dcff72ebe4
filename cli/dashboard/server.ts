import { once } from 'node:events'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createAdaptorServer } from '@hono/node-server'
import { EXIT, OperatorError } from '../exit.ts'
import { type DashboardOptions, dashboardOf } from './app.ts'

export interface Dashboard {
  /** Opens the page, once. */
  link: string
  /** Such as http://127.0.0.1:40123. */
  origin: string
  close: () => Promise<void>
}

const HERE = '127.0.0.1'

/**
 * Serves the page on this machine alone.
 * @param port a free one for 0
 */
export async function startDashboard(options: DashboardOptions & { port?: number }): Promise<Dashboard> {
  let host = ''
  const { access, fetch } = dashboardOf(options, () => host)
  const server = createAdaptorServer({ fetch, hostname: HERE }) as Server
  server.listen(options.port ?? 0, HERE)
  try {
    await once(server, 'listening')
  } catch (error) {
    throw new OperatorError(EXIT.notDone, `The page cannot be served: ${(error as Error).message}`, {
      cause: error,
    })
  }
  host = `${HERE}:${(server.address() as AddressInfo).port}`
  return {
    link: `http://${host}${access.path}`,
    origin: `http://${host}`,
    close: async () => {
      server.close()
      server.closeAllConnections()
    },
  }
}
