/** PhotometricInterpretation: what the samples of a TIFF mean. Source: TIFF 6.0; the Adobe Photoshop TIFF notes, for ICC_LAB. */
export const SEPARATED = 5
export const CIE_LAB = 8
export const ICC_LAB = 9

export interface TiffOptions {
  width: number
  height: number
  photometric: typeof SEPARATED | typeof CIE_LAB | typeof ICC_LAB
  samplesPerPixel: 3 | 4
}

/** Writes a TIFF of 8 bits a sample without compression, of colour spaces that sharp does not write. */
export function tiffOf(samples: Uint8Array, options: TiffOptions): Buffer {
  const { width, height, photometric, samplesPerPixel } = options
  const BITS = 258
  const STRIP = 273
  const tags: [tag: number, count: number, value: number][] = [
    [256, 1, width],
    [257, 1, height],
    [BITS, samplesPerPixel, 0],
    [259, 1, 1], // no compression
    [262, 1, photometric],
    [STRIP, 1, 0],
    [277, 1, samplesPerPixel],
    [278, 1, height], // rows of the strip
    [279, 1, samples.length],
  ]
  const bits = Buffer.alloc(2 * samplesPerPixel)
  for (let at = 0; at < bits.length; at += 2) bits.writeUInt16LE(8, at)
  const directory = Buffer.alloc(2 + 12 * tags.length + 4)
  const bitsAt = HEADER.length + directory.length
  const offsets = new Map([
    [BITS, bitsAt],
    [STRIP, bitsAt + bits.length],
  ])
  directory.writeUInt16LE(tags.length, 0)
  for (const [index, [tag, count, value]] of tags.entries()) {
    const at = 2 + 12 * index
    directory.writeUInt16LE(tag, at)
    directory.writeUInt16LE(tag === BITS ? SHORT : LONG, at + 2)
    directory.writeUInt32LE(count, at + 4)
    directory.writeUInt32LE(offsets.get(tag) ?? value, at + 8)
  }
  return Buffer.concat([HEADER, directory, bits, samples])
}

/** Little endian; the directory follows. */
const HEADER = Buffer.from('II*\0\x08\0\0\0', 'latin1')
const SHORT = 3
const LONG = 4
