import type { Rect } from './pixels.ts'

/** A point of an image, in pixels from the top left. */
export interface Point {
  x: number
  y: number
}

/**
 * A square part of an image that may stand at an angle: seen through it, what is rolled clockwise by `angle` stands upright.
 * In pixels and radians.
 */
export interface Frame {
  centre: Point
  size: number
  angle: number
}

/** The square that a rectangle fits into, around the same centre. */
export function frameAround({ left, top, width, height }: Rect, angle: number): Frame {
  return { centre: { x: left + width / 2, y: top + height / 2 }, size: Math.max(width, height), angle }
}

/** Where in the image a point of the frame is. The frame reaches from 0 to 1 both ways. */
export function toImage({ centre, size, angle }: Frame, { x, y }: Point): Point {
  const turned = rotate({ x: (x - 0.5) * size, y: (y - 0.5) * size }, angle)
  return { x: centre.x + turned.x, y: centre.y + turned.y }
}

export function rotate({ x, y }: Point, angle: number): Point {
  return { x: x * Math.cos(angle) - y * Math.sin(angle), y: x * Math.sin(angle) + y * Math.cos(angle) }
}
