import { describe, expect, it } from 'vitest'
import type { JobRef } from '../../src/core/message.ts'
import { atOnce, one, openLedger } from '../support/ledger.ts'

/** A later event whose messages are all in the work queue, and a sooner one whose jobs wait in the outbox. */
async function twoEvents(later: number, sooner: number) {
  const ledger = await openLedger()
  const { app, prepare, sendAll } = ledger
  const laterEvent = await app.event({ startsAt: "now() + interval '15 min'" })
  await app.consent(laterEvent, await app.users(later))
  await prepare()
  const messages = await sendAll()
  const soonerEvent = await app.event({ startsAt: "now() + interval '5 min'" })
  await app.consent(soonerEvent, await app.users(sooner))
  await prepare()
  return { ...ledger, laterEvent, soonerEvent, messages }
}

const eventsOf = (jobs: JobRef[]) => jobs.map((job) => job.event_id)

describe('the urgent queue', () => {
  it('takes the jobs of an event that starts sooner than one in the work queue', async () => {
    const { soonerEvent, takeSendBatch } = await twoEvents(5, 2)
    const { jobs } = await takeSendBatch()
    expect(eventsOf(jobs)).toEqual([soonerEvent, soonerEvent])
    expect(jobs).toMatchObject([{ urgent: true }, { urgent: true }])
  })

  it('does not take the jobs of an event when nothing less urgent lies in the work queue', async () => {
    const { messages, takeSendBatch, work } = await twoEvents(3, 2)
    await work(messages)
    const { jobs } = await takeSendBatch()
    expect(jobs).toMatchObject([{ urgent: false }, { urgent: false }])
  })

  it('takes what changes after the claim, and not what the claim wrote', async () => {
    const { app, laterEvent, messages, processChanges, takeSendBatch, work } = await twoEvents(5, 0)
    await work(messages.slice(0, 1))
    const late = await app.users(1)
    await app.consent(laterEvent, late)
    await app.photo(messages[0]?.user_id ?? '', 'photos/new')
    await processChanges()
    const { jobs } = await takeSendBatch()
    expect(jobs).toHaveLength(2)
    expect(jobs).toMatchObject([{ urgent: true }, { urgent: true }])
  })

  it('is bounded for all but erasures, and what it does not take goes through the work queue', async () => {
    const { app, inside, laterEvent, messages, processChanges, soonerEvent, takeSendBatch, work } =
      await twoEvents(5, 6)
    await work(messages.slice(0, 3))
    await app.leave(
      laterEvent,
      messages.slice(0, 3).map(({ user_id }) => user_id),
    )
    await processChanges()
    const { jobs } = await takeSendBatch({ urgentCap: 2, workCap: 5 })
    expect(jobs.map(({ event_id, urgent }) => [event_id, urgent])).toEqual([
      ...Array(3).fill([laterEvent, true]),
      ...Array(2).fill([soonerEvent, true]),
      ...Array(3).fill([soonerEvent, false]), // two of the later event's lie there already
    ])
    expect(await inside.states(soonerEvent)).toEqual({ sent: 5, queued: 1 })
  })

  it('stays below its bound with four schedulers at once', async () => {
    const { owner, takeSendBatch } = await twoEvents(3, 100)
    const lying = (urgent: boolean) =>
      one<number>(
        owner,
        "select count(*)::int from indexing.face_jobs where state = 'sent' and urgent = $1",
        [urgent],
      )
    for (let round = 0; round < 3; round++) {
      await atOnce(4, () => takeSendBatch({ page: 20, urgentCap: 15, workCap: 25 }))
      expect([await lying(true), await lying(false)]).toEqual([15, 25])
    }
  })

  it('has a job whose message is lost go through it again', async () => {
    const { inside, rescue, takeSendBatch } = await twoEvents(2, 2)
    await takeSendBatch()
    await inside.ageMessages(1000)
    await rescue()
    const { jobs } = await takeSendBatch()
    expect(jobs.filter(({ urgent }) => urgent)).toHaveLength(2)
    expect(jobs).toHaveLength(4)
  })

  it('has each job done once when twenty workers take messages of both queues', async () => {
    const { inside, laterEvent, messages, sendAll, soonerEvent, work } = await twoEvents(200, 50)
    const all = [...messages, ...(await sendAll())]
    await atOnce(20, (worker) => work(all.filter((_, index) => index % 20 === worker)))
    for (const event of [soonerEvent, laterEvent])
      for (const job of await inside.jobs(event))
        expect(job).toMatchObject({ state: 'indexed', index_calls: 1 })
  })
})
