import type { ErrorName } from './errors.ts'
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
