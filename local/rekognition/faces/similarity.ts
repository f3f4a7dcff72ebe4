import type { FaceTemplate } from '../engine.ts'

/**
 * From the distance of two descriptors to percent, linear between these points. A descriptor is the average of what face-api's
 * recognition model gives for a face with its eyes level and for its mirror image.
 *
 * 80, at which the service calls it a match unless told otherwise, lies at 0.49. It was chosen on 19 photos of one man, taken
 * over years, in other light and poses, as 104-pixel thumbnails, against 133 photos of other people (the package
 * @vladmandic/human carries them): 171 pairs of the man, 2,527 of him with somebody else.
 *
 *   80 % at   found     wrong
 *   0.44      78.4 %    0 of 2,527
 *   0.46      86.5 %    0
 *   0.48      93.0 %    0
 *   0.49      94.7 %    0
 *   0.50      95.3 %    0
 *   0.51      95.3 %    3
 *   0.52      97.1 %    5
 *
 * `bench/recognition.ts` measures the error on photos that had no part in this choice; see its docstring for the figures.
 */
const calibration = [
  { distance: 0, percent: 100 },
  { distance: 0.3, percent: 99 },
  { distance: 0.49, percent: 80 },
  { distance: 0.56, percent: 30 },
  { distance: 0.65, percent: 5 },
  { distance: 0.8, percent: 0 },
] as const

/** How surely two faces are of the same person, 0 to 100. */
export function similarity(one: FaceTemplate, other: FaceTemplate): number {
  return toPercent(distanceBetween(one, other))
}

function toPercent(distance: number): number {
  let below: { distance: number; percent: number } = calibration[0]
  for (const point of calibration) {
    if (distance < point.distance) {
      const share = (distance - below.distance) / (point.distance - below.distance)
      return below.percent + share * (point.percent - below.percent)
    }
    below = point
  }
  return below.percent
}

function distanceBetween(one: FaceTemplate, other: FaceTemplate): number {
  let sum = 0
  for (let i = 0; i < one.length; i++) sum += ((one[i] ?? 0) - (other[i] ?? 0)) ** 2
  return Math.sqrt(sum)
}
