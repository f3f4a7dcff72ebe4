import type { z } from 'zod'
import type { Collections } from './collections.ts'
import type { FaceEngine } from './engine.ts'
import type { PhotoSource } from './photo-source.ts'

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
  run(input: Input, service: Service): Output | Promise<Output>
}

/** Lets the types of an action be inferred. */
export function action<Input, Output>(definition: Action<Input, Output>): Action<Input, Output> {
  return definition
}
