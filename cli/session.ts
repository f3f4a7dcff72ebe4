import { connectLedger, type Ledger } from './ledger.ts'
import { findSystem, type System } from './system.ts'
import { type Terminal, terminalOf } from './terminal.ts'

/** What every command works with. */
export interface Session {
  system: System
  terminal: Terminal
  /** Connects to the database, which not every command needs. */
  ledger: () => Promise<Ledger>
}

/** Finds the system and has the AWS clients meant for it. */
export async function openSession(stage: string | undefined): Promise<Session> {
  const system = await findSystem(stage, process.env)
  // AWS clients read the environment by themselves; the local system has one of its own.
  for (const [name, value] of Object.entries(system.environment)) {
    if (value === undefined) delete process.env[name]
    else process.env[name] = value
  }
  return {
    system,
    terminal: terminalOf(process.stdout, process.env),
    ledger: async () => connectLedger(system.supabaseUrl, await system.serviceRoleKey()),
  }
}

/** The first line of what is for people: which system this is about. */
export const titleOf = ({ system, terminal }: Session): string =>
  terminal.paint('dim', `${system.name} · ${system.supabaseUrl}`)
