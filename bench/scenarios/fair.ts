import { setTimeout as sleep } from 'node:timers/promises'
import { median, round, type Scenario } from '../scenario.ts'
import { openStage, REST_MS, watch } from '../stage.ts'

const LARGE = 5_000
const SMALL = 50
const TPS = 50
const HEAD_START_S = 10
const TIMES = 5 // the slowest of some fifty calls says how long a small event takes: the median of so many events is shown

export const fair: Scenario = {
  name: 'fair',
  title: `${SMALL} attendees, claimed ${HEAD_START_S} s after ${LARGE} others whose event starts later`,
  async run(bench) {
    const stage = await openStage(bench, { tps: TPS })
    try {
      await stage.warmUp()
      const small = async () => {
        const seconds: number[] = []
        for (let time = 0; time < TIMES; time++) {
          const event = await stage.gather(SMALL, 5)
          await stage.schedule()
          const [run] = await stage.settled([event], 150)
          seconds.push(run?.seconds ?? Number.NaN)
          await sleep(REST_MS)
        }
        return median(seconds)
      }
      const facesOf = (event: string) =>
        stage.system.rekognition.collection(`memento_event_${event}`)?.length ?? 0

      const alone = await small()
      const large = await stage.gather(LARGE)
      const scheduling = stage.schedule()
      const watching = watch('the large event', () => facesOf(large))
      await sleep(HEAD_START_S * 1000)
      await scheduling
      const indexedBefore = facesOf(large)
      const beside = await small()
      const curve = watching.stop()

      const ratio = beside / alone
      return {
        figures: {
          small_event_ratio: round(ratio),
          small_event_alone_seconds: round(alone, 2),
          small_event_seconds: round(beside, 2),
          large_event_indexed_before: indexedBefore,
        },
        table: {
          head: [`the small event, median of ${TIMES}`, 'seconds', 'ratio', 'goal'],
          rows: [
            ['with the system to itself', round(alone, 2), 1, ''],
            [
              `beside ${LARGE} others, ${indexedBefore} of them done`,
              round(beside, 2),
              round(ratio),
              '≤ 1.5',
            ],
            ['if it had to wait for them', round((LARGE - indexedBefore) / TPS + alone, 1), '', ''],
          ],
        },
        picture: {
          title: `The large event gives way to the small one, then goes on`,
          x: { label: 'seconds since the large event was claimed' },
          y: { label: 'faces of the large event' },
          curves: [curve],
        },
      }
    } finally {
      await stage.close()
    }
  },
}
