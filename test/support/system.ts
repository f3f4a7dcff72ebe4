import { inject, onTestFinished } from 'vitest'
import { type LocalSystem, type LocalSystemOptions, startLocalSystem } from '../../local/system.ts'
import { postgres } from './database.ts'

/** The whole local system on a database of its own, with the synthetic engine, for the length of a test. */
export async function freshSystem(options: Partial<LocalSystemOptions> = {}): Promise<LocalSystem> {
  const system = await startLocalSystem({
    engine: 'synthetic',
    postgres,
    bundle: inject('bundle'),
    ...options,
  })
  onTestFinished(system.close)
  return system
}
