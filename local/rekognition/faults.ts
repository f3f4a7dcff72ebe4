import { type ErrorName, RekognitionError } from './errors.ts'
import type { Call } from './operations.ts'

/**
 * Something that goes wrong with one call: it takes `ms` longer; it is answered with an error; its connection is dropped;
 * or it is never answered (until the client gives up or the server closes). All but the delay strike `before` the work,
 * which is then not done, or `after` it, so that it is done and the caller does not know.
 */
export type Fault =
  | { type: 'delay'; ms: number }
  | { type: 'error'; strikes: 'before' | 'after'; error: ErrorName }
  | { type: 'drop'; strikes: 'before' | 'after' }
  | { type: 'hang'; strikes: 'before' | 'after' }

/** Asked about each call that passed quota and validation. May take its time: the call waits. */
export type Faults = (call: Call) => Fault | undefined | Promise<Fault | undefined>

/** Thrown in place of an answer when a fault leaves the caller without one. */
export class Unanswered extends Error {
  readonly connection: 'drop' | 'hang'

  constructor(connection: 'drop' | 'hang') {
    super('the call is left without an answer')
    this.connection = connection
  }
}

/** @throws RekognitionError or Unanswered when the fault strikes at this moment */
export function strike(fault: Fault | undefined, moment: 'before' | 'after'): void {
  if (!fault || fault.type === 'delay' || fault.strikes !== moment) return
  if (fault.type === 'error') throw new RekognitionError(fault.error)
  throw new Unanswered(fault.type)
}
