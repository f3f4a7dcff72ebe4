import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'

const CHAOS = [
  '--import',
  'tsx',
  'test/chaos/main.ts',
  '--attendees',
  '40',
  '--events',
  '3',
  '--minutes',
  '3',
]

// The fifth is a quiet one.
it('keeps its promises through a few seeds of trouble: `npm run chaos` runs more', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [
    ...CHAOS,
    '--seed',
    '3',
    '--seeds',
    '3',
  ]).catch(({ stdout }) => ({ stdout }))
  expect(stdout).toContain('3 seeds, 0 broken')
}, 180_000)
