import sharp from 'sharp'
import { letter } from './lettering.ts'
import type { BoundingBox } from './rekognition/engine.ts'

/** A face to be marked on a photo. */
export interface Mark {
  box: BoundingBox
  label: string
  /** Whether the face was recognised: a solid green frame, as opposed to a dashed grey one. */
  found: boolean
}

interface Rect {
  x: number
  y: number
  width: number
  height: number
}

const colours = { found: '#16a34a', unknown: '#64748b', paper: '#ffffff' }

/** Draws a frame around each face and its label next to it. Returns a JPEG of the photo's size, upright. */
export async function annotate(photo: Uint8Array, marks: Mark[]): Promise<Buffer> {
  const { width, height } = (await sharp(photo).metadata()).autoOrient
  const svg = drawing(width, height, marks)
  return sharp(photo)
    .autoOrient()
    .composite([{ input: Buffer.from(svg) }])
    .jpeg({ quality: 90 })
    .toBuffer()
}

function drawing(width: number, height: number, marks: Mark[]): string {
  const photo = { x: 0, y: 0, width, height }
  const unit = Math.max(2, Math.max(width, height) / 480)
  const frames = marks.map((mark) => frame(faceRect(mark.box, photo), mark.found, unit))
  const taken: Rect[] = []
  const tags = marks.map((mark) => tag(mark, photo, unit, taken))
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">${frames.join('')}${tags.join('')}</svg>`
}

function faceRect(box: BoundingBox, photo: Rect): Rect {
  return {
    x: box.Left * photo.width,
    y: box.Top * photo.height,
    width: box.Width * photo.width,
    height: box.Height * photo.height,
  }
}

/** The frame on a wider white one, so that it stands out from any background. */
function frame(face: Rect, found: boolean, unit: number): string {
  const shape = `${at(face)} rx="${round(3 * unit)}" fill="none"`
  const dashes = found ? '' : ` stroke-dasharray="${round(4 * unit)} ${round(3 * unit)}"`
  return [
    `<rect ${shape} stroke="${colours.paper}" stroke-opacity="0.85" stroke-width="${round(2 * unit)}"/>`,
    `<rect ${shape} stroke="${colour(found)}" stroke-width="${round(unit)}"${dashes}/>`,
  ].join('')
}

/** The label on a coloured ground: above the face, below where there is no room, clear of the tags already `taken`. */
function tag({ box, label, found }: Mark, photo: Rect, unit: number, taken: Rect[]): string {
  const size = 9 * unit
  const padding = 2.5 * unit
  const { path, width } = letter(label, size)
  const face = faceRect(box, photo)
  const ground = place({ width: width + 2 * padding, height: size + 2 * padding }, face, photo, unit, taken)
  taken.push(ground)
  const baseline = `translate(${round(ground.x + padding)} ${round(ground.y + padding + 0.8 * size)})`
  return [
    `<rect ${at(ground)} rx="${round(2 * unit)}" fill="${colour(found)}" fill-opacity="0.92"/>`,
    `<path d="${path}" transform="${baseline}" fill="${colours.paper}"/>`,
  ].join('')
}

function place(
  size: { width: number; height: number },
  face: Rect,
  photo: Rect,
  unit: number,
  taken: Rect[],
): Rect {
  const x = clamp(face.x + face.width / 2 - size.width / 2, unit, photo.width - size.width - unit)
  const step = size.height + unit
  const above = face.y - step - unit
  const below = face.y + face.height + 2 * unit
  const rows = [above, below, above - step, below + step, above - 2 * step, below + 2 * step]
  const places = rows.map((y) => ({ ...size, x, y }))
  const free = places.find(
    (rect) =>
      rect.y >= 0 && rect.y + rect.height <= photo.height && !taken.some((other) => overlap(rect, other)),
  )
  return free ?? { ...size, x, y: clamp(above, unit, photo.height - size.height - unit) }
}

function overlap(one: Rect, other: Rect): boolean {
  return (
    one.x < other.x + other.width &&
    other.x < one.x + one.width &&
    one.y < other.y + other.height &&
    other.y < one.y + one.height
  )
}

function colour(found: boolean): string {
  return found ? colours.found : colours.unknown
}

function at({ x, y, width, height }: Rect): string {
  return `x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}"`
}

function clamp(value: number, least: number, most: number): number {
  return Math.max(least, Math.min(value, most))
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}
