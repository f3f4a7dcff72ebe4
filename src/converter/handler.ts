import { connectRekognition } from '../core/collection.ts'
import { type Conversion, type ConversionAnswer, conversion } from '../core/converter.ts'
import { middleware } from '../core/handler.ts'
import { count, countBy } from '../core/log.ts'
import { connectPhotoStore } from '../core/photo-store.ts'
import { readSettings } from '../core/settings.ts'
import { convertObject } from './converter.ts'

const settings = readSettings(process.env)
const photos = connectPhotoStore(settings.photoBucket, settings.region, connectRekognition())

/** Invoked by the worker, for a photo of a kind or size that Rekognition does not take. */
export const handler = middleware<Conversion, ConversionAnswer>().handler(async (event) => {
  const answer = await convertObject(conversion.parse(event), photos)
  if (answer.outcome === 'converted') count('Converted')
  if (answer.outcome === 'refused') countBy('ConversionsRefused', 'reason', answer.reason)
  return answer
})
