/** Formats that Rekognition does not take, by how a file of them begins; and the two that it takes. */
const FORMATS: [name: string, offset: number, signature: RegExp][] = [
  ['jpeg', 0, /^\xff\xd8\xff/],
  ['png', 0, /^\x89PNG\r\n/],
  ['webp', 0, /^RIFF....WEBP/s],
  ['gif', 0, /^GIF8/],
  ['bmp', 0, /^BM/],
  ['tiff', 0, /^(II\x2a\0|MM\0\x2a)/],
  ['avif', 4, /^ftypavi/],
  ['heic', 4, /^ftyp(hei|hev|mif1|msf1)/],
  ['pdf', 0, /^%PDF/],
]

/** Those that the converter makes a JPEG of. */
const CONVERTIBLE: ReadonlySet<string | undefined> = new Set(['webp', 'gif', 'bmp', 'tiff', 'avif', 'heic'])

/** Whether a photo of this format has to become a JPEG for Rekognition. */
export const isConvertible = (format: string | undefined): boolean => CONVERTIBLE.has(format)

/** The format of a file by its first 16 bytes; undefined for one that we do not know. */
export function formatOf(start: Uint8Array): string | undefined {
  const text = Buffer.from(start).toString('latin1')
  return FORMATS.find(([, offset, signature]) => signature.test(text.slice(offset)))?.[0]
}
