import { round, type Scenario } from '../scenario.ts'
import { openStage, perAttendee, since, watch } from '../stage.ts'

const EVENTS = 500
const ATTENDEES = 20
const TPS = 250

export const many: Scenario = {
  name: 'many',
  title: `${EVENTS} events of ${ATTENDEES} attendees due at once, at ${TPS} a second`,
  async run(bench) {
    const stage = await openStage(bench, { tps: TPS })
    try {
      await stage.warmUp()
      const events = await stage.gatherMany(EVENTS, ATTENDEES)
      const before = stage.counts()
      const watching = watch('attendees indexed', () => stage.counts().indexCalls - before.indexCalls)
      const scheduling = stage.schedule()
      const runs = await stage.settled(events, 150)
      await scheduling
      const curve = watching.stop()
      const attendees = EVENTS * ATTENDEES
      const per = perAttendee(since(before, stage.counts()), attendees)

      const claimed = Math.min(...runs.map((run) => run.claimed_at.getTime()))
      const settled = runs.map((run) => (run.settled_at.getTime() - claimed) / 1000).sort((a, b) => a - b)
      const last = settled.at(-1) ?? Number.NaN
      const figures = {
        seconds: round(last, 1),
        limit_ratio: round(last / (attendees / TPS)),
        median_event_seconds: round(settled[EVENTS / 2] ?? Number.NaN, 1),
        completed: runs.filter(({ state }) => state === 'completed').length,
        throttled_share: round(per.throttled_share, 4),
        index_calls_per_attendee: round(per.index_calls_per_attendee),
        db_calls_per_attendee: round(per.db_calls_per_attendee),
        sqs_requests_per_attendee: round(per.sqs_requests_per_attendee),
      }
      return {
        figures,
        table: {
          head: ['', 'measured'],
          rows: [
            ['events completed', figures.completed],
            ['seconds until the last is settled', figures.seconds],
            ['as a ratio to all attendees / quota', figures.limit_ratio],
            ['seconds until half of them are settled', figures.median_event_seconds],
            ['throttled share of IndexFaces calls', figures.throttled_share],
            ['IndexFaces calls per attendee', figures.index_calls_per_attendee],
            ['database calls per attendee', figures.db_calls_per_attendee],
            ['SQS requests per attendee', figures.sqs_requests_per_attendee],
          ],
        },
        picture: {
          title: `${EVENTS} events of ${ATTENDEES} attendees at ${TPS} calls a second`,
          x: { label: 'seconds since the claim' },
          y: { label: 'attendees' },
          curves: [
            {
              name: 'limit: N / quota',
              points: [
                [0, 0],
                [attendees / TPS, attendees],
              ],
              dashed: true,
            },
            curve,
          ],
        },
      }
    } finally {
      await stage.close()
    }
  },
}
