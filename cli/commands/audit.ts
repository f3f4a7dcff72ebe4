import { dropCollection, isError, listFaces } from '../../src/core/collection.ts'
import type { ReconcileParts } from '../../src/scheduler/reconcile.ts'
import {
  type Audited,
  auditEvents,
  differs,
  finishRepair,
  openCollections,
  orphanCollections,
} from '../audit.ts'
import { collectionsOf } from '../collections.ts'
import { EXIT, type ExitCode, OperatorError } from '../exit.ts'
import type { Ledger } from '../ledger.ts'
import { type DocumentHead, documentHead, type Session, titleOf } from '../session.ts'
import { showAgain } from '../show.ts'
import { type EventStatus, isSettled, lookAt, lookAtEvent } from '../status.ts'
import { jsonOf } from '../terminal.ts'
import { viewAudited, viewOrphans } from '../views/audit.ts'
import { viewDrift } from '../views/drift.ts'
import { viewOverview } from '../views/overview.ts'
import { watch } from '../watch.ts'
import { amount, figure } from '../words.ts'

export interface AuditOptions {
  event?: string
  /** Every collection that is there. */
  all?: boolean
  repair?: boolean
  /** The id of a collection without an event. */
  deleteCollection?: string
  yes?: boolean
  json?: boolean
}

/** What `--json` prints: fields are added to it, never changed. */
export interface AuditDocument extends DocumentHead {
  events: Audited[]
  /** With --repair: what still differed when the jobs had ended. */
  left: Audited[] | null
  /** Ids of collections that belong to no event; null with --event, which looks for none. */
  orphans: string[] | null
}

/** Compares collections with what they should be, and repairs them when asked to. */
export async function audit(session: Session, options: AuditOptions): Promise<ExitCode> {
  const ledger = await session.ledger()
  const parts = await collectionsOf(ledger, session.system)
  if (options.deleteCollection !== undefined)
    return deleteOrphan(options.deleteCollection, options.yes === true, session, parts)
  return new Audit(session, options, ledger, parts).run()
}

class Audit {
  readonly #session: Session
  readonly #options: AuditOptions
  readonly #ledger: Ledger
  readonly #parts: ReconcileParts

  constructor(session: Session, options: AuditOptions, ledger: Ledger, parts: ReconcileParts) {
    this.#session = session
    this.#options = options
    this.#ledger = ledger
    this.#parts = parts
  }

  async run(): Promise<ExitCode> {
    const { all, event, repair = false } = this.#options
    this.#say(`${titleOf(this.#session)}\n`)
    const events = event ? [event] : all ? await openCollections(this.#ledger) : []
    const audited = await auditEvents(events, this.#parts, repair, (each) => this.#tell(each))
    if (event && audited.length === 0) throw new OperatorError(EXIT.notDone, await this.#whyNot(event))
    const wrong = audited.filter(differs)
    if (all) this.#say(this.#sum(audited.length, wrong.length))
    if (event) await this.#tellDrift(event)

    let left: Audited[] | null = null
    if (repair && wrong.length > 0) {
      left = await this.#repair(wrong)
      if (left === null) return EXIT.interrupted
    }
    const orphans = event ? null : await orphanCollections(this.#parts)
    if (orphans) this.#say(viewOrphans(orphans, this.#session))
    if (this.#options.json) this.#print({ events: audited, left, orphans })
    return (left ?? wrong).length > 0 || (orphans ?? []).length > 0 ? EXIT.failed : EXIT.done
  }

  /** With --all, only the collections that differ. */
  #tell(audited: Audited): void {
    if (!this.#options.all || differs(audited)) this.#say(`${viewAudited(audited, this.#session.terminal)}\n`)
  }

  /** What reconciles have found before. */
  async #tellDrift(event: string): Promise<void> {
    const { system, terminal } = this.#session
    const drift = await this.#ledger.drift(event)
    if (drift.length > 0)
      this.#say(`${viewDrift(drift, { terminal, now: new Date(), option: system.option })}\n`)
  }

  #sum(events: number, wrong: number): string {
    const { paint } = this.#session.terminal
    return wrong === 0
      ? `${paint('green', `${amount(events, 'collection')} as they should be.`)}\n`
      : `${paint('yellow', `${figure(wrong)} of ${amount(events, 'collection')} differ.`)}\n`
  }

  /** Has the jobs done that the comparison has queued, and compares once more; null when Ctrl-C ended the waiting. */
  async #repair(wrong: Audited[]): Promise<Audited[] | null> {
    const { system, terminal } = this.#session
    const events = wrong.map(({ event_id }) => event_id)
    this.#say(`Repairing. ${await finishRepair(this.#ledger, system, wrong)}\n`)
    const show = this.#options.json
      ? () => {}
      : showAgain<EventStatus[]>(terminal, {
          events: (seen) => seen,
          text: (seen) => viewOverview(seen, { terminal, now: new Date(), option: system.option }),
          hint: 'Ctrl-C leaves it running',
        })
    const { interrupted } = await watch({
      look: async () => (await lookAt(this.#ledger, events)).events,
      show,
      isOver: (seen) => seen.every(isSettled),
    })
    if (interrupted) return null
    this.#say('\nCompared once more:\n')
    const left = (await auditEvents(events, this.#parts, false)).filter(differs)
    for (const each of left) this.#say(`${viewAudited(each, terminal)}\n`)
    if (left.length === 0)
      this.#say(`${terminal.paint('green', `Repaired: ${amount(events.length, 'collection')}.`)}\n`)
    return left
  }

  async #whyNot(event: string): Promise<string> {
    const { status } = await lookAtEvent(this.#ledger, event)
    if (status.state === 'unclaimed') return 'The event is not claimed: it has no collection of ours yet.'
    const why = {
      missing: 'is not made yet',
      ready: 'is being compared by somebody else at this moment: try again',
      closing: 'is being deleted',
      deleted: 'is deleted',
    }
    return `The collection of the event ${why[status.collection]}.`
  }

  #say(text: string): void {
    if (!this.#options.json) this.#session.terminal.write(`${text}\n`)
  }

  #print(found: Pick<AuditDocument, 'events' | 'left' | 'orphans'>): void {
    const document: AuditDocument = {
      ...documentHead(this.#session),
      ...found,
    }
    this.#session.terminal.write(`${jsonOf(document, 2)}\n`)
  }
}

/** Deletes one collection that belongs to no event, by its id. */
async function deleteOrphan(
  collection: string,
  yes: boolean,
  session: Session,
  parts: ReconcileParts,
): Promise<ExitCode> {
  const { system, terminal } = session
  if (!(await orphanCollections(parts)).includes(collection))
    throw new OperatorError(
      EXIT.notDone,
      `There is no collection ${collection} without an event: only such a one, with the prefix ${parts.settings.collectionPrefix}, is deleted by this. For an event: npx event-indexer erase${system.option} --event ID`,
    )
  const faces = await countFaces(parts, collection)
  if (!yes) {
    terminal.write(
      `This deletes collection ${collection} with ${amount(faces, 'face')}. Is it no other stage's? Nothing is done yet. To do it: npx event-indexer audit${system.option} --delete-collection ${collection} --yes\n`,
    )
    return EXIT.notDone
  }
  await dropCollection(parts.rekognition, collection)
  terminal.write(`Collection ${collection} is deleted with ${amount(faces, 'face')}.\n`)
  return EXIT.done
}

async function countFaces({ rekognition }: ReconcileParts, collection: string): Promise<number> {
  try {
    const { faces, foreign } = await listFaces(rekognition, collection)
    return [...faces.values()].reduce((sum, { length }) => sum + length, foreign)
  } catch (error) {
    if (isError(error, 'ResourceNotFoundException')) return 0
    throw error
  }
}
