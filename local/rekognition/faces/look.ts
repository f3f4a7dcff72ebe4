import type { Frame } from './frame.ts'
import { clip, cutFrame, type Pixels, type Rect, resize, scaledToFit } from './pixels.ts'

/** The detector's input is a square of so many pixels. */
const detectorSide = 512

/** One pass of the detector over an image. */
export interface Look {
  /** The longer side of the image in the detector's input, in pixels: 512, or at most 256 with several turns. */
  side: number
  /** The image is shown turned by so many quarters clockwise, up to four of them beside each other. */
  turns: number[]
  /** Whether to look at the image with its contrast stretched. */
  contrast: boolean
}

/** A face that the detector saw. */
export interface Found {
  /** 0 to 1. */
  score: number
  /** In pixels of the image. */
  box: Rect
  /** Roughly how far the face is rolled clockwise, in radians: the turn in which the detector liked it best. */
  turn: number
}

type Detector = (
  input: Pixels,
) => Promise<{ score: number; box: { x: number; y: number; width: number; height: number } }[]>

/** Shows the image to the detector, in all turns of the look at once. */
export async function lookOnce(image: Pixels, { side, turns }: Look, detect: Detector): Promise<Found[]> {
  const { width, height, scale } = scaledToFit(image, side)
  const small = await resize(image, width, height)
  const input = { data: Buffer.alloc(detectorSide ** 2 * 3), width: detectorSide, height: detectorSide }
  const cell = turns.length > 1 ? detectorSide / 2 : detectorSide
  const corner = (index: number) => ({ left: (index % 2) * cell, top: Math.floor(index / 2) * cell })
  for (const [index, turn] of turns.entries()) paste(quarterTurned(small, turn), input, corner(index))

  const found = (await detect(input)).flatMap(({ score, box }): Found[] => {
    const column = turns.length > 1 && box.x + box.width / 2 >= cell ? 1 : 0
    const row = turns.length > 1 && box.y + box.height / 2 >= cell ? 1 : 0
    const turn = turns[2 * row + column]
    if (turn === undefined) return []
    const turned = {
      left: box.x - column * cell,
      top: box.y - row * cell,
      width: box.width,
      height: box.height,
    }
    const upright = turnedBack(turned, turn, small)
    const inImage = {
      left: upright.left / scale,
      top: upright.top / scale,
      width: upright.width / scale,
      height: upright.height / scale,
    }
    return [{ score, box: clip(inImage, image), turn: turn * (-Math.PI / 2) }]
  })
  return withoutRepeats(found)
}

/** The image turned clockwise by so many quarters. */
function quarterTurned({ data, width, height }: Pixels, quarters: number): Pixels {
  if (quarters === 0) return { data, width, height }
  const [newWidth, newHeight] = quarters === 2 ? [width, height] : [height, width]
  const turned = Buffer.alloc(data.length)
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [toX, toY] =
        quarters === 1
          ? [height - 1 - y, x]
          : quarters === 2
            ? [width - 1 - x, height - 1 - y]
            : [y, width - 1 - x]
      const from = 3 * (y * width + x)
      data.copy(turned, 3 * (toY * newWidth + toX), from, from + 3)
    }
  }
  return { data: turned, width: newWidth, height: newHeight }
}

/** Where a rectangle of the turned image is in the image of the given size. */
function turnedBack(
  { left, top, width, height }: Rect,
  quarters: number,
  image: { width: number; height: number },
): Rect {
  switch (quarters) {
    case 1:
      return { left: top, top: image.height - left - width, width: height, height: width }
    case 2:
      return { left: image.width - left - width, top: image.height - top - height, width, height }
    case 3:
      return { left: image.width - top - height, top: left, width: height, height: width }
    default:
      return { left, top, width, height }
  }
}

function paste(from: Pixels, onto: Pixels, { left, top }: { left: number; top: number }): void {
  for (let y = 0; y < from.height; y++) {
    const row = 3 * y * from.width
    from.data.copy(onto.data, 3 * ((top + y) * onto.width + left), row, row + 3 * from.width)
  }
}

/** How surely each of up to four frames shows a face in its middle, 0 to 1; 0 where the detector sees none. */
export async function scoresOf(image: Pixels, frames: Frame[], detect: Detector): Promise<number[]> {
  const input = { data: Buffer.alloc(detectorSide ** 2 * 3), width: detectorSide, height: detectorSide }
  const cell = detectorSide / 2
  const corners = frames.map((_, index) => ({ left: (index % 2) * cell, top: Math.floor(index / 2) * cell }))
  for (const [index, frame] of frames.entries()) {
    paste(await cutFrame(image, frame, cell), input, corners[index] ?? { left: 0, top: 0 })
  }
  const found = await detect(input)
  return corners.map(({ left, top }) => {
    const middle = { x: left + cell / 2, y: top + cell / 2 }
    const around = found.filter(
      ({ box: { x, y, width, height } }) =>
        Math.abs(x + width / 2 - middle.x) < cell / 6 && Math.abs(y + height / 2 - middle.y) < cell / 6,
    )
    return Math.max(0, ...around.map(({ score }) => score))
  })
}

/** An upright face is sometimes liked better on its side; a face that does lie on its side is hardly seen otherwise. */
function preference({ score, turn }: Found): number {
  return turn === 0 ? score + 0.3 : score
}

/** Keeps the faces that stand as the surest does, since all people on a photo do, and each of them once. */
function withoutRepeats(found: Found[]): Found[] {
  const kept: Found[] = []
  for (const face of found.sort((one, other) => preference(other) - preference(one))) {
    const repeated = kept.some((other) => other.turn !== face.turn || overlap(face.box, other.box) > 0.3)
    if (!repeated) kept.push(face)
  }
  return kept
}

/** The share of two rectangles that both have in common. */
function overlap(one: Rect, other: Rect): number {
  const width = Math.min(one.left + one.width, other.left + other.width) - Math.max(one.left, other.left)
  const height = Math.min(one.top + one.height, other.top + other.height) - Math.max(one.top, other.top)
  if (width <= 0 || height <= 0) return 0
  const common = width * height
  return common / (one.width * one.height + other.width * other.height - common)
}
