import { expect, it, vi } from 'vitest'
import { startCli } from '../support/operator.ts'
import { freshSystem } from '../support/system.ts'

it('at 18:40: status says what is broken, replay mends it once that is mended, and the event is ready', async () => {
  const system = await freshSystem({
    tps: 1000,
    change: ({ functions, queues }) => {
      for (const { environment } of functions) environment.MAX_RECEIVE_COUNT = '2'
      for (const { attributes } of queues)
        if (attributes.RedrivePolicy) attributes.RedrivePolicy = twoReceives(attributes.RedrivePolicy)
    },
  })
  const { app, environment, functions, rekognition } = system
  const event = await app.createEvent({ name: 'Opening night', startsAt: new Date(Date.now() + 1_200_000) })
  await app.addAttendees(event, [
    { name: 'One', photo: 'the face of one' },
    { name: 'Two', photo: 'the face of two' },
  ])
  const run = (...args: string[]) => startCli(args, environment).ended

  rekognition.setFaults(({ operation }) =>
    operation === 'IndexFaces'
      ? { type: 'error', strikes: 'before', error: 'InvalidS3ObjectException' }
      : undefined,
  )
  await functions.invoke('scheduler', {})
  await vi.waitFor(async () => expect(await app.statusOf(event)).toBe('failed'), { timeout: 40_000 })
  const broken = await run('status', '--event', event)
  expect(broken.out).toContain('2 × Rekognition cannot read the photo from the bucket (photo_unreadable)')

  rekognition.setFaults(undefined)
  const mended = await run('replay', '--all-failed', '--yes')
  expect(mended.error).toBe('')
  expect(mended.out).toContain('2 messages sent to the workers')
  expect(mended.out).toContain('Opening night: completed, 2 indexed, 0 skipped, 0 failed, 0 open')
  expect(mended.code).toBe(0)
  expect(rekognition.collection(`memento_event_${event}`)).toHaveLength(2)
  expect((await run('redrive')).out).toContain('Nothing to move')
})

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
  expect(out).toMatch(/^ok +nudge +The function answers, and the database has its secret\.$/m)
  expect(out).toContain('No problem found.')
})

const twoReceives = (policy: string) => JSON.stringify({ ...JSON.parse(policy), maxReceiveCount: 2 })
