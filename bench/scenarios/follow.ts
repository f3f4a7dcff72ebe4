import { setTimeout as sleep } from 'node:timers/promises'
import { PutObjectCommand } from '@aws-sdk/client-s3'
import type { Curve } from '../report/picture.ts'
import { type Bench, type Figures, median, quantile, round, type Scenario } from '../scenario.ts'
import { openStage, type Stage } from '../stage.ts'

const KINDS = [
  'consent given',
  'consent taken back',
  'photo changed',
  'photo replaced under its key',
  'photo removed',
  'account deleted',
] as const
type Kind = (typeof KINDS)[number]

const NUDGED_EACH = 8 // changes of each kind, one after the other
const UNNUDGED_EACH = 20 // spread over the periods, side by side
const PERIODS = 3
const PERIOD_S = 60 // of the schedule
const LONGEST_REST_MS = 1_000 // between two changes, so that they keep no time with the poll
const PATIENCE_S = 150
const LOOK_MS = 10
const TPS = 50

/** One change, and how long after its commit the collection had followed it. */
interface Followed {
  kind: Kind
  seconds: number
}

/** Somebody to whom a change is to happen. */
interface Person {
  kind: Kind
  user: string
}

export const follow: Scenario = {
  name: 'follow',
  title:
    'from the commit of a change to the change of the collection, with the nudge and by the schedule alone',
  async run(bench) {
    // Side by side, since both hardly do anything but wait.
    const [nudged, unnudged] = await Promise.all([
      measure(bench, NUDGED_EACH, oneAfterTheOther),
      measure(bench, UNNUDGED_EACH, async (stage, event, people) => {
        await stage.sql('select indexing.configure_nudge(null, null)')
        return sideBySide(stage, event, people)
      }),
    ])
    const row = (label: string, of: (all: Followed[]) => Followed[]) => [
      label,
      ...[nudged, unnudged].flatMap((all) => {
        const seconds = of(all).map((one) => one.seconds)
        return [seconds.length, round(median(seconds), 2), round(quantile(seconds, 0.95), 2)]
      }),
    ]
    return {
      figures: { with_nudge: figuresOf(nudged), without_nudge: figuresOf(unnudged) },
      table: {
        head: ['seconds', 'changes, nudge', 'median', 'p95', 'changes, schedule', 'median', 'p95'],
        rows: [
          row('all', (all) => all),
          ...KINDS.map((kind) => row(kind, (all) => all.filter((one) => one.kind === kind))),
        ],
      },
      picture: {
        title: 'How soon the collection has followed a change',
        x: { label: 'seconds since its commit', logarithmic: true },
        y: { label: 'share of the changes, %' },
        curves: [distribution('with the nudge', nudged), distribution('the schedule alone', unnudged)],
      },
    }
  },
}

/** Puts people into an event, has it indexed, then lets the changes happen. */
async function measure(
  bench: Bench,
  each: number,
  change: (stage: Stage, event: string, people: Person[]) => Promise<Followed[]>,
): Promise<Followed[]> {
  const stage = await openStage(bench, { tps: TPS })
  const { app } = stage.system
  try {
    await stage.warmUp()
    // Else the bucket tells of a replaced photo before the app does.
    stage.system.aws.setPhotoEvents(false)
    const event = await app.createEvent({ name: 'event', startsAt: new Date(Date.now() + 600_000) })
    const kinds = Array.from({ length: each }, () => KINDS).flat()
    const users = await app.addAttendees(
      event,
      kinds.map((kind, index) => ({
        name: `attendee ${index}`,
        photo: `portrait ${index}`,
        consents: kind !== 'consent given',
      })),
    )
    await stage.schedule()
    await stage.settled([event], PATIENCE_S)
    return await change(
      stage,
      event,
      kinds.map((kind, index) => ({ kind, user: users[index] ?? '' })),
    )
  } finally {
    await stage.close()
  }
}

async function oneAfterTheOther(stage: Stage, event: string, people: Person[]): Promise<Followed[]> {
  const followed: Followed[] = []
  for (const person of people) {
    await sleep(Math.random() * LONGEST_REST_MS)
    followed.push(await changeAndWait(stage, event, person))
  }
  return followed
}

const sideBySide = (stage: Stage, event: string, people: Person[]): Promise<Followed[]> =>
  Promise.all(
    people.map(async (person) => {
      await sleep(Math.random() * PERIODS * PERIOD_S * 1000)
      return changeAndWait(stage, event, person)
    }),
  )

async function changeAndWait({ system }: Stage, event: string, { kind, user }: Person): Promise<Followed> {
  const { app, rekognition } = system
  const facesOf = () =>
    (rekognition.collection(`memento_event_${event}`) ?? []).filter((face) => face.externalImageId === user)
  const isThere = () => facesOf().length === 1
  const isGone = () => facesOf().length === 0

  let photo = ''
  const before = facesOf()[0]?.imageId
  const changes: Record<Kind, { act: () => Promise<unknown>; done: () => boolean }> = {
    'consent given': { act: () => app.setConsent(event, user, true), done: isThere },
    'consent taken back': { act: () => app.setConsent(event, user, false), done: isGone },
    'photo changed': {
      act: () => app.setPhotoPath(user, photo),
      done: () => isThere() && facesOf()[0]?.imageKey === photo,
    },
    'photo replaced under its key': {
      act: () => app.setPhotoPath(user, photo),
      done: () => isThere() && facesOf()[0]?.imageId !== before,
    },
    'photo removed': { act: () => app.setPhotoPath(user, null), done: isGone },
    'account deleted': { act: () => app.deleteAccount(user), done: isGone },
  }
  const { act, done } = changes[kind]
  if (kind === 'photo changed') photo = await upload(system, user, `${user}/another`)
  if (kind === 'photo replaced under its key')
    photo = await upload(system, user, facesOf()[0]?.imageKey ?? '')
  if (done()) throw new Error(`${kind}: it was so before`)
  await act()
  const committed = performance.now()
  while (!done()) {
    const seconds = (performance.now() - committed) / 1000
    if (seconds > PATIENCE_S) throw new Error(`${kind}: not followed after ${PATIENCE_S} s`)
    await sleep(LOOK_MS)
  }
  return { kind, seconds: (performance.now() - committed) / 1000 }
}

/** Another photo, there before the profile names it. Returns its key. */
async function upload({ aws, environment }: Stage['system'], user: string, Key: string): Promise<string> {
  await aws.s3.send(
    new PutObjectCommand({ Bucket: environment.S3_BUCKET_NAME, Key, Body: `another of ${user}` }),
  )
  return Key
}

function figuresOf(all: Followed[]): Figures {
  const of = (some: Followed[]) => {
    const seconds = some.map((one) => one.seconds)
    return {
      changes: some.length,
      median_seconds: round(median(seconds), 2),
      p95_seconds: round(quantile(seconds, 0.95), 2),
    }
  }
  const byKind = KINDS.map((kind) => [kind.replaceAll(' ', '_'), of(all.filter((one) => one.kind === kind))])
  return { ...of(all), by_kind: Object.fromEntries(byKind) }
}

/** The share of the changes that had been followed after so many seconds. */
function distribution(name: string, all: Followed[]): Curve {
  const seconds = all.map((one) => one.seconds).sort((a, b) => a - b)
  return { name, points: seconds.map((at, index) => [at, ((index + 1) / seconds.length) * 100]) }
}
