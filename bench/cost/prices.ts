/**
 * AWS's list prices in US dollars, for us-east-1 (N. Virginia), as last known in October 2026, without free tiers, credits and taxes.
 * Other regions differ: by some percent, for some things by a quarter. Sources were read in others' copies, and dates are the
 * source's: of AWS's machine-readable Price List the publication, of a page the day it was copied.
 */
export const PRICES = {
  region: 'us-east-1',
  date: 'October 2026',
  /**
   * Per IndexFaces call (group 1 of Rekognition Image), by what the account calls in a month. Rekognition pricing page,
   * 3 December 2025.
   */
  indexFaces: [
    { upTo: 1_000_000, each: 0.001 },
    { upTo: 5_000_000, each: 0.0008 },
    { upTo: 35_000_000, each: 0.0006 },
    { upTo: Number.POSITIVE_INFINITY, each: 0.0004 },
  ],
  /** Per face that lies in a collection for a month. Rekognition pricing page, 3 December 2025. */
  faceMonth: 0.000_01,
  /**
   * Per request to a standard queue, up to 100 billion a month. Price List, AWSQueueService, 28 August 2025. Those with a message
   * group id cost 0.1 more per million, which is left out: some three cents a day at a million attendees.
   */
  sqsRequest: 0.4 / 1e6,
  /** On arm64, up to 7.5 billion a month; the request costs the same on all. Price List, AWSLambda, 31 August 2026. */
  lambdaGbSecond: 0.000_013_333_4,
  lambdaRequest: 0.2 / 1e6,
  /** Per GB of logs taken in; keeping one costs 0.03 a month. Price List, AmazonCloudWatch, 6 August 2026. */
  logGb: 0.5,
  /** Per metric of one's own in a month, up to 10,000, and per alarm of standard resolution. From the same list. */
  metricMonth: 0.3,
  alarmMonth: 0.1,
}

export type Prices = typeof PRICES
