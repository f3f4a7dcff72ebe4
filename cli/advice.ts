import { type Reason, reasonOf } from './reasons.ts'
import type { EventStatus } from './status.ts'

const FEW = 5 // attendees, of whom most may be alike by chance

const OF_THE_SYSTEM =
  'That is most of the event, so look for one cause before anybody uploads a photo again: is S3_BUCKET_NAME the bucket of the app, and does the app store photos as it used to?'

/**
 * What to do about a reason that so many attendees of an event share. When most of them do, the cause is the system and not
 * their photos: nobody is told to upload again.
 */
export function adviceOf(
  code: string,
  count: number,
  event: EventStatus,
): Pick<Reason, 'remedy' | 'toAttendee'> {
  const { remedy, toAttendee } = reasonOf(code)
  if (toAttendee === undefined || !isMost(count, event) || !isOfPhoto(code))
    return { ...(remedy && { remedy }), ...(toAttendee && { toAttendee }) }
  return { remedy: OF_THE_SYSTEM }
}

const isOfPhoto = (code: string) => /^(photo_|face_|no_face|no_photo|no_profile)/.test(code)

function isMost(count: number, event: EventStatus): boolean {
  if (event.state === 'unclaimed') return false
  const { indexed, skipped, failed, queued, in_flight } = event.attendees
  return count >= FEW && count > (indexed + skipped + failed + queued + in_flight) / 2
}
