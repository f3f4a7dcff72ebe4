import { expect, it } from 'vitest'
import { startCli } from '../support/operator.ts'
import { freshSystem } from '../support/system.ts'

it('doctor reports that the scheduler has not run, and finds no problem once it has', async () => {
  const { environment, functions } = await freshSystem()
  const before = await startCli(['doctor'], environment).ended
  expect(before.code).toBe(2)
  expect(before.out.match(/^problem .*/gm)).toEqual([
    expect.stringMatching(/last run +The scheduler has not run yet\.$/),
  ])
  await functions.invoke('scheduler', {})
  const { code, error, out } = await startCli(['doctor'], environment).ended
  expect({ code, error }).toEqual({ code: 0, error: '' })
  expect(out).toMatch(
    /^note +nudge +The function answers, and the database has its secret; no nudge has arrived/m,
  )
  expect(out).toContain('No problem found.')
})
