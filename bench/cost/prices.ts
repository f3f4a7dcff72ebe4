/**
 * AWS's list prices in US dollars, for us-east-1 (N. Virginia), as listed in October 2026, without free tiers, credits and taxes.
 * Other regions differ by some percent.
 */
export const PRICES = {
  region: 'us-east-1',
  date: 'October 2026',
  /** Per IndexFaces call (group 1 of Rekognition Image), by what the account calls in a month. */
  indexFaces: [
    { upTo: 1_000_000, each: 0.001 },
    { upTo: 5_000_000, each: 0.0008 },
    { upTo: 35_000_000, each: 0.0006 },
    { upTo: Number.POSITIVE_INFINITY, each: 0.0004 },
  ],
  /** Per face that lies in a collection for a month. */
  faceMonth: 0.000_01,
  /** Per request to a standard queue. */
  sqsRequest: 0.4 / 1e6,
  /** On arm64. */
  lambdaGbSecond: 0.000_013_333_4,
  lambdaRequest: 0.2 / 1e6,
  /** Per GB of logs taken in; keeping them costs a twentieth of that a month. */
  logGb: 0.5,
  /** Per metric of one's own in a month, and per alarm. */
  metricMonth: 0.3,
  alarmMonth: 0.1,
}

export type Prices = typeof PRICES
