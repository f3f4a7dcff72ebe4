/** How long answers take: a lognormal distribution, given by the two figures that a service is usually described with. */
export interface Latency {
  medianMs: number
  p99Ms: number
}

/** The 99th percentile of the standard normal distribution. */
const z99 = 2.3263

/** One latency in milliseconds, drawn at random. */
export function drawLatency({ medianMs, p99Ms }: Latency): number {
  const sigma = Math.log(p99Ms / medianMs) / z99
  return medianMs * Math.exp(sigma * standardNormal())
}

/** @throws RangeError unless 0 < medianMs <= p99Ms */
export function checkLatency({ medianMs, p99Ms }: Latency): void {
  if (!(medianMs > 0 && p99Ms >= medianMs && Number.isFinite(p99Ms))) {
    throw new RangeError(`latency: 0 < medianMs <= p99Ms must hold, not ${medianMs} and ${p99Ms}`)
  }
}

/** By Box and Muller. */
function standardNormal(): number {
  const radius = Math.sqrt(-2 * Math.log(1 - Math.random()))
  return radius * Math.cos(2 * Math.PI * Math.random())
}
