import type { z } from 'zod'
import type { Collections } from './collections.ts'
import type { DetectedFace, FaceEngine } from './engine.ts'
import type { PhotoSource } from './photo-source.ts'

/** A call that would be answered later is throttled. The worker takes a call for lost after 10 seconds. */
const answeredWithinMs = 8000

/** What the actions work on. */
export interface Service {
  region: string
  collections: Collections
  engine: FaceEngine
  photos: PhotoSource
}

/** An operation of the API: the shape of its input, and what it does with it. */
export interface Action<Input, Output> {
  input: z.ZodType<Input>
  /** @param clientGone aborted when the client has closed the connection */
  run(input: Input, service: Service, clientGone: AbortSignal): Output | Promise<Output>
}

/** The faces in a photo, the largest first. Throws what FaceEngine.detect throws. */
export function facesIn(
  photo: Uint8Array,
  { engine }: Service,
  clientGone: AbortSignal,
): Promise<DetectedFace[]> {
  return engine.detect(photo, { signal: clientGone, withinMs: answeredWithinMs })
}

/** Lets the types of an action be inferred. */
export function action<Input, Output>(definition: Action<Input, Output>): Action<Input, Output> {
  return definition
}
