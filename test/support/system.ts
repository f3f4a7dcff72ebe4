import { inject, onTestFinished } from 'vitest'
import { type LocalSystem, type LocalSystemOptions, startLocalSystem } from '../../local/system.ts'
import { postgres } from './database.ts'

/** The whole local system on a database of its own, with the synthetic engine; the caller closes it. */
export const openSystem = (options: Partial<LocalSystemOptions> = {}): Promise<LocalSystem> =>
  startLocalSystem({ engine: 'synthetic', postgres, bundle: inject('bundle'), ...options })

/**
 * The same for the length of a test.
 * @param atTheEnd of the test's context, in tests that run side by side: there vitest's own knows no test
 */
export async function freshSystem(
  options: Partial<LocalSystemOptions> = {},
  atTheEnd: typeof onTestFinished = onTestFinished,
): Promise<LocalSystem> {
  const system = await openSystem(options)
  atTheEnd(system.close)
  return system
}
