import type { bundleFunctions } from '../local/lambda-host/bundle.ts'
import type { Postgres } from '../local/postgres.ts'
import type { Picture } from './report/picture.ts'
import type { Table } from './report/table.ts'

/** What all scenarios of a run share; each makes a database and a system of its own. */
export interface Bench {
  postgres: Postgres
  /** The deployed functions. */
  bundle: Awaited<ReturnType<typeof bundleFunctions>>
  /** Says what is going on, for whoever waits. */
  say: (line: string) => void
}

/** What is measured, side by side, in one run. */
export interface Scenario {
  name: string
  /** What the reader learns from it, in one line. */
  title: string
  run: (bench: Bench) => Promise<Outcome>
}

export interface Outcome {
  /** As they stand in the JSON file. */
  figures: Figures
  table: Table
  /** What the table does not say by itself. */
  notes?: string[]
  /** What must hold at any speed and does not: the run fails. */
  broken?: string[]
  picture?: Picture
}

export interface Figures {
  [key: string]: Figure
}
export type Figure = number | string | boolean | null | Figure[] | Figures

/** A figure to so many decimal places. */
export const round = (value: number, places = 3): number => Number(value.toFixed(places))

/** The middle one, or the mean of the two in the middle. */
export function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = (sorted.length - 1) / 2
  return ((sorted[Math.floor(middle)] ?? Number.NaN) + (sorted[Math.ceil(middle)] ?? Number.NaN)) / 2
}

/** The smallest of the values that so large a share of them does not exceed. */
export function quantile(values: number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN
}
