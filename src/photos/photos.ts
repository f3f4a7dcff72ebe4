import type { SQSRecord } from 'aws-lambda'
import type { Database } from '../core/database.ts'
import { count, logger } from '../core/log.ts'
import * as z from '../core/zod.ts'

/**
 * An event of S3 as EventBridge sends it.
 * Source: the S3 user guide, "EventBridge event message structure".
 */
const photoEvent = z.object({
  source: z.literal('aws.s3'),
  detail: z.object({
    bucket: z.object({ name: z.string() }),
    object: z.object({ key: z.string().check(z.minLength(1)) }),
  }),
})

/**
 * Notes the objects of the photo bucket that were created or deleted. With the database away it throws, and the events come
 * again; what is no event of this bucket is logged and dropped.
 */
export async function notePhotos(
  records: SQSRecord[],
  { bucket, database }: { bucket: string; database: Database },
): Promise<void> {
  const keys = new Set<string>()
  for (const record of records) {
    const key = keyOf(record.body, bucket)
    if (key === undefined) {
      count('UnreadablePhotoEvents')
      logger.warn('a message in the queue of photo events is no event of the photo bucket', {
        message_id: record.messageId,
      })
    } else if (!key.includes('\0')) keys.add(key)
  }
  if (keys.size === 0) return
  count('PhotosNoted', await database.note_photos({ photo_keys: [...keys] }))
}

function keyOf(body: string, bucket: string): string | undefined {
  try {
    const { detail } = photoEvent.parse(JSON.parse(body))
    return detail.bucket.name === bucket ? detail.object.key : undefined
  } catch {
    return undefined
  }
}
