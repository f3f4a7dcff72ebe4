import type { ErrorName } from '../../local/rekognition/errors.ts'
import type { Random } from './random.ts'

export type Service = 'database' | 'rekognition' | 's3' | 'sqs' | 'secret'

/** What becomes of one call. */
export interface Plan {
  /** Simulated ms until the service has it; Infinity: never. It may be later than the caller's patience. */
  thereMs: number
  /** And until the answer is back; Infinity: never. */
  backMs: number
  /** The connection breaks in place of the answer, before or after the work. */
  drop?: 'before' | 'after'
  /** The service answers with an error, before or after the work. */
  error?: { strikes: 'before' | 'after'; name: ErrorName }
  /** The caller dies so many ms after it made the call, which goes its way all the same. */
  diesAfterMs?: number
  /** A listing shows the collection as it was so many ms ago. */
  lagMs?: number
}

/** Probabilities of what goes wrong with a call. */
interface Weather {
  drop: number
  error: number
  throttle: number
  /** Comes late, after the caller has given up. */
  late: number
  hang: number
  slow: number
  death: number
}

const CALM: Weather = { drop: 0, error: 0, throttle: 0, late: 0, hang: 0, slow: 0, death: 0 }
const WEATHERS = {
  fine: CALM,
  calm: { ...CALM, death: 0.01 },
  flaky: { drop: 0.04, error: 0.03, throttle: 0.05, late: 0.03, hang: 0.01, slow: 0.1, death: 0.02 },
  stormy: { drop: 0.15, error: 0.1, throttle: 0.15, late: 0.12, hang: 0.03, slow: 0.2, death: 0.04 },
  deadly: { ...CALM, late: 0.1, slow: 0.2, death: 0.15 },
  away: { ...CALM, drop: 0.6, error: 0.4 },
  throttled: { ...CALM, throttle: 1 },
  denied: { ...CALM, error: 1 },
  /** Of IndexFaces alone. */
  forbidden: { ...CALM, error: 1 },
  gone: { ...CALM, error: 1, hang: 0.3 },
} satisfies Record<string, Weather>
type WeatherName = keyof typeof WEATHERS

const SKIES: Record<Service, Partial<Record<WeatherName, number>>> = {
  database: { calm: 2, flaky: 6, stormy: 2, deadly: 3, away: 0.5 },
  rekognition: { calm: 1, flaky: 5, stormy: 3, deadly: 4, away: 0.3, throttled: 0.5, denied: 0.2 },
  s3: { calm: 3, flaky: 4, stormy: 1, away: 0.3 },
  sqs: { calm: 4, flaky: 4, stormy: 1, away: 0.5 },
  secret: { fine: 8, flaky: 2, away: 0.5 },
}

/**
 * No call that was under way when its maker gave up can still land after 30 s: the assumption (QUIET_SECONDS) on which leases
 * rest. So none lands later than this after its maker, who waits 10 s, made it.
 */
const LATEST_MS = 35_000

/** How far listings lag behind: less than LISTING_LAG_SECONDS. */
const LISTINGS_LAG_MS = [0, 0, 0, 2_000, 10_000, 20_000]

const WAYS = ['thereMs', 'backMs'] as const

/** Which weather a service has until when, in ms from the beginning; afterwards it is fine. */
export type Forecast = Partial<Record<Service, { until: number; name: WeatherName }[]>>

/** What can be out, and what its service is like then. */
export const OUTAGES = {
  database: { service: 'database', name: 'gone' },
  rekognition: { service: 'rekognition', name: 'throttled' },
  permission: { service: 'rekognition', name: 'forbidden' },
} as const satisfies Record<string, { service: Service; name: WeatherName }>
export type OutageName = keyof typeof OUTAGES

/** All kinds of weather, as the seed says. */
export function changeable(random: Random, minutes: number): Forecast {
  const forecast = (service: Service) => {
    const source = random.of('weather', service)
    const fronts = []
    for (let until = 0; until < minutes * 60_000; ) {
      until += source.between(20_000, 120_000)
      fronts.push({ until, name: source.weighted(SKIES[service]) })
    }
    return fronts
  }
  return {
    database: forecast('database'),
    rekognition: forecast('rekognition'),
    s3: forecast('s3'),
    sqs: forecast('sqs'),
    secret: forecast('secret'),
  }
}

/** One service out for so long, and nothing else. */
export function outage(name: OutageName, fromMs: number, untilMs: number): Forecast {
  const { service, name: weather } = OUTAGES[name]
  return {
    [service]: [
      { until: fromMs, name: 'fine' },
      { until: untilMs, name: weather },
    ],
  }
}

/** The weather of each service over the simulated time, and what it does to each call. */
export class Trouble {
  readonly #random: Random
  readonly #forecast: Forecast
  readonly #listingsLag: boolean
  #began = Number.POSITIVE_INFINITY
  #over = false

  /** @param listingsLag whether ListFaces may lag behind, which is no fault */
  constructor(random: Random, forecast: Forecast, listingsLag: boolean) {
    this.#random = random
    this.#forecast = forecast
    this.#listingsLag = listingsLag
  }

  /** From now on the weather is as forecast; until now it was fine. */
  begin(now: number): void {
    this.#began = now
  }

  get over(): boolean {
    return this.#over
  }

  /** From now on all goes well. What is under way goes the way it was to go. */
  end(): void {
    this.#over = true
  }

  /** By the weather of the service at that moment, and otherwise by the names of the call alone. */
  plan(service: Service, now: number, patienceMs: number, call: (string | number)[]): Plan {
    const random = this.#random.of(service, ...call)
    const name = this.#weatherOf(service, now)
    const spared = name === 'forbidden' && !String(call[1]).startsWith('IndexFaces')
    const weather = this.#over || spared ? CALM : WEATHERS[name]
    const plan: Plan = { thereMs: random.integer(0, 1) * 1000, backMs: random.integer(0, 1) * 1000 }
    if (name === 'fine') plan.backMs = 0
    if (random.chance(weather.slow)) plan[random.pick(WAYS)] = random.between(1_000, 9_000)
    if (random.chance(weather.hang))
      plan[name === 'gone' ? 'thereMs' : random.pick(WAYS)] = Number.POSITIVE_INFINITY
    if (random.chance(weather.late)) plan.thereMs = random.between(patienceMs, LATEST_MS)
    if (random.chance(weather.drop)) plan.drop = random.pick(['before', 'after'])
    if (random.chance(weather.error)) {
      plan.error =
        name === 'denied' || name === 'forbidden'
          ? { name: 'AccessDeniedException', strikes: 'before' }
          : {
              name: 'InternalServerError',
              strikes: name === 'gone' ? 'before' : random.pick(['before', 'after']),
            }
    }
    if (service === 'rekognition' && random.chance(weather.throttle)) {
      const names = ['ThrottlingException', 'ProvisionedThroughputExceededException'] as const
      plan.error = { name: random.pick(names), strikes: 'before' }
    }
    if (random.chance(weather.death))
      plan.diesAfterMs = random.between(0, Math.min(plan.thereMs + plan.backMs + 1000, 9_000))
    if (this.#listingsLag && !this.#over && String(call[1]).startsWith('ListFaces'))
      plan.lagMs = random.pick(LISTINGS_LAG_MS)
    return plan
  }

  #weatherOf(service: Service, now: number): WeatherName {
    const past = now - this.#began
    if (past < 0) return 'fine'
    return this.#forecast[service]?.find(({ until }) => past < until)?.name ?? 'fine'
  }
}
