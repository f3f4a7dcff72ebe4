import type { FaceDetail, Landmark } from '../engine.ts'
import { type Frame, type Point, rotate } from './frame.ts'
import type { Pixels } from './pixels.ts'

/** The points of a face that everything here needs, in pixels of the image. */
export interface FacePoints {
  eyeLeft: Point
  eyeRight: Point
  nose: Point
  mouth: Point
  mouthLeft: Point
  mouthRight: Point
}

/** Picks the points from the 68 that the landmark model gives (numbered as in the iBUG 300-W data set). */
export function pickPoints(all: Point[]): FacePoints {
  const at = (index: number) => centre(all.slice(index, index + 1))
  return {
    eyeLeft: centre(all.slice(36, 42)),
    eyeRight: centre(all.slice(42, 48)),
    nose: at(30),
    mouth: centre(all.slice(48, 68)),
    mouthLeft: at(48),
    mouthRight: at(54),
  }
}

/** By how much the face is rolled clockwise, in radians. */
export function rollOf({ eyeLeft, eyeRight }: FacePoints): number {
  return Math.atan2(eyeRight.y - eyeLeft.y, eyeRight.x - eyeLeft.x)
}

/** How far the points of two looks at the same face are from each other on average, in pixels. */
export function distanceBetween(one: FacePoints, other: FacePoints): number {
  const points = ['eyeLeft', 'eyeRight', 'nose', 'mouthLeft', 'mouthRight'] as const
  return points.reduce((sum, point) => sum + distance(one[point], other[point]), 0) / points.length
}

/**
 * The square that the recognition model wants to see, its eyes level: as dlib aligns faces, from which the model was
 * trained (the factors are those of face-api's `FaceLandmarks.alignDlib`).
 */
export function alignedFrame(points: FacePoints): Frame {
  const { eyeLeft, eyeRight, mouth } = points
  const size = (distance(eyeLeft, mouth) + distance(eyeRight, mouth)) / 2 / 0.45
  const angle = rollOf(points)
  const middle = centre([eyeLeft, eyeRight, mouth])
  const down = rotate({ x: 0, y: 0.07 * size }, angle)
  return { centre: { x: middle.x + down.x, y: middle.y + down.y }, size, angle }
}

/**
 * How the head is turned, in degrees, judged by where the nose is between eyes and mouth. Rough: the model of a face here
 * is a flat triangle with a nose that stands out by half the distance of the eyes.
 */
export function estimatePose(points: FacePoints): FaceDetail['Pose'] {
  const { eyeLeft, eyeRight, nose, mouth } = points
  const eyes = centre([eyeLeft, eyeRight])
  const roll = rollOf(points)
  const upright = rotate({ x: nose.x - eyes.x, y: nose.y - eyes.y }, -roll)
  const faceHeight = distance(eyes, mouth)
  const noseLength = 0.5 * distance(eyeLeft, eyeRight)
  // A nose seen from the front is 60 % of the way from the eyes to the mouth.
  const turned = (offset: number) => degrees(Math.asin(Math.max(-1, Math.min(1, offset / noseLength))))
  return {
    Roll: degrees(roll),
    Yaw: turned(upright.x),
    Pitch: turned(0.6 * faceHeight - upright.y),
  }
}

export function wireLandmarks(points: FacePoints, image: Pixels): Landmark[] {
  const types = ['eyeLeft', 'eyeRight', 'mouthLeft', 'mouthRight', 'nose'] as const
  return types.map((Type) => ({
    Type,
    X: points[Type].x / image.width,
    Y: points[Type].y / image.height,
  }))
}

function centre(points: Point[]): Point {
  const sum = points.reduce((total, { x, y }) => ({ x: total.x + x, y: total.y + y }), { x: 0, y: 0 })
  return { x: sum.x / points.length, y: sum.y / points.length }
}

function distance(one: Point, other: Point): number {
  return Math.hypot(one.x - other.x, one.y - other.y)
}

function degrees(radians: number): number {
  return (radians * 180) / Math.PI
}
