/** What a reason of the ledger means, in words. */
export interface Reason {
  title: string
  /** To be passed on to the attendee, where there is something for them to do or to know. */
  toAttendee?: string
  /** What the operator does about it. */
  remedy?: string
}

const MAKE_A_JPEG =
  'Save it as a JPEG on a computer, or take a screenshot of it on your phone, and upload that.'

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
  several_faces: {
    title: 'several people in the photo',
    toAttendee: 'Your profile photo shows several people. Choose one on which you are alone.',
  },
  face_too_dark: {
    title: 'the face is too dark',
    toAttendee:
      'Your face in the profile photo is too dark. Take one in daylight, with the light in front of you.',
  },
  face_blurred: {
    title: 'the face is blurred',
    toAttendee: 'Your face in the profile photo is blurred. Choose a sharp one.',
  },
  face_turned_away: {
    title: 'the face is turned away',
    toAttendee: 'Your face in the profile photo is turned away. Choose one on which you look at the camera.',
  },
  face_too_small: {
    title: 'the face is too small',
    toAttendee: 'Your face in the profile photo is too small. Choose one that is taken from nearer.',
  },
  face_quality: {
    title: 'the face cannot be made out well enough',
    toAttendee:
      'Your face in the profile photo cannot be made out well enough. Choose a clear photo that shows your whole face from the front, without sunglasses or a mask.',
  },
  photo_missing: {
    title: 'the photo is not in the bucket',
    toAttendee: 'Your profile photo did not arrive. Upload it again.',
    remedy:
      'It is looked at again once the photo comes. Many attendees: is S3_BUCKET_NAME the bucket of the app?',
  },
  photo_empty: {
    title: 'the photo is an empty file',
    toAttendee: 'Your profile photo arrived empty. Upload it again.',
  },
  photo_too_large: {
    title: 'the photo is larger than 64 MB; or than 15 MB, where it is not converted',
    toAttendee:
      'The file of your profile photo is too large. Upload a smaller one, such as a screenshot of it.',
  },
  photo_dimensions: {
    title: 'the photo has more pixels than Rekognition takes',
    toAttendee: 'Your profile photo has too many pixels. Upload a smaller one, such as a screenshot of it.',
  },
  photo_too_many_pixels: {
    title: 'the photo has more pixels than the converter takes, as a decompression bomb has',
    toAttendee:
      'Your profile photo has far too many pixels. Upload a smaller one, such as a screenshot of it.',
  },
  photo_refused: {
    title: 'the photo is smaller than 80 by 80 pixels, or has another size that Rekognition does not take',
    toAttendee: 'Your profile photo is too small. Upload one of at least 80 by 80 pixels.',
  },
  photo_damaged: {
    title: 'the file of the photo is damaged',
    toAttendee: 'Your profile photo is damaged. Upload it again, or another one.',
  },
  photo_format: {
    title: 'the photo is neither JPEG nor PNG',
    toAttendee: `Your profile photo is neither a JPEG nor a PNG. ${MAKE_A_JPEG}`,
  },
  photo_heic: {
    title: 'the photo is a HEIC file, as iPhones make them',
    toAttendee:
      'Your profile photo is a HEIC file. On the iPhone, choose Settings > Camera > Formats > Most Compatible and take it again; or take a screenshot of it and upload the screenshot.',
  },
  photo_avif: {
    title: 'the photo is an AVIF file',
    toAttendee: `Your profile photo is an AVIF file. ${MAKE_A_JPEG}`,
  },
  photo_webp: {
    title: 'the photo is a WebP file',
    toAttendee: `Your profile photo is a WebP file. ${MAKE_A_JPEG}`,
  },
  photo_gif: {
    title: 'the photo is a GIF file',
    toAttendee: `Your profile photo is a GIF file. ${MAKE_A_JPEG}`,
  },
  photo_bmp: {
    title: 'the photo is a BMP file',
    toAttendee: `Your profile photo is a BMP file. ${MAKE_A_JPEG}`,
  },
  photo_tiff: {
    title: 'the photo is a TIFF file',
    toAttendee: `Your profile photo is a TIFF file. ${MAKE_A_JPEG}`,
  },
  photo_pdf: {
    title: 'the photo is a PDF document',
    toAttendee:
      'Your profile photo is a PDF document. Upload the photo itself as a JPEG, or a screenshot of it.',
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

  // Of failed attendees. While the event lasts, they are tried again by themselves too.
  photo_unreadable: {
    title: 'Rekognition cannot read the photo from the bucket',
    remedy:
      "The worker's role lacks s3:GetObject or the key of an encrypted bucket, or the bucket is in another region. Mend it, then replay.",
  },
  unavailable: {
    title: 'Rekognition, S3 or Lambda answered with errors of its own, or not at all',
    remedy: 'Once the service is well again (health.aws.amazon.com), replay.',
  },
  throttled: {
    title: 'Rekognition refused the calls: too many a second',
    remedy: "Something else uses the account's quota, or INDEX_FACES_TPS is above it. Mend it, then replay.",
  },
  unclear: {
    title: 'Rekognition did not answer',
    remedy: 'Once Rekognition is well again (health.aws.amazon.com), replay.',
  },
  denied: {
    title: "the worker's role lacks a permission",
    remedy: 'The error names the permission. Deploy the roles of serverless.yml again, then replay.',
  },
  quota_exceeded: {
    title: 'the collection holds as many faces as the account may have in one',
    remedy: 'Ask AWS for a higher quota of faces in a collection, then replay.',
  },
  invalid: {
    title: 'Rekognition refuses the request, and always will',
    remedy: 'The error says why. Is COLLECTION_PREFIX right? Mend it, then replay.',
  },
  conversion_failed: {
    title: 'the converter failed',
    remedy:
      "The converter's log says why: out of memory, or of time? Mend it, or set CONVERT_PHOTOS to DISABLED, then replay.",
  },
  collection_missing: {
    title: "the event's collection is gone",
    remedy: 'Does something else delete collections? Replay creates it anew.',
  },
  collection_failed: {
    title: "the event's collection could not be created",
    remedy: 'The error says why. Mend it, then replay.',
  },
  worker_lost: {
    title: 'its worker died again and again',
    remedy: "The worker's log says why: out of memory, or of time? Mend it, then replay.",
  },
  message_lost: {
    title: 'its message was lost, or waited too long, again and again',
    remedy: "Does the worker run? The queue's alarm and the worker's log say more. Then replay.",
  },
  no_word: {
    title: 'no attempt left an error',
    remedy: 'The worker died or could not reach the database: its log says which. Mend it, then replay.',
  },
}

/** The reasons for which an attendee may be tried again. */
export const REPLAYABLE = Object.keys(REASONS).filter(
  (reason) => reason !== 'no_consent' && reason !== 'event_deleted',
)

/** The words for a reason, also for one that a newer ledger gives. */
export const reasonOf = (reason: string | null): Reason =>
  REASONS[reason ?? ''] ?? { title: reason ?? 'no reason given' }
