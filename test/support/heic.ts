import sharp from 'sharp'

/**
 * Writes HEIC files, for which no library on npm has an encoder. The picture is HEVC of the simplest kind: blocks of 32 × 32
 * pixels whose samples are written as they are (PCM), each in a slice of its own. A phone's files differ in size, not in kind.
 * Sources: ITU-T H.265, 7.3 and 9.3; ISO/IEC 14496-15, 8.3.3.1 (hvcC); ISO/IEC 23008-12 (HEIF).
 */
export interface HeicOptions {
  /** How often a viewer turns the picture by 90 degrees, against the clock. */
  turns?: 0 | 1 | 2 | 3
  /** The colour profile that the file carries. */
  iccProfile?: Uint8Array
  /** The size that the header tells; the picture's own unless given. */
  claimed?: { width: number; height: number }
}

/** @param image whatever sharp reads, turned upright */
export async function heicOf(image: Uint8Array, options: HeicOptions = {}): Promise<Buffer> {
  const { data, info } = await sharp(image)
    .autoOrient()
    .removeAlpha()
    .toColourspace('srgb')
    .raw()
    .toBuffer({ resolveWithObject: true })
  // Of an odd number the last one is cut off, since two by two pixels share their colour.
  const [width, height] = [info.width & ~1, info.height & ~1]
  const [columns, rows] = [Math.ceil(width / BLOCK), Math.ceil(height / BLOCK)]
  const slices: Buffer[] = []
  for (let index = 0; index < columns * rows; index++) {
    const samples = samplesOf(
      data,
      info.width,
      height,
      (index % columns) * BLOCK,
      Math.floor(index / columns) * BLOCK,
    )
    slices.push(slice(index, columns * rows, samples))
  }
  const claimed = options.claimed ?? { width, height }
  const sequence = sequenceParameters(columns * BLOCK, rows * BLOCK, width, height)
  return container(
    Buffer.concat(slices.map((unit) => Buffer.concat([uint(4, unit.length), unit]))),
    sequence,
    {
      ...options,
      claimed,
    },
  )
}

const BLOCK = 32

/** The samples of a block as 4:2:0 in BT.601, limited range: luma, then the two of chroma. Beyond the edge, the edge is repeated. */
function samplesOf(rgb: Buffer, width: number, height: number, left: number, top: number): Buffer {
  const samples = Buffer.alloc(BLOCK * BLOCK * 1.5)
  const half = BLOCK / 2
  const chroma = new Float64Array(2 * half * half)
  for (let y = 0; y < BLOCK; y++)
    for (let x = 0; x < BLOCK; x++) {
      const at = 3 * (Math.min(top + y, height - 1) * width + Math.min(left + x, width - 1))
      const [r = 0, g = 0, b = 0] = rgb.subarray(at, at + 3)
      samples[y * BLOCK + x] = Math.round(16 + (0.299 * r + 0.587 * g + 0.114 * b) * (219 / 255))
      const pair = (y >> 1) * half + (x >> 1)
      chroma[pair] = (chroma[pair] ?? 0) + (-0.168736 * r - 0.331264 * g + 0.5 * b) / 4
      chroma[half * half + pair] =
        (chroma[half * half + pair] ?? 0) + (0.5 * r - 0.418688 * g - 0.081312 * b) / 4
    }
  chroma.forEach((value, index) => {
    samples[BLOCK * BLOCK + index] = Math.round(128 + value * (224 / 255))
  })
  return samples
}

// The arithmetic code of "whole block, PCM" and of "end of slice": always the same, since each slice begins it anew.
const PCM_FOLLOWS = [0x86, 0x80]
const END_OF_SLICE = [0xfe, 0x80]

function slice(index: number, count: number, samples: Buffer): Buffer {
  const header = new Bits()
    .put(1, index === 0 ? 1 : 0)
    .put(1, 0)
    .ue(0)
  if (index > 0) header.put(Math.ceil(Math.log2(count)), index)
  header.ue(2).ue(0).stop() // an I slice; the quantiser as it is
  return unit(
    19,
    Buffer.concat([header.bytes(), Buffer.from(PCM_FOLLOWS), samples, Buffer.from(END_OF_SLICE)]),
  )
}

/** Main Still Picture, level 6: also in `hvcC`. */
const PROFILE = Buffer.from([3, 0x70, 0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 180])

function videoParameters(): Buffer {
  const bits = new Bits().put(4, 0).put(2, 3).put(6, 0).put(3, 0).put(1, 1).put(16, 0xffff).all(PROFILE)
  bits.put(1, 1).ue(0).ue(0).ue(0).put(6, 0).ue(0).put(2, 0)
  return unit(32, bits.stop().bytes())
}

function sequenceParameters(codedWidth: number, codedHeight: number, width: number, height: number): Buffer {
  const bits = new Bits()
    .put(4, 0)
    .put(3, 0)
    .put(1, 1)
    .all(PROFILE)
    .ue(0)
    .ue(1)
    .ue(codedWidth)
    .ue(codedHeight)
  bits
    .put(1, 1)
    .ue(0)
    .ue((codedWidth - width) >> 1)
    .ue(0)
    .ue((codedHeight - height) >> 1) // what a viewer cuts off
  bits.ue(0).ue(0).ue(0).put(1, 1).ue(0).ue(0).ue(0)
  bits.ue(2).ue(0).ue(0).ue(3).ue(0).ue(0) // blocks of 32 × 32
  bits.put(1, 0).put(1, 0).put(1, 0)
  bits.put(1, 1).put(4, 7).put(4, 7).ue(2).ue(0).put(1, 1) // PCM of 8 bits, unfiltered
  bits.ue(0).put(1, 0).put(1, 0).put(1, 0).put(1, 0).put(1, 0)
  return unit(33, bits.stop().bytes())
}

function pictureParameters(): Buffer {
  const bits = new Bits().ue(0).ue(0).put(1, 0).put(1, 0).put(3, 0).put(1, 0).put(1, 0).ue(0).ue(0).ue(0)
  bits
    .put(1, 0)
    .put(1, 0)
    .put(1, 0)
    .ue(0)
    .ue(0)
    .put(1, 0)
    .put(1, 0)
    .put(1, 0)
    .put(1, 0)
    .put(1, 0)
    .put(1, 0)
    .put(1, 0)
  bits.put(1, 1).put(1, 0).put(1, 1).put(1, 0).put(1, 0).ue(0).put(1, 0).put(1, 0)
  return unit(34, bits.stop().bytes())
}

/** A NAL unit: its header, and its bytes with those that a start code could be seen in kept apart. */
function unit(type: number, payload: Buffer): Buffer {
  const bytes = [type << 1, 1]
  let zeros = 0
  for (const byte of payload) {
    if (zeros >= 2 && byte <= 3) {
      bytes.push(3)
      zeros = 0
    }
    bytes.push(byte)
    zeros = byte === 0 ? zeros + 1 : 0
  }
  return Buffer.from(bytes)
}

function container(
  picture: Buffer,
  sequence: Buffer,
  { turns, iccProfile, claimed }: HeicOptions & { claimed: { width: number; height: number } },
): Buffer {
  const parameters = [videoParameters(), sequence, pictureParameters()].map((bytes, index) =>
    Buffer.concat([Buffer.from([0x80 | (32 + index)]), uint(2, 1), uint(2, bytes.length), bytes]),
  )
  const properties = [
    box(
      'hvcC',
      Buffer.from([1]),
      PROFILE,
      Buffer.from([0xf0, 0, 0xfc, 0xfd, 0xf8, 0xf8, 0, 0, 0x0f, 3]),
      ...parameters,
    ),
    fullBox('ispe', 0, uint(4, claimed.width), uint(4, claimed.height)),
    ...(iccProfile ? [box('colr', Buffer.from('prof'), Buffer.from(iccProfile))] : []),
    ...(turns ? [box('irot', Buffer.from([turns]))] : []),
  ]
  const associations = Buffer.from([properties.length, ...properties.map((_, index) => 0x80 | (index + 1))])
  const type = box('ftyp', Buffer.from('heic\0\0\0\0mif1heic'))
  const meta = (offset: number) =>
    fullBox(
      'meta',
      0,
      fullBox('hdlr', 0, uint(4, 0), Buffer.from('pict'), Buffer.alloc(13)),
      fullBox('pitm', 0, uint(2, 1)),
      fullBox(
        'iloc',
        0,
        Buffer.from([0x44, 0]),
        uint(2, 1),
        uint(2, 1),
        uint(2, 0),
        uint(2, 1),
        uint(4, offset),
        uint(4, picture.length),
      ),
      fullBox('iinf', 0, uint(2, 1), fullBox('infe', 2, uint(2, 1), uint(2, 0), Buffer.from('hvc1\0'))),
      box('iprp', box('ipco', ...properties), fullBox('ipma', 0, uint(4, 1), uint(2, 1), associations)),
    )
  return Buffer.concat([type, meta(type.length + meta(0).length + 8), box('mdat', picture)])
}

const box = (type: string, ...content: Buffer[]): Buffer => {
  const bytes = Buffer.concat(content)
  return Buffer.concat([uint(4, bytes.length + 8), Buffer.from(type), bytes])
}

const fullBox = (type: string, version: number, ...content: Buffer[]): Buffer =>
  box(type, Buffer.from([version, 0, 0, 0]), ...content)

function uint(size: 2 | 4, value: number): Buffer {
  const bytes = Buffer.alloc(size)
  bytes.writeUIntBE(value, 0, size)
  return bytes
}

/** Bits one after the other, as H.265 writes its headers. */
class Bits {
  readonly #bits: number[] = []

  put(count: number, value: number): this {
    for (let bit = count - 1; bit >= 0; bit--) this.#bits.push((value >> bit) & 1)
    return this
  }

  /** Exponential Golomb code. Of zero a signed one is the same. */
  ue(value: number): this {
    const length = Math.floor(Math.log2(value + 1))
    return this.put(length, 0).put(length + 1, value + 1)
  }

  all(bytes: Uint8Array): this {
    for (const byte of bytes) this.put(8, byte)
    return this
  }

  /** A one, and zeros up to the next byte. */
  stop(): this {
    this.put(1, 1)
    return this.put(-this.#bits.length & 7, 0)
  }

  bytes(): Buffer {
    return Buffer.from(
      Array.from({ length: this.#bits.length / 8 }, (_, index) =>
        this.#bits.slice(8 * index, 8 * index + 8).reduce((byte, bit) => 2 * byte + bit, 0),
      ),
    )
  }
}
