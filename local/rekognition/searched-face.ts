import type { z } from 'zod'
import { facesIn, type Service } from './action.ts'
import type { DetectedFace } from './engine.ts'
import { RekognitionError } from './errors.ts'
import { type RejectedFace, screen } from './quality-filter.ts'
import type { imageSchema, qualityFilterSchema } from './validation.ts'

/**
 * The face of an image that a search is for: the largest that the filter lets pass. The others are of as good a quality.
 * @throws {RekognitionError} InvalidParameterException when there is none, and what reading and looking at the photo throw
 */
export async function searchedFace(
  image: z.output<typeof imageSchema>,
  filter: z.output<typeof qualityFilterSchema>,
  service: Service,
  clientGone: AbortSignal,
): Promise<{ largest: DetectedFace; others: DetectedFace[]; rejected: RejectedFace[] }> {
  const photo = await service.photos.read(image)
  const { accepted, rejected } = screen(await facesIn(photo.bytes, service, clientGone), filter)
  const [largest, ...others] = accepted
  if (!largest)
    throw new RekognitionError(
      'InvalidParameterException',
      'There are no faces in the image. Should be at least 1.',
    )
  return { largest, others, rejected }
}
