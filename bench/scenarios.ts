import type { Scenario } from './scenario.ts'
import { event } from './scenarios/event.ts'

/** In the order in which they run. */
export const scenarios: Scenario[] = [event]
