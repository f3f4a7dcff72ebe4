import { en } from 'zod/locales'
import { config } from 'zod/mini'

/**
 * zod as the functions use it: the same schemas as functions and not as methods, of which a bundle holds those alone that are
 * used, a third of what it would hold of `zod`. Its messages need a language.
 */
export * from 'zod/mini'

config(en())
