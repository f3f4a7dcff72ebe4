/** What the program exits with. The list of --help is made from this. */
export const EXIT = {
  done: 0,
  notDone: 1,
  failed: 2,
  unreachable: 3,
  held: 4,
  interrupted: 130,
} as const

export type ExitCode = (typeof EXIT)[keyof typeof EXIT]

export const EXIT_CODES: Record<keyof typeof EXIT, string> = {
  done: 'done',
  notDone: 'nothing was done: wrong usage, no such event, nothing to replay or to prove',
  failed:
    'jobs have failed again, messages could not be moved, the event is not ready, somebody will not be recognised, a collection differs, an erasure is not proven, a migration failed, or doctor found a problem',
  unreachable: 'no connection, or no permission',
  held: 'the app holds an event at this moment: try again',
  interrupted: 'interrupted while it followed what goes on',
}

/** Ends the program with a message for the operator that says what to do. */
export class OperatorError extends Error {
  override name = 'OperatorError'
  readonly exitCode: ExitCode

  constructor(exitCode: ExitCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.exitCode = exitCode
  }
}
