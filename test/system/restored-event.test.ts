import { DeleteCollectionCommand, type RekognitionClient } from '@aws-sdk/client-rekognition'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { SchedulerParts } from '../../src/scheduler/scheduler.ts'
import { openStage, type Stage } from '../support/stage.ts'

// An event that is deleted, and put back under its id with its consents: by hand or from a backup of its rows.

let stage: Stage
beforeAll(async () => {
  stage = await openStage()
})
afterAll(() => stage.close())

/** A scheduler whose first DeleteCollection lands only after `meanwhile`. */
function schedulerThatDeletesLate(meanwhile: () => Promise<unknown>): SchedulerParts {
  const { rekognition, ...rest } = stage.parts
  let first = true
  const send = async (...call: Parameters<RekognitionClient['send']>) => {
    if (call[0] instanceof DeleteCollectionCommand && first) {
      first = false
      await meanwhile()
    }
    return rekognition.send(...call)
  }
  return { ...rest, rekognition: Object.assign(Object.create(rekognition), { send }) }
}

const MOMENTS: Record<string, (putBack: () => Promise<unknown>) => Promise<unknown>> = {
  'before anybody noticed': (putBack) => putBack(),
  'while its collection is being deleted': (putBack) => stage.runScheduler(schedulerThatDeletesLate(putBack)),
  'after its collection was deleted once': async (putBack) => {
    await stage.runScheduler()
    await putBack()
  },
  'after its collection was deleted for good': async (putBack) => {
    await stage.runScheduler()
    await stage.secondsPass(130)
    await stage.runScheduler()
    await putBack()
  },
}

describe.each(Object.keys(MOMENTS))('an event that is deleted, and put back %s', (moment) => {
  it.each([
    ['as pending', 'pending'],
    ['as it was', 'completed'],
  ])(
    '%s, has every attendee in its collection again, and the ledger records them as indexed',
    async (_how, status) => {
      const event = await stage.createEvent()
      const users = [await stage.createAttendee(event), await stage.createAttendee(event)]
      await stage.comeToRest()
      expect(stage.facesOf(event)).toHaveLength(2)

      await stage.sql(`
      drop table if exists kept_events, kept_consents;
      create table kept_events as select * from events where event_id = '${event}';
      create table kept_consents as select * from event_consents where event_id = '${event}';
      update kept_events set indexing_status = '${status}'`)
      await stage.sql('delete from events where event_id = $1', [event])
      await MOMENTS[moment]?.(() =>
        stage.sql('insert into events table kept_events; insert into event_consents table kept_consents'),
      )
      await stage.comeToRest()
      for (let minute = 0; minute < 16; minute++) {
        await stage.secondsPass(60)
        await stage.follow()
      }
      await stage.comeToRest()

      expect(
        stage
          .facesOf(event)
          ?.map(({ user }) => user)
          .toSorted(),
      ).toEqual(users.toSorted())
      expect(await stage.statusOf(event)).toBe('completed')
      const standing = await stage.sql(
        'select r.collection, j.state from indexing.event_runs r join indexing.face_jobs j using (event_id) where event_id = $1',
        [event],
      )
      expect(standing).toEqual(Array(2).fill({ collection: 'ready', state: 'indexed' }))
    },
  )
})
