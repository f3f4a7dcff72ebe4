import type { FaceEngine } from '../../local/rekognition/engine.ts'
import { startFacesEngine } from '../../local/rekognition/faces-engine.ts'
import { collectionsOf } from '../collections.ts'
import { EXIT, type ExitCode } from '../exit.ts'
import type { Ledger } from '../ledger.ts'
import { openPhotoFolder } from '../photo-folder.ts'
import { reasonOf } from '../reasons.ts'
import { type LookAlikes, type PhotoRules, type Rehearsal, rehearseAttendees } from '../rehearsal.ts'
import { type DocumentHead, documentHead, type Session, titleOf } from '../session.ts'
import { lookAtEvent } from '../status.ts'
import { jsonOf, redrawer } from '../terminal.ts'
import { viewRehearsal } from '../views/rehearsal.ts'
import { amount, figure } from '../words.ts'

export interface RehearseOptions {
  event: string
  /** A copy of the photo bucket; the bucket itself unless given. */
  photos?: string
  json?: boolean
}

/** Somebody who will not be recognised. */
export interface NotRecognised extends Rehearsal {
  /** Null unless the operator has asked for names. */
  name: string | null
  to_attendee: string | null
}

/** What `--json` prints: fields are added to it, never changed. */
export interface RehearsalDocument extends DocumentHead {
  event_id: string
  name: string | null
  starts_at: string | null
  consenting: number
  recognised: number
  /** 0 to 1; null where nobody consents. */
  share: number | null
  /** The deployment's setting SEVERAL_FACES. */
  several_faces: 'skip' | 'largest'
  /** The deployment's setting CONVERT_PHOTOS: whether photos are converted that Rekognition does not take. */
  convert_photos: boolean
  not_recognised: NotRecognised[]
  /** The most similar first. */
  alike: LookAlikes[]
}

/**
 * Looks at the photo of everybody who consents to an event, and says who will not be recognised and why. It goes by the settings
 * that the scheduler last wrote into the ledger, or by their defaults before its first run.
 */
export async function rehearse(
  session: Session,
  { event, photos, json = false }: RehearseOptions,
  startEngine: () => Promise<FaceEngine> = startFacesEngine,
): Promise<ExitCode> {
  const { system, terminal } = session
  const ledger = await session.ledger()
  const { status } = await lookAtEvent(ledger, event)
  const wanted = await ledger.rehearsal(event)
  const store =
    photos === undefined ? (await collectionsOf(ledger, system)).photos : await openPhotoFolder(photos)
  const { several_faces, convert_photos } = await ledger.database.deployment({})
  const rules: PhotoRules = { severalFaces: several_faces ?? 'skip', convertPhotos: convert_photos ?? true }
  const show = terminal.live && !json ? redrawer(terminal) : () => {}

  const engine = await startEngine()
  const { attendees, alike } = await rehearseAttendees(wanted, store, rules, engine, (done) =>
    show(`Looked at ${figure(done)} of ${amount(wanted.length, 'photo')}`),
  ).finally(() => engine.close())

  const left = attendees.filter(({ outcome }) => outcome !== 'indexed')
  const recognised = attendees.length - left.length
  const document: RehearsalDocument = {
    ...documentHead(session),
    event_id: event,
    name: status.name,
    starts_at: status.starts_at,
    consenting: attendees.length,
    recognised,
    share: attendees.length === 0 ? null : recognised / attendees.length,
    several_faces: rules.severalFaces,
    convert_photos: rules.convertPhotos,
    not_recognised: await withWords(left, ledger, system.nameColumn),
    alike,
  }
  terminal.write(
    json
      ? `${jsonOf(document, 2)}\n`
      : `${titleOf(session)}\n\n${viewRehearsal(document, { terminal, now: new Date(), option: system.option })}\n`,
  )
  return left.length === 0 ? EXIT.done : EXIT.failed
}

async function withWords(
  left: Rehearsal[],
  ledger: Ledger,
  nameColumn: string | null,
): Promise<NotRecognised[]> {
  const users = left.map(({ user_id }) => user_id)
  const names = nameColumn ? await ledger.names(users, nameColumn) : {}
  return left.map((each) => ({
    ...each,
    name: names[each.user_id] ?? null,
    to_attendee: reasonOf(each.reason).toAttendee ?? null,
  }))
}
