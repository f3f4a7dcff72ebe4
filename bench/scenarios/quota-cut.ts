import { setTimeout as sleep } from 'node:timers/promises'
import { round, type Scenario } from '../scenario.ts'
import { openStage, since, watch } from '../stage.ts'

const ATTENDEES = 2_000
const TPS = 50
const CUT_TPS = 25

export const quotaCut: Scenario = {
  name: 'quota-cut',
  title: `${ATTENDEES} attendees at ${TPS} a second; at half of them the quota falls to ${CUT_TPS}, and nobody says so`,
  async run(bench) {
    const stage = await openStage(bench, { tps: TPS })
    try {
      await stage.warmUp()
      const event = await stage.gather(ATTENDEES)
      const faces = () => stage.system.rekognition.collection(`memento_event_${event}`)?.length ?? 0
      const before = stage.counts()
      const watching = watch('indexed', faces)
      await stage.schedule()
      while (faces() < ATTENDEES / 2) await sleep(20)
      stage.system.rekognition.setQuota({ IndexFaces: CUT_TPS })
      const [run] = await stage.settled([event], 180)
      const curve = watching.stop()
      const counts = since(before, stage.counts())

      const seconds = run?.seconds ?? Number.NaN
      const half = ATTENDEES / 2
      const limit = half / TPS + half / CUT_TPS
      const throttledShare = counts.throttled / counts.indexCalls
      return {
        figures: {
          throttled_share: round(throttledShare, 4),
          limit_ratio: round(seconds / limit),
          seconds: round(seconds, 1),
          limit_seconds: limit,
          throttled: counts.throttled,
        },
        table: {
          head: ['', 'measured', 'goal'],
          rows: [
            ['seconds from claim to settled', round(seconds, 1), ''],
            ['as a ratio to the limit, before and after the cut', round(seconds / limit), '≤ 1.1'],
            ['throttled share of IndexFaces calls', round(throttledShare, 4), '< 0.03'],
          ],
        },
        picture: {
          title: 'The quota is halved without a word',
          x: { label: 'seconds since the claim' },
          y: { label: 'attendees indexed' },
          curves: [
            {
              name: 'limit',
              points: [
                [0, 0],
                [half / TPS, half],
                [limit, ATTENDEES],
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
