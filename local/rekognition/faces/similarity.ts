import type { FaceTemplate } from '../engine.ts'

/**
 * From the distance of two descriptors of face-api's recognition model to percent, linear between these points.
 *
 * Measured on the 22 faces of face-api's six group photos, all of different people, and portraits made of them:
 * - the same person, portrait against group photo: 0.05 to 0.27, half of them below 0.12
 * - the same, portrait mirrored, turned by 10°, in grey or 90 pixels wide: half below 0.28, nine of ten below 0.39
 * - different people: from 0.468 up in the group photos (231 pairs), from 0.41 in distorted portraits (6,000 pairs);
 *   half above 0.71
 *
 * So 80, at which the service calls it a match unless told otherwise, lies at 0.42. The model's authors take 0.6 for the
 * limit (dlib, face_recognition_model_v1), with which 20 of the 231 pairs above would be matches.
 */
const calibration = [
  { distance: 0, percent: 100 },
  { distance: 0.25, percent: 99 },
  { distance: 0.42, percent: 80 },
  { distance: 0.5, percent: 30 },
  { distance: 0.6, percent: 5 },
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
