import type { FaceDetail, FaceTemplate } from '../engine.ts'

/**
 * From the distance of two descriptors to percent, linear between these points. A descriptor is the average of what face-api's
 * recognition model gives for a face with its eyes level and for its mirror image.
 *
 * 80, at which the service calls it a match unless told otherwise, lies at 0.50. It was chosen on 19 photos of one man, taken
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
 * That was before profiles were told apart as {@link templateOf} does, which concerns faces turned by more than 30° alone.
 *
 * Measured afterwards with bench/recognition.ts on 87 photos of 27 other people, none of which was used above: the test photos of
 * deepface (25, its master.csv says who is who), of face-api.js (40), of face_recognition (16) and of openface (6), each photo
 * another one of the person, the largest face of each. Of 138 pairs of one person and 3,603 pairs of two people:
 *
 *                   taken for one    for two
 *   one person         130 (94.2 %)     8
 *   two people           0          3,603
 *
 * With 95 % confidence: 89 to 97 % are found, and less than one of 1,200 pairs of two people is taken for one. Five of the
 * 8 have one of two photos, of a head in profile and of one thrown back. A photo that
 * lies on its side or stands on its head, without Exif saying so, is found in three of four cases (51 of 66).
 */
const calibration = [
  { distance: 0, percent: 100 },
  { distance: 0.3, percent: 99 },
  { distance: 0.5, percent: 80 },
  { distance: 0.56, percent: 30 },
  { distance: 0.65, percent: 5 },
  { distance: 0.8, percent: 0 },
] as const

/** Degrees by which a head may be turned aside and still show a face that compares well with one seen from the front. */
const frontal = 30
/** How far a full profile is from a face seen from the front, besides what tells the two apart anyway. */
const profileDistance = 0.34

/**
 * What a face is compared by: its descriptor and, as one more dimension, how far it is turned into profile. The model knows
 * faces from the front: of the one profile among the 22 faces of face-api's group photos, it finds two other people as similar
 * (a distance of 0.44 to 0.48) as the same face on a closer cut (0.44). This puts 0.51 and more between it and the two.
 */
export function templateOf(descriptor: Float32Array, { Yaw }: FaceDetail['Pose']): FaceTemplate {
  const profile = Math.max(0, Math.abs(Yaw) - frontal) / (90 - frontal)
  return Float32Array.of(...descriptor, profileDistance * profile)
}

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
