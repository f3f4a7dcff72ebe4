import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import * as z from 'zod'
import { CONTRACT, SCHEMA_VERSION } from '../src/core/contract.ts'

/**
 * What the functions of a release expect of the database. They are still deployed for the minutes between the next release's
 * migrations and its deployment, and call a database that is newer than they are.
 */
export interface ReleasedContract {
  schema_version: number
  /** By the functions' names: their arguments, and the JSON schema of what is read of the answer. */
  functions: Record<string, { args: Record<string, ReleasedArgument>; answer: JsonSchema }>
}

type JsonSchema = Exclude<Parameters<typeof z.fromJSONSchema>[0], boolean>

export interface ReleasedArgument {
  type: string
  optional: boolean
}

const FILE = new URL('released-contract.json', import.meta.url)

/** The contract of the code as it is now. */
export const presentContract = (): ReleasedContract => ({
  schema_version: SCHEMA_VERSION,
  functions: Object.fromEntries(
    Object.entries(CONTRACT).map(([name, { args, answer }]) => [
      name,
      { args, answer: z.toJSONSchema(answer, { io: 'input' }) },
    ]),
  ),
})

/** The contract of the last release; before the first one, the present one. */
export const releasedContract = (): ReleasedContract =>
  existsSync(FILE) ? (JSON.parse(readFileSync(FILE, 'utf8')) as ReleasedContract) : presentContract()

export const writeReleasedContract = (): void =>
  writeFileSync(FILE, `${JSON.stringify(presentContract(), null, 2)}\n`)
