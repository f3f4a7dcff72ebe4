import { readFile } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import sharp, { type Sharp } from 'sharp'
import { beforeAll, describe, expect, it } from 'vitest'
import { reasonOf } from '../../cli/reasons.ts'
import { convert, MAX_JPEG_BYTES } from '../../src/converter/convert.ts'
import { heicOf } from '../support/heic.ts'
import { CIE_LAB, ICC_LAB, SEPARATED, tiffOf } from '../support/tiff.ts'

const PATIENCE_MS = 120_000 // for large photos, on a busy machine
const WIDTH = 320
const HEIGHT = 200

/** Red, green, blue and yellow quarters, from the upper left to the lower right. */
const CORNERS = [
  [200, 40, 40],
  [40, 160, 60],
  [50, 70, 200],
  [220, 200, 60],
]
let picture: Buffer
beforeAll(async () => {
  const [red, green, blue, yellow] = CORNERS.map(([r, g, b]) => `rgb(${r},${g},${b})`)
  const quarter = (x: number, y: number, colour: string | undefined) =>
    `<rect x="${x * 160}" y="${y * 100}" width="160" height="100" fill="${colour}"/>`
  picture = await sharp(
    Buffer.from(
      `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}">${quarter(0, 0, red)}${quarter(1, 0, green)}${quarter(0, 1, blue)}${quarter(1, 1, yellow)}</svg>`,
    ),
  )
    .removeAlpha()
    .png()
    .toBuffer()
})

const drawn = (): Sharp => sharp(picture)

/** The picture as a camera stores it that is held in another way: a viewer turns it upright by `orientation`. */
async function heldAs(orientation: number): Promise<Sharp> {
  // One step after the other: sharp has an order of its own.
  const mirrored = [2, 4, 5, 7].includes(orientation) ? await drawn().flop().png().toBuffer() : picture
  const degrees = { 3: 180, 4: 180, 5: 270, 6: 270, 7: 90, 8: 90 }[orientation] ?? 0
  return sharp(await sharp(mirrored).rotate(degrees).png().toBuffer()).withMetadata({ orientation })
}

/** A bitmap of 24 bits, which sharp does not write. */
async function bmp(): Promise<Buffer> {
  const { data } = await drawn().flip().raw().toBuffer({ resolveWithObject: true })
  for (let at = 0; at < data.length; at += 3) data.subarray(at, at + 3).reverse()
  const header = Buffer.alloc(54)
  header.write('BM')
  header.writeUInt32LE(54 + data.length, 2)
  header.writeUInt32LE(54, 10)
  header.writeUInt32LE(40, 14)
  header.writeInt32LE(WIDTH, 18)
  header.writeInt32LE(HEIGHT, 22)
  header.writeUInt16LE(1, 26)
  header.writeUInt16LE(24, 28)
  return Buffer.concat([header, data])
}

/** The middle colours of the four quarters. */
async function quarters(jpeg: Uint8Array): Promise<number[][]> {
  const { data, info } = await sharp(jpeg).toColourspace('srgb').raw().toBuffer({ resolveWithObject: true })
  const places = [
    [0.25, 0.25],
    [0.75, 0.25],
    [0.25, 0.75],
    [0.75, 0.75],
  ] as const
  return places.map(([x, y]) => {
    const at = info.channels * (Math.floor(y * info.height) * info.width + Math.floor(x * info.width))
    return [...data.subarray(at, at + 3)]
  })
}

/** One colour, of any size, which takes few bytes in a file. */
const plain = (width: number, height: number) =>
  sharp({ create: { width, height, channels: 3, background: '#c82828' }, limitInputPixels: false })

const half = (bytes: Buffer) => bytes.subarray(0, bytes.length >> 1)

/** Every 97th byte after the header is another one. */
function scratched(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes)
  for (let at = 120; at < copy.length; at += 97) copy.writeUInt8(copy.readUInt8(at) ^ 0x5a, at)
  return copy
}

/** A PNG's header alone that claims a size. */
async function claiming(width: number, height: number): Promise<Buffer> {
  const png = await drawn().png().toBuffer()
  png.writeUInt32BE(width, 16)
  png.writeUInt32BE(height, 20)
  png.writeUInt32BE(crc32(png.subarray(12, 29)), 29)
  return png
}

type Make = () => Promise<Buffer>

const FORMATS: [name: string, make: Make][] = [
  ['WebP', () => drawn().webp({ quality: 95 }).toBuffer()],
  ['lossless WebP', () => drawn().webp({ lossless: true }).toBuffer()],
  ['AVIF', () => drawn().avif({ quality: 90, effort: 0 }).toBuffer()],
  ['HEIC', () => heicOf(picture)],
  ['TIFF without compression', () => drawn().tiff({ compression: 'none' }).toBuffer()],
  ['TIFF with LZW', () => drawn().tiff({ compression: 'lzw' }).toBuffer()],
  ['TIFF with JPEG', () => drawn().tiff({ compression: 'jpeg', quality: 95 }).toBuffer()],
  ['GIF', () => drawn().gif().toBuffer()],
  ['BMP', bmp],
  ['PNG', () => drawn().png().toBuffer()],
  ['PNG of 16 bits', () => drawn().toColourspace('rgb16').png().toBuffer()],
  ['PNG with a palette', () => drawn().png({ palette: true }).toBuffer()],
  ['JPEG', () => drawn().jpeg({ quality: 95 }).toBuffer()],
  ['progressive JPEG', () => drawn().jpeg({ quality: 95, progressive: true }).toBuffer()],
]

const ORIENTATIONS: [name: string, make: Make][] = [
  ...[1, 2, 3, 4, 5, 6, 7, 8].flatMap((orientation): [string, Make][] => [
    [`WebP, EXIF ${orientation}`, async () => (await heldAs(orientation)).webp({ quality: 95 }).toBuffer()],
    [`JPEG, EXIF ${orientation}`, async () => (await heldAs(orientation)).jpeg({ quality: 95 }).toBuffer()],
  ]),
  ['TIFF, 6', async () => (await heldAs(6)).tiff({ compression: 'lzw' }).toBuffer()],
  ['AVIF, 8', async () => (await heldAs(8)).avif({ quality: 90, effort: 0 }).toBuffer()],
  ...([1, 2, 3] as const).map((turns): [string, Make] => [
    `HEIC, turned by ${turns * 90} degrees`,
    async () =>
      heicOf(
        await drawn()
          .rotate(turns * 90)
          .png()
          .toBuffer(),
        { turns },
      ),
  ]),
]

/** The picture's Lab: lightness from 0 to 100, and two numbers that may be negative. */
async function labOf(): Promise<Float32Array> {
  const { buffer, byteOffset, length } = await drawn().toColourspace('lab').raw({ depth: 'float' }).toBuffer()
  return new Float32Array(buffer, byteOffset, length / 4)
}

const labTiff = async (photometric: typeof CIE_LAB | typeof ICC_LAB): Promise<Buffer> => {
  const shift = photometric === CIE_LAB ? 0 : 128 // signed, and not
  const samples = (await labOf()).map((value, at) => Math.round(at % 3 === 0 ? value * 2.55 : value + shift))
  return tiffOf(Uint8Array.from(samples), { width: WIDTH, height: HEIGHT, photometric, samplesPerPixel: 3 })
}

/** The amounts of ink that make a colour, by the formula that viewers use where a photo has no profile. */
function inksOf([red = 0, green = 0, blue = 0]: number[]): number[] {
  const light = Math.max(red, green, blue)
  return [...[red, green, blue].map((value) => 255 * (1 - value / light)), 255 - light]
}

async function cmykWithoutProfile(): Promise<Buffer> {
  const rgb = await drawn().raw().toBuffer()
  const samples = Array.from({ length: WIDTH * HEIGHT }, (_, at) =>
    inksOf([...rgb.subarray(3 * at, 3 * at + 3)]),
  )
  return tiffOf(Uint8Array.from(samples.flat(), Math.round), {
    width: WIDTH,
    height: HEIGHT,
    photometric: SEPARATED,
    samplesPerPixel: 4,
  })
}

/** CMYK holds none of the stronger colours, so the file is expected to look as the colour management of sharp shows it. */
const inCmyk = () => drawn().toColourspace('cmyk').withIccProfile('cmyk')

type Look = (file: Buffer) => Promise<number[][]>

const COLOURS: [name: string, make: Make, look?: Look][] = [
  ['WebP in Display P3', () => drawn().withIccProfile('p3').webp({ lossless: true }).toBuffer()],
  ['TIFF in Display P3', () => drawn().withIccProfile('p3').tiff({ compression: 'lzw' }).toBuffer()],
  [
    'HEIC in Display P3',
    async () => {
      const p3 = await drawn().withIccProfile('p3').png().toBuffer()
      const { icc } = await sharp(p3).metadata()
      // Without its profile, so that the samples stay those of Display P3.
      const samples = await sharp(p3, { ignoreIcc: true }).png().toBuffer()
      return heicOf(samples, { iccProfile: icc as Buffer })
    },
  ],
  ['JPEG in CMYK', () => inCmyk().jpeg({ quality: 98 }).toBuffer(), quarters],
  ['TIFF in CMYK', () => inCmyk().tiff({ compression: 'lzw' }).toBuffer(), quarters],
  ['TIFF in CMYK without a profile', cmykWithoutProfile],
  ['TIFF in Lab of 8 bits', () => labTiff(CIE_LAB)],
  ['TIFF in Lab of 16 bits', () => drawn().toColourspace('labs').tiff({ compression: 'none' }).toBuffer()],
]

/** Of 255, in each channel: what compression and rounding cost. */
const TOLERANCE = 8

describe.each([
  ['is converted', FORMATS],
  ['is turned upright', ORIENTATIONS],
  ['keeps its colours', COLOURS],
])('a photo %s:', (_, rows) => {
  it.each<[name: string, make: Make, look?: Look]>(rows)(
    '%s',
    async (_name, make, look = async () => CORNERS) => {
      const file = await make()
      const converted = await convert(file)
      if (!('jpeg' in converted)) throw new Error(converted.refused)
      const { format, width, height, space, orientation, icc } = await sharp(converted.jpeg).metadata()
      expect({ format, width, height, space, orientation, icc }).toEqual({
        format: 'jpeg',
        width: WIDTH,
        height: HEIGHT,
        space: 'srgb',
      })
      const expected = await look(file)
      const colours = await quarters(converted.jpeg)
      const distances = colours.flatMap((colour, corner) =>
        colour.map((value, channel) => Math.abs(value - (expected[corner]?.[channel] ?? 0))),
      )
      expect(Math.max(...distances), JSON.stringify(colours)).toBeLessThanOrEqual(TOLERANCE)
    },
  )
})

describe('a photo is converted', () => {
  it('to the same bytes each time, so that it is the same face', async () => {
    const webp = await drawn().webp().toBuffer()
    expect(await convert(webp)).toEqual(await convert(webp))
  })

  it('by its first picture, where it has several', async () => {
    const frames = [await drawn().png().toBuffer(), await plain(WIDTH, HEIGHT).png().toBuffer()]
    const converted = await convert(
      await sharp(frames, { join: { animated: true } })
        .gif()
        .toBuffer(),
    )
    if (!('jpeg' in converted)) throw new Error(converted.refused)
    const [, green] = await quarters(converted.jpeg)
    expect(green?.[1]).toBeGreaterThan(130)
  })

  it('on white, where it is transparent', async () => {
    const clear = { create: { width: 100, height: 100, channels: 4, background: '#00000000' } } as const
    const converted = await convert(await sharp(clear).webp().toBuffer())
    if (!('jpeg' in converted)) throw new Error(converted.refused)
    expect((await quarters(converted.jpeg))[0]).toEqual([255, 255, 255])
  })

  it('in grey, where it is grey', async () => {
    const converted = await convert(await drawn().greyscale().webp().toBuffer())
    expect(converted).toHaveProperty('jpeg')
  })

  it(
    'to a few megapixels and bytes, however large or noisy it is',
    async () => {
      const noise = sharp({
        create: {
          width: 4000,
          height: 3000,
          channels: 3,
          background: 'grey',
          noise: { type: 'gaussian', mean: 128, sigma: 60 },
        },
      })
      for (const photo of [
        await noise.png({ compressionLevel: 0 }).toBuffer(), // 36 MB
        await plain(16_320, 12_240).jpeg().toBuffer(), // 200 million pixels, as some phones have
        await plain(32_000, 1000).png().toBuffer(),
      ]) {
        const converted = await convert(photo)
        if (!('jpeg' in converted)) throw new Error(converted.refused)
        const { width, height } = await sharp(converted.jpeg).metadata()
        expect(Math.max(width, height)).toBeLessThanOrEqual(2560)
        expect(converted.jpeg.length).toBeLessThanOrEqual(MAX_JPEG_BYTES)
      }
    },
    PATIENCE_MS,
  )
})

const DAMAGED = /damaged/
const TOO_MANY = /far too many pixels/
const REFUSED: [name: string, reason: string, words: RegExp, make: Make][] = [
  ['WebP cut off in the middle', 'photo_damaged', DAMAGED, async () => half(await drawn().webp().toBuffer())],
  [
    'AVIF cut off in the middle',
    'photo_damaged',
    DAMAGED,
    async () => half(await drawn().avif({ effort: 0 }).toBuffer()),
  ],
  ['HEIC cut off in the middle', 'photo_damaged', DAMAGED, async () => half(await heicOf(picture))],
  ['TIFF cut off in the middle', 'photo_damaged', DAMAGED, async () => half(await drawn().tiff().toBuffer())],
  ['PNG cut off in the middle', 'photo_damaged', DAMAGED, async () => half(await drawn().png().toBuffer())],
  [
    'PNG with other bytes in it',
    'photo_damaged',
    DAMAGED,
    async () => scratched(await drawn().png().toBuffer()),
  ],
  [
    'JPEG of its first bytes',
    'photo_damaged',
    DAMAGED,
    async () => (await drawn().jpeg().toBuffer()).subarray(0, 100),
  ],
  ['BMP of nonsense', 'photo_damaged', DAMAGED, async () => Buffer.from(`BM${'A'.repeat(200)}`)],
  [
    'GIF of nonsense',
    'photo_damaged',
    DAMAGED,
    async () => Buffer.from(`GIF89a${'\xff'.repeat(200)}`, 'latin1'),
  ],
  [
    'TIFF without a directory',
    'photo_damaged',
    DAMAGED,
    async () => Buffer.from('II\x2a\0\x08\0\0\0\0\0', 'latin1'),
  ],
  ['TIFF in the Lab of ICC', 'photo_tiff', /TIFF file.*JPEG/, () => labTiff(ICC_LAB)],
  [
    'TIFF in Lab of 32 bits',
    'photo_tiff',
    /TIFF file.*JPEG/,
    () => drawn().toColourspace('lab').tiff({ compression: 'none' }).toBuffer(),
  ],
  [
    'HEIC that is larger than its picture',
    'photo_damaged',
    DAMAGED,
    () => heicOf(picture, { claimed: { width: 6000, height: 4000 } }),
  ],
  [
    'HEIC that claims 900 million pixels',
    'photo_too_many_pixels',
    TOO_MANY,
    () => heicOf(picture, { claimed: { width: 30_000, height: 30_000 } }),
  ],
  ['PNG that claims 900 million pixels', 'photo_too_many_pixels', TOO_MANY, () => claiming(30_000, 30_000)],
  ['PNG that claims a side of 40,000', 'photo_too_many_pixels', TOO_MANY, () => claiming(40_000, 10)],
  [
    'WebP that claims 256 million pixels',
    'photo_too_many_pixels',
    TOO_MANY,
    async () => {
      const webp = await drawn().webp().toBuffer()
      webp.writeUInt16LE(16_000, 26)
      webp.writeUInt16LE(16_000, 28)
      return webp
    },
  ],
  [
    'GIF of 256 million pixels in few bytes',
    'photo_too_many_pixels',
    TOO_MANY,
    () => plain(16_000, 16_000).gif({ effort: 1 }).toBuffer(),
  ],
  [
    'JPEG of 400 million pixels',
    'photo_too_many_pixels',
    TOO_MANY,
    () => plain(20_000, 20_000).jpeg().toBuffer(),
  ],
  [
    'SVG',
    'photo_format',
    /neither a JPEG nor a PNG/,
    async () => Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>'),
  ],
  [
    'script of ImageMagick',
    'photo_format',
    /neither a JPEG nor a PNG/,
    async () => Buffer.from('push graphic-context\nimage over 0,0 0,0 "https://example.com"'),
  ],
  [
    'PDF document',
    'photo_format',
    /neither a JPEG nor a PNG/,
    () =>
      readFile(new URL('../../LICENSE', import.meta.url)).then((text) =>
        Buffer.concat([Buffer.from('%PDF-1.7\n'), text]),
      ),
  ],
  ['empty file', 'photo_format', /neither a JPEG nor a PNG/, async () => Buffer.alloc(0)],
]

describe('a photo is refused, with words for the attendee:', () => {
  it.each(REFUSED)(
    '%s (%s)',
    async (_, reason, words, make) => {
      expect(await convert(await make())).toEqual({ refused: reason })
      expect(reasonOf(reason).toAttendee).toMatch(words)
    },
    PATIENCE_MS,
  )

  it('and the next one is converted all the same', async () => {
    expect(await convert(await drawn().webp().toBuffer())).toHaveProperty('jpeg')
  })
})

it('the table above has more than thirty files', () => {
  expect(FORMATS.length + ORIENTATIONS.length + COLOURS.length + REFUSED.length).toBeGreaterThan(30)
})
