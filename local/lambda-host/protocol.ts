/** What goes between a container, a worker thread, and the host. Payloads are JSON texts, as Lambda's are. */

/** Given to the thread when it starts. */
export interface Init {
  module: string
  export: string
}

export interface Invocation {
  payload: string
  context: {
    awsRequestId: string
    functionName: string
    functionVersion: string
    invokedFunctionArn: string
    memoryLimitInMB: string
    logGroupName: string
    logStreamName: string
  }
  /** In ms since the epoch. */
  deadline: number
}

/** A failure as Lambda describes it to the caller. */
export interface FunctionFailure {
  errorType: string
  errorMessage: string
  trace: string[]
}

export type FromContainer =
  | { type: 'ready' }
  | { type: 'init-failed'; failure: FunctionFailure }
  | { type: 'returned'; payload: string }
  | { type: 'threw'; failure: FunctionFailure }

/** An invocation failed: the function threw, could not start, ran out of time, or its container ended. */
export class LambdaFunctionError extends Error {
  override name = 'LambdaFunctionError'
  readonly errorType: string
  /** The function's own stack. */
  readonly trace: string[]

  constructor(functionName: string, { errorType, errorMessage, trace }: FunctionFailure) {
    super(`${functionName}: ${errorType}: ${errorMessage}`)
    this.errorType = errorType
    this.trace = trace
  }
}
