import { readFile } from 'node:fs/promises'
import {
  AlphaAction,
  ColorSpace,
  type IMagickImage,
  ImageMagick,
  initializeImageMagick,
  MagickColors,
  MagickError,
  MagickFormat,
  MagickGeometry,
  MagickImageInfo,
  MagickReadSettings,
  ResourceLimits,
} from '@imagemagick/magick-wasm'
import { formatOf } from '../core/photo-format.ts'
import { srgbProfile } from './srgb.ts'

/** Why a photo cannot be converted: the reasons with which its attendee is skipped. */
export type Refusal = 'photo_damaged' | 'photo_too_many_pixels' | 'photo_format' | 'photo_tiff'

export type Converted = { jpeg: Uint8Array } | { refused: Refusal }

/** Nothing but these is decoded, by the decoder of that name: ImageMagick knows formats that run scripts and read files. */
const DECODERS: Record<string, MagickFormat> = {
  jpeg: MagickFormat.Jpeg,
  png: MagickFormat.Png,
  webp: MagickFormat.WebP,
  gif: MagickFormat.Gif,
  bmp: MagickFormat.Bmp,
  tiff: MagickFormat.Tiff,
  avif: MagickFormat.Avif,
  heic: MagickFormat.Heic,
}

/**
 * More pixels are refused before any is decoded. Phones take up to 50 million as HEIC, which is decoded whole and copied, and 200
 * million as JPEG, which is decoded at a fraction of its size.
 */
const MAX_PIXELS: Partial<Record<MagickFormat, number>> = {
  [MagickFormat.Jpeg]: 220_000_000,
  [MagickFormat.Heic]: 52_000_000,
  [MagickFormat.Avif]: 52_000_000,
}
const MAX_OTHER_PIXELS = 110_000_000
const MAX_SIDE = 32_768
/** Of decoded pixels, in bytes: enough for MAX_PIXELS with alpha, and for turning them. */
const MAX_MEMORY = 1_000_000_000n

/** Rekognition's smallest face is a share of the photo from 1920 × 1080 on: more pixels find no more faces. */
const JPEG_SIDE = 2560
/** Rekognition takes 5 MB as bytes, and Lambda answers 6 MB, with a third more for base64. */
export const MAX_JPEG_BYTES = 2 * 1024 * 1024
const QUALITIES = [92, 80, 65]

const WASM = new URL('../../node_modules/@imagemagick/magick-wasm/dist/x86/magick.wasm', import.meta.url)

/** Loads ImageMagick with its limits, once per container. */
async function load(): Promise<void> {
  await initializeImageMagick(await readFile(WASM))
  ResourceLimits.memory = MAX_MEMORY
  ResourceLimits.disk = 0n // beyond the memory it would go on in files, which are in memory too
}
let loaded: Promise<void> | undefined

/**
 * Converts a photo to an upright JPEG in sRGB that Rekognition takes. The same photo makes the same bytes, so that it is the
 * same face for Rekognition. Of an animation it takes the first picture.
 */
export async function convert(photo: Uint8Array): Promise<Converted> {
  const format = DECODERS[formatOf(photo.subarray(0, 16)) ?? '']
  if (format === undefined) return { refused: 'photo_format' }
  loaded ??= load()
  await loaded
  try {
    const settings = new MagickReadSettings({ format, frameIndex: 0, frameCount: 1 })
    const { width, height } = MagickImageInfo.create(photo, settings)
    if (isTooLarge(format, width, height)) return { refused: 'photo_too_many_pixels' }
    // libjpeg decodes at a half, a quarter or an eighth of the size, down to this.
    if (format === MagickFormat.Jpeg && Math.max(width, height) > JPEG_SIDE)
      settings.setDefine('jpeg:size', `${JPEG_SIDE}x${JPEG_SIDE}`)
    return ImageMagick.read(photo, settings, (image) =>
      hasKnownColours(image) ? { jpeg: encode(image) } : { refused: 'photo_tiff' },
    )
  } catch (error) {
    // A file that makes the decoder crash harms nothing outside of its memory, and the next photo gets another one.
    if (error instanceof WebAssembly.RuntimeError) loaded = undefined
    else if (!(error instanceof MagickError)) throw error
    return { refused: BEYOND_LIMITS.test(error.message) ? 'photo_too_many_pixels' : 'photo_damaged' }
  }
}

/** What ImageMagick says when a photo needs more than `load` allows. */
const BEYOND_LIMITS = /Exceeds ?Limit|Resources ?Exhausted|Memory ?Allocation ?Failed/i

const isTooLarge = (format: MagickFormat, width: number, height: number): boolean =>
  Math.max(width, height) > MAX_SIDE || width * height > (MAX_PIXELS[format] ?? MAX_OTHER_PIXELS)

/**
 * False of a TIFF whose colours would come out wrong: in a space that ImageMagick does not know, such as ICC's Lab, or Lab in
 * numbers of 32 bits, which it cuts off. Photoshop's Lab, of 8 and 16 bits, is converted.
 */
const hasKnownColours = (image: IMagickImage): boolean =>
  image.getAttribute('tiff:photometric') !== 'unknown' &&
  !(image.colorSpace === ColorSpace.Lab && image.depth === 32)

function encode(image: IMagickImage): Uint8Array {
  shrink(image, JPEG_SIDE)
  image.autoOrient()
  // Without a profile it is taken for what its colour space usually means.
  image.blackPointCompensation = true
  if (image.getColorProfile() !== null) image.setProfile('icc', srgbProfile())
  else image.colorSpace = ColorSpace.sRGB
  image.backgroundColor = MagickColors.White
  image.alpha(AlphaAction.Remove)
  image.strip()
  for (let side = JPEG_SIDE; ; side = Math.floor(side * 0.7)) {
    shrink(image, side)
    for (const quality of QUALITIES) {
      image.quality = quality
      const jpeg = image.write(MagickFormat.Jpeg, (bytes) => bytes.slice()) // the memory is ImageMagick's
      if (jpeg.length <= MAX_JPEG_BYTES) return jpeg
    }
  }
}

function shrink(image: IMagickImage, side: number): void {
  if (Math.max(image.width, image.height) <= side) return
  image.resize(new MagickGeometry(side, side)) // keeps the proportions
}
