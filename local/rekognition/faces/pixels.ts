import sharp, { type Sharp } from 'sharp'
import { RekognitionError } from '../errors.ts'
import { type Frame, toImage } from './frame.ts'

// Each picture is another one, so that libvips' cache of what it has done is of no use here; and the threads of the engine are enough.
sharp.cache(false)
sharp.concurrency(1)

/** A decoded image: rows of RGB, one byte a channel. */
export interface Pixels {
  data: Buffer
  width: number
  height: number
}

/** A rectangle in pixels. */
export interface Rect {
  left: number
  top: number
  width: number
  height: number
}

/** The side of the image in which a face has to be 40 pixels wide (Guidelines and quotas). */
const referenceSide = 1920

/** Smaller images are refused (Guidelines and quotas). */
const minimumSide = 80

/** Larger images are refused: documented for DetectLabels, and the text is what that operation was seen to answer. */
const maximumSide = 10_000

/**
 * Decodes a JPEG or PNG, turned upright by its Exif orientation and scaled down to at most 1920 pixels a side.
 * @throws RekognitionError InvalidImageFormatException, ImageTooLargeException or InvalidParameterException (too small)
 */
export async function decode(photo: Uint8Array): Promise<Pixels> {
  const { format, width, height } = await readable(sharp(photo, { limitInputPixels: false }).metadata())
  if (format !== 'jpeg' && format !== 'png') throw new RekognitionError('InvalidImageFormatException')
  // The service does not say what is wrong with the parameters.
  if (width < minimumSide || height < minimumSide) throw new RekognitionError('InvalidParameterException')
  if (width > maximumSide || height > maximumSide) {
    throw new RekognitionError(
      'ImageTooLargeException',
      `Input image dimensions ${width} x ${height} exceed maximum dimension size of ${maximumSide} pixels`,
    )
  }
  const { data, info } = await readable(
    sharp(photo, { failOn: 'error', sequentialRead: true, limitInputPixels: maximumSide ** 2 })
      .autoOrient()
      .resize(referenceSide, referenceSide, { fit: 'inside', withoutEnlargement: true })
      .flatten({ background: 'white' })
      .toColourspace('srgb')
      .raw()
      .toBuffer({ resolveWithObject: true }),
  )
  return { data, width: info.width, height: info.height }
}

/** The image with its brightness stretched over the whole range, so that faces show in the dark. */
export async function stretchContrast(image: Pixels): Promise<Pixels> {
  return { ...image, data: await open(image).normalise({ lower: 1, upper: 99 }).toBuffer() }
}

/** The size that an image or rectangle has when it is scaled to fit in a square of `side` pixels. */
export function scaledToFit({ width, height }: { width: number; height: number }, side: number) {
  const scale = side / Math.max(width, height)
  return {
    width: Math.max(1, Math.round(width * scale)),
    height: Math.max(1, Math.round(height * scale)),
    scale,
  }
}

/** A part of the image, stretched to a square of `side` pixels. */
export async function stretchToSquare(image: Pixels, part: Rect, side: number): Promise<Pixels> {
  const data = await open(image).extract(part).resize(side, side, { fit: 'fill' }).toBuffer()
  return { data, width: side, height: side }
}

/** The image scaled to `width` by `height` pixels. */
export async function resize(image: Pixels, width: number, height: number): Promise<Pixels> {
  return { data: await open(image).resize(width, height, { fit: 'fill' }).toBuffer(), width, height }
}

/** What is seen through a frame, as a square of `side` pixels; black where the frame reaches beyond the image. */
export async function cutFrame(image: Pixels, frame: Frame, side: number): Promise<Pixels> {
  const { centre, size, angle } = frame
  const reach = (size / 2) * (Math.abs(Math.cos(angle)) + Math.abs(Math.sin(angle))) + 2
  const around = clip(
    { left: centre.x - reach, top: centre.y - reach, width: 2 * reach, height: 2 * reach },
    image,
  )
  // Scaled down first and by sharp, since sampling would skip pixels of a large face.
  const scale = Math.min(1, side / size)
  const width = Math.max(1, Math.round(around.width * scale))
  const height = Math.max(1, Math.round(around.height * scale))
  const data = await open(image).extract(around).resize(width, height, { fit: 'fill' }).toBuffer()
  const source = { data, width, height }

  const cut = Buffer.alloc(side * side * 3)
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const at = toImage(frame, { x: (x + 0.5) / side, y: (y + 0.5) / side })
      sample(
        source,
        ((at.x - around.left) / around.width) * width - 0.5,
        ((at.y - around.top) / around.height) * height - 0.5,
        cut,
        3 * (y * side + x),
      )
    }
  }
  return { data: cut, width: side, height: side }
}

/** Writes the colour between four pixels to `target` at `offset`; leaves it black beyond the image. */
function sample({ data, width, height }: Pixels, x: number, y: number, target: Buffer, offset: number): void {
  if (x < -0.5 || y < -0.5 || x > width - 0.5 || y > height - 0.5) return
  const left = Math.max(0, Math.floor(x))
  const top = Math.max(0, Math.floor(y))
  const right = Math.min(width - 1, left + 1)
  const bottom = Math.min(height - 1, top + 1)
  const toRight = Math.max(0, x - left)
  const toBottom = Math.max(0, y - top)
  for (let channel = 0; channel < 3; channel++) {
    const at = (column: number, row: number) => data[3 * (row * width + column) + channel] ?? 0
    const above = at(left, top) * (1 - toRight) + at(right, top) * toRight
    const below = at(left, bottom) * (1 - toRight) + at(right, bottom) * toRight
    target[offset + channel] = above * (1 - toBottom) + below * toBottom
  }
}

/** The rectangle in whole pixels, as much of it as lies within the image. */
export function clip(rect: Rect, image: { width: number; height: number }): Rect {
  const left = Math.min(Math.max(0, Math.floor(rect.left)), image.width - 1)
  const top = Math.min(Math.max(0, Math.floor(rect.top)), image.height - 1)
  return {
    left,
    top,
    width: Math.max(1, Math.min(Math.ceil(rect.left + rect.width), image.width) - left),
    height: Math.max(1, Math.min(Math.ceil(rect.top + rect.height), image.height) - top),
  }
}

/** The image seen from left to right in a mirror. */
export function mirror({ data, width, height }: Pixels): Pixels {
  const mirrored = Buffer.alloc(data.length)
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = 3 * (y * width + x)
      data.copy(mirrored, 3 * (y * width + width - 1 - x), from, from + 3)
    }
  }
  return { data: mirrored, width, height }
}

function open({ data, width, height }: Pixels): Sharp {
  return sharp(data, { raw: { width, height, channels: 3 } }).raw()
}

async function readable<T>(result: Promise<T>): Promise<T> {
  try {
    return await result
  } catch {
    throw new RekognitionError('InvalidImageFormatException')
  }
}
