/**
 * The colour profile of sRGB, to which photos in other colour spaces are converted: ImageMagick brings none along.
 * Source: ICC.1:2022, with the primaries of IEC 61966-2-1 adapted to D50.
 */
export function srgbProfile(): Uint8Array {
  const curve = data(
    'para',
    [3, 0].map(uint16),
    [2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045].map(fixed),
  )
  const tags: [name: string, content: Buffer][] = [
    ['desc', text('sRGB')],
    ['cprt', text('CC0')],
    ['wtpt', xyz(0.9642, 1, 0.8249)],
    ['rXYZ', xyz(0.43607, 0.22249, 0.01392)],
    ['gXYZ', xyz(0.38515, 0.71687, 0.09708)],
    ['bXYZ', xyz(0.14307, 0.06061, 0.7141)],
    ['rTRC', curve],
    ['gTRC', curve],
    ['bTRC', curve],
  ]
  let offset = HEADER_BYTES + 4 + 12 * tags.length
  const table = tags.map(([name, content]) => {
    const entry = Buffer.concat([Buffer.from(name), uint32(offset), uint32(content.length)])
    offset += content.length
    return entry
  })
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt32BE(offset, 0)
  header.writeUInt32BE(0x04_30_00_00, 8) // version 4.3
  header.write('mntrRGB XYZ ', 12, 'latin1')
  header.write('acsp', 36, 'latin1')
  Buffer.concat([0.9642, 1, 0.8249].map(fixed)).copy(header, 68)
  return Buffer.concat([header, uint32(tags.length), ...table, ...tags.map(([, content]) => content)])
}

const HEADER_BYTES = 128

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/** A signed number with 16 bits after the point. */
function fixed(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(Math.round(value * 65536))
  return bytes
}

const data = (type: string, ...parts: Buffer[][]): Buffer =>
  padded(Buffer.from(type), uint32(0), ...parts.flat())

const xyz = (...values: [number, number, number]): Buffer => data('XYZ ', values.map(fixed))

function text(value: string): Buffer {
  const utf16 = Buffer.from(value, 'utf16le').swap16()
  return data('mluc', [1, 12].map(uint32), [Buffer.from('enUS')], [utf16.length, 28].map(uint32), [utf16])
}

/** Each tag begins at a multiple of four bytes. */
function padded(...parts: Buffer[]): Buffer {
  const bytes = Buffer.concat(parts)
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)])
}
