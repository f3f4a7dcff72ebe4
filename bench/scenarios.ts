import type { Scenario } from './scenario.ts'
import { cold } from './scenarios/cold.ts'
import { event } from './scenarios/event.ts'
import { fair } from './scenarios/fair.ts'
import { fanout } from './scenarios/fanout.ts'
import { follow } from './scenarios/follow.ts'
import { idle } from './scenarios/idle.ts'
import { many } from './scenarios/many.ts'
import { overhead } from './scenarios/overhead.ts'
import { quotaCut } from './scenarios/quota-cut.ts'
import { triggers } from './scenarios/triggers.ts'

/** In the order in which they run. */
export const scenarios: Scenario[] = [
  event,
  overhead,
  fanout,
  fair,
  quotaCut,
  many,
  follow,
  cold,
  idle,
  triggers,
]
