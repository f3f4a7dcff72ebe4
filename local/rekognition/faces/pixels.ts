import sharp, { type Sharp } from 'sharp'
import { RekognitionError } from '../errors.ts'

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

/**
 * Decodes a JPEG or PNG, turned upright by its Exif orientation and scaled down to at most 1920 pixels a side.
 * @throws RekognitionError InvalidImageFormatException, ImageTooLargeException or InvalidParameterException (too small)
 */
export async function decode(photo: Uint8Array): Promise<Pixels> {
  const { format, width, height } = await readable(sharp(photo).metadata())
  if (format !== 'jpeg' && format !== 'png') throw new RekognitionError('InvalidImageFormatException')
  if (width < minimumSide || height < minimumSide) {
    throw new RekognitionError(
      'InvalidParameterException',
      `Request has invalid parameters: the image is ${width}x${height} pixels, each side must have at least ${minimumSide}`,
    )
  }
  const { data, info } = await readable(
    sharp(photo, { failOn: 'error' })
      .autoOrient()
      .resize(referenceSide, referenceSide, { fit: 'inside', withoutEnlargement: true })
      .flatten({ background: 'white' })
      .toColourspace('srgb')
      .raw()
      .toBuffer({ resolveWithObject: true }),
  )
  return { data, width: info.width, height: info.height }
}

/** The image scaled to fit in a square of `side` pixels, at the top left of a black square of `canvas` pixels. */
export async function fitInto(image: Pixels, side: number, canvas: number): Promise<Pixels> {
  const { width, height } = scaledToFit(image, side)
  const data = await open(image)
    .resize(width, height, { fit: 'fill' })
    .extend({ right: canvas - width, bottom: canvas - height, background: 'black' })
    .toBuffer()
  return { data, width: canvas, height: canvas }
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

/** A part of the image as a square of `side` pixels: with black bars where the part is no square, or stretched. */
export async function cutSquare(
  image: Pixels,
  part: Rect,
  side: number,
  fit: 'bars' | 'stretch' = 'bars',
): Promise<Pixels> {
  const data = await open(image)
    .extract(part)
    .resize(side, side, { fit: fit === 'bars' ? 'contain' : 'fill', background: 'black' })
    .toBuffer()
  return { data, width: side, height: side }
}

/** The rectangle in whole pixels, as much of it as lies within the image. */
export function clip(rect: Rect, image: Pixels): Rect {
  const left = Math.min(Math.max(0, Math.floor(rect.left)), image.width - 1)
  const top = Math.min(Math.max(0, Math.floor(rect.top)), image.height - 1)
  return {
    left,
    top,
    width: Math.max(1, Math.min(Math.ceil(rect.left + rect.width), image.width) - left),
    height: Math.max(1, Math.min(Math.ceil(rect.top + rect.height), image.height) - top),
  }
}

function open({ data, width, height }: Pixels): Sharp {
  return sharp(data, { raw: { width, height, channels: 3 } }).raw()
}

async function readable<T>(result: Promise<T>): Promise<T> {
  try {
    return await result
  } catch (error) {
    const tooLarge = error instanceof Error && error.message.includes('exceeds pixel limit')
    throw new RekognitionError(tooLarge ? 'ImageTooLargeException' : 'InvalidImageFormatException')
  }
}
