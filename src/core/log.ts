import { Logger } from '@aws-lambda-powertools/logger'
import { Metrics, MetricUnit } from '@aws-lambda-powertools/metrics'

/** Structured logs, one JSON object a line; the service's name and the level come from Powertools' own variables. */
export const logger = new Logger()

/** CloudWatch metrics in the embedded metric format; written by the handlers' middleware at the end of an invocation. */
export const metrics = new Metrics()

/** Adds to a count of this invocation. */
export const count = (name: string, value = 1): void => {
  metrics.addMetric(name, MetricUnit.Count, value)
}

/** Adds to a count that is split by a dimension, such as the reason of what was skipped. */
export function countBy(name: string, dimension: string, key: string, value = 1): void {
  const single = metrics.singleMetric()
  single.addDimension(dimension, key)
  single.addMetric(name, MetricUnit.Count, value)
}

/** Adds a duration in ms to a distribution. */
export const observe = (name: string, ms: number): void => {
  metrics.addMetric(name, MetricUnit.Milliseconds, ms)
}

/** Sets a figure as it is at the moment, such as a number of events or an age. */
export const gauge = (name: string, value: number, unit: 'Count' | 'Seconds' = 'Count'): void => {
  metrics.addMetric(name, unit === 'Count' ? MetricUnit.Count : MetricUnit.Seconds, value)
}
