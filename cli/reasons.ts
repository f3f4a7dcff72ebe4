/** What a reason of the ledger means, in words. */
export interface Reason {
  title: string
  /** To be passed on to the attendee, where there is something for them to do or to know. */
  toAttendee?: string
  /** What the operator does about it. */
  remedy?: string
}

/** One entry for each reason that the ledger gives. */
export const REASONS: Record<string, Reason> = {
  // Of skipped attendees.
  no_profile: {
    title: 'no profile',
    toAttendee: 'You have no profile yet. Create one, with a photo that shows your face.',
  },
  no_photo: {
    title: 'no photo in the profile',
    toAttendee: 'Your profile has no photo. Add one that shows your face.',
  },
  photo_is_url: {
    title: 'the photo is an old link',
    toAttendee: 'Your profile photo is stored in an old way that no longer works. Upload it again.',
  },
  photo_path_too_long: {
    title: "the photo's path is longer than an object key may be",
    toAttendee: 'Your profile photo was not stored properly. Upload it again.',
  },
  no_face: {
    title: 'no face in the photo',
    toAttendee: 'Your profile photo shows no face. Choose one that shows your face from the front.',
  },
  face_quality: {
    title: 'a face too small, dark, blurred or turned away',
    toAttendee:
      'The face in your profile photo is too small, dark, blurred or turned away. Choose a clear photo that shows your face from the front.',
  },
  photo_format: {
    title: 'neither JPEG nor PNG',
    toAttendee: 'Your profile photo is neither a JPEG nor a PNG. Upload it as one of these.',
  },
  photo_too_large: {
    title: 'the photo is larger than 15 MB',
    toAttendee: 'Your profile photo is larger than 15 MB. Upload a smaller one.',
  },
  photo_refused: {
    title: 'the photo is damaged, or smaller than 80 by 80 pixels',
    toAttendee: 'Your profile photo is damaged, or smaller than 80 by 80 pixels. Upload another one.',
  },
  event_inactive: {
    title: 'the event is not active',
    toAttendee: 'The event is not active at the moment.',
    remedy: 'Once the app sets the event active again, they are indexed by themselves.',
  },
  event_closed: {
    title: 'the event is over, and the app removes its faces',
    toAttendee: 'The event is over: nobody is recognised there any more.',
  },

  // Of erased attendees.
  no_consent: {
    title: 'no consent',
    toAttendee: 'You have not agreed to be recognised at this event, or no longer do.',
  },
  event_deleted: { title: 'the event was deleted', toAttendee: 'The event was deleted.' },

  // Of failed attendees.
  photo_unreadable: {
    title: 'the photo cannot be read from the bucket',
    toAttendee: 'Your profile photo could not be found. Upload it again.',
    remedy:
      "One attendee: the object is missing. Many: the worker's role lacks s3:GetObject, or the bucket lies in another region. Once it is mended, replay.",
  },
  unavailable: {
    title: 'Rekognition answered with errors of its own',
    remedy: 'Once Rekognition is well again (health.aws.amazon.com), replay.',
  },
  throttled: {
    title: 'Rekognition refused the calls: too many a second',
    remedy: "Somebody else uses the account's quota, or INDEX_FACES_TPS is above it. Then replay.",
  },
  unclear: {
    title: 'Rekognition did not answer',
    remedy: 'Once Rekognition is well again (health.aws.amazon.com), replay.',
  },
  denied: {
    title: "the worker's role lacks a permission",
    remedy: 'The error names the permission. Deploy the roles of serverless.yml again, then replay.',
  },
  invalid: {
    title: 'Rekognition refuses the request, and always will',
    remedy: 'The error says why. Is COLLECTION_PREFIX right? Once it is mended, replay.',
  },
  collection_missing: {
    title: "the event's collection is gone",
    remedy: 'Does somebody else delete collections? Replay makes it anew.',
  },
  collection_failed: {
    title: "the event's collection could not be made",
    remedy: 'The error says why. Once it is mended, replay.',
  },
  worker_lost: {
    title: 'its worker died again and again',
    remedy: "The worker's log says why: out of memory, or of time? Once it is mended, replay.",
  },
  message_lost: {
    title: 'its message was lost, or waited too long, again and again',
    remedy: "Does the worker run? The queue's alarm and the worker's log say more. Then replay.",
  },
  no_word: {
    title: 'no attempt left a word',
    remedy: 'The worker died or could not reach the database: its log says which. Once it is mended, replay.',
  },
}

/** The reasons for which an attendee may be tried again. */
export const REPLAYABLE = Object.keys(REASONS).filter(
  (reason) => reason !== 'no_consent' && reason !== 'event_deleted',
)

/** The words for a reason, also for one that a newer ledger gives. */
export const reasonOf = (reason: string | null): Reason =>
  REASONS[reason ?? ''] ?? { title: reason ?? 'no reason given' }
