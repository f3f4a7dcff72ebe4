import { type Conversion, type ConversionAnswer, MAX_CONVERTED_BYTES } from '../core/converter.ts'
import type { PhotoStore } from '../core/photo-store.ts'
import { convert } from './convert.ts'

/** Reads a photo from the bucket and makes a JPEG of it. Only of the object that the worker has seen. */
export async function convertObject(
  { key, etag }: Conversion,
  photos: PhotoStore,
): Promise<ConversionAnswer> {
  const object = await photos.read(key, MAX_CONVERTED_BYTES)
  if (object?.etag !== etag) return { outcome: 'changed' }
  const converted = await convert(object.bytes)
  if ('refused' in converted) return { outcome: 'refused', reason: converted.refused }
  return { outcome: 'converted', jpeg: Buffer.from(converted.jpeg).toString('base64') }
}
