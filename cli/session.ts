import type { Ledger } from './ledger.ts'
import { type Environment, findSystem, type System } from './system.ts'
import { type Terminal, terminalOf } from './terminal.ts'
import { timeZone } from './words.ts'

/** What every command works with. */
export interface Session {
  system: System
  terminal: Terminal
  /** Connects to the database, which not every command needs. */
  ledger: () => Promise<Ledger>
}

/** Finds the system and has the AWS clients meant for it, which read the environment by themselves. */
export async function openSession(
  stage: string | undefined,
  environment: Environment = process.env,
  runningFile?: URL,
): Promise<Session> {
  const system = await findSystem(stage, environment, runningFile)
  for (const [name, value] of Object.entries(system.environment)) {
    if (value === undefined) delete process.env[name]
    else process.env[name] = value
  }
  return sessionOf(system, terminalOf(process.stdout, process.env))
}

export const sessionOf = (system: System, terminal: Terminal): Session => ({
  system,
  terminal,
  ledger: async () => {
    const { connectLedger } = await import('./ledger.ts') // slow to load
    let key = await system.serviceRoleKey()
    const ledger = connectLedger(system.supabaseUrl, async (renew) => {
      if (renew) key = await system.serviceRoleKey()
      return key
    })
    await ledger.requireSchemaVersion()
    return ledger
  },
})

/** What every document of --json begins with. */
export interface DocumentHead {
  at: string
  system: string
  url: string
}

export const documentHead = ({ system }: Pick<Session, 'system'>): DocumentHead => ({
  at: new Date().toISOString(),
  system: system.name,
  url: system.supabaseUrl,
})

/** The first line of what is for people: which system this is about, and what clock its times go by. */
export const titleOf = ({ system, terminal }: Session): string =>
  terminal.paint('dim', `${system.name} · ${system.supabaseUrl} · times in ${timeZone}`)
