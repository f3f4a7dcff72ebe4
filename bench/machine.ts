import { cpus, loadavg, release, totalmem, type } from 'node:os'
import pg from 'pg'
import { round } from './scenario.ts'

/** What the figures were measured on. */
export interface Machine {
  cpu: string
  cores: number
  memory_gb: number
  system: string
  node: string
  postgres: string
  /** Of the last minute when the run began: whatever else the machine was doing then. */
  load_before: number
  [key: string]: string | number
}

export async function describeMachine(databaseUrl: string): Promise<Machine> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  const { rows } = await client.query<{ server_version: string }>('show server_version')
  await client.end()
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memory_gb: round(totalmem() / 2 ** 30, 1),
    system: `${type()} ${release()}`,
    node: process.version,
    postgres: rows[0]?.server_version ?? 'unknown',
    load_before: load(),
  }
}

/** Processes that ran or wanted to, on average over the last minute. */
export const load = (): number => round(loadavg()[0] ?? 0, 1)
