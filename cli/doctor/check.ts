import { OperatorError } from '../exit.ts'
import { explain } from '../explain.ts'
import type { System } from '../system.ts'

/**
 * What `doctor` found out about one thing:
 * - `problem`: the system does not work as it should, or will not
 * - `note`: it works, and could do better
 * - `unknown`: it could not be looked at
 */
export interface Check {
  check: string
  verdict: 'ok' | 'problem' | 'note' | 'unknown'
  found: string
  /** What to do about it. */
  todo: string | null
}

export const ok = (check: string, found: string): Check => ({ check, verdict: 'ok', found, todo: null })
export const problem = (check: string, found: string, todo: string | null = null): Check => ({
  check,
  verdict: 'problem',
  found,
  todo,
})
export const note = (check: string, found: string, todo: string): Check => ({
  check,
  verdict: 'note',
  found,
  todo,
})
export const unknown = (check: string, found: string, todo: string): Check => ({
  check,
  verdict: 'unknown',
  found,
  todo,
})

/** Looks at one thing. An error is a problem, in the words that every command has for it. */
export async function look(
  check: string,
  system: System,
  examine: () => Promise<Check | Check[]>,
): Promise<Check[]> {
  try {
    return [await examine()].flat()
  } catch (error) {
    return [problem(check, wordsFor(error, system))]
  }
}

/** Looks at something for which rights are needed that no other command needs: without these it is unknown. */
export const lookIfAllowed = (
  check: string,
  right: string,
  system: System,
  examine: () => Promise<Check | Check[]>,
): Promise<Check[]> =>
  look(check, system, async () => {
    try {
      return await examine()
    } catch (error) {
      if (!isDenied(error)) throw error
      return unknown(check, 'AWS does not let you look at it.', `Your role or user needs ${right}.`)
    }
  })

export const isDenied = (error: unknown): boolean =>
  error instanceof Error && /AccessDenied|AuthorizationError|NotAuthorized|Forbidden/.test(error.name)

/** An error in the words that every command has for it; one that has none as it is. */
export const wordsFor = (error: unknown, system: System): string => {
  const explained = explain(error, system)
  return explained instanceof OperatorError ? explained.message : String(error)
}
