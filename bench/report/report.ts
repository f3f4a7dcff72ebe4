import type { Machine } from '../machine.ts'
import type { Figures } from '../scenario.ts'
import type { Picture } from './picture.ts'
import type { Table } from './table.ts'

/** A run of the bench, as `--json` writes it. */
export interface Report {
  machine: Machine
  /** By name; `{ error }` for one that could not be measured. */
  scenarios: Record<string, Figures>
  /** The same for the eye, of those that were measured. */
  shown: Record<string, Shown>
}

export interface Shown {
  title: string
  table: Table
  notes: string[]
  /** What must hold at any speed and did not. */
  broken: string[]
  picture?: Picture
}
