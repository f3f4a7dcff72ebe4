/**
 * The CloudWatch dashboard of a stage: progress, the rate of calls against the quota, outcomes, ages, the lag of erasures, and what
 * the bill depends on. docs/operations.md says what each metric means.
 *
 * @param {{ service: string, stage: string }} deployed
 * @returns {string} for `DashboardBody`, by way of `Fn::Sub`
 */
export function dashboard({ service, stage }) {
  const namespace = `EventIndexer/${stage}`
  const name = (part) => `${service}-${stage}-${part}`

  /** A metric of ours, one of a function, one of a queue. */
  const own = (metric, stat, label = metric) => [namespace, metric, 'service', service, { stat, label }]
  const ofFunction = (fn, metric, stat) => [
    'AWS/Lambda',
    metric,
    'FunctionName',
    name(fn),
    { stat, label: `${fn} ${metric}` },
  ]
  const ofQueue = (queue, metric, stat) => [
    'AWS/SQS',
    metric,
    'QueueName',
    name(queue),
    { stat, label: `${queue} ${metric}` },
  ]
  /** A metric that is split by a dimension: one line for each of its values. */
  const by = (metric, dimension) => [
    {
      expression: `SEARCH('{"${namespace}",${dimension},service} MetricName="${metric}"', 'Sum', ${PERIOD_S})`,
      id: metric.toLowerCase(),
      label: `${metric} `,
    },
  ]
  /** A sum as a rate by the second. */
  const rate = (metric, label) => {
    const id = metric.toLowerCase()
    return [
      [...own(metric, 'Sum').slice(0, -1), { stat: 'Sum', id, visible: false }],
      [{ expression: `${id} / PERIOD(${id})`, id: `${id}_rate`, label }],
    ]
  }

  const widgets = [
    [
      'Progress',
      own('OpenJobs', 'Maximum'),
      own('Claimed', 'Sum'),
      own('MessagesSent', 'Sum'),
      own('Indexed', 'Sum'),
    ],
    [
      'IndexFaces calls a second, and the quota',
      ...rate('IndexFacesCalls', 'calls'),
      ...rate('Throttled', 'throttled'),
      own('IndexFacesPace', 'Average', 'pace'),
      own('IndexFacesQuota', 'Maximum', 'quota (INDEX_FACES_TPS)'),
    ],
    [
      'Outcomes',
      own('Indexed', 'Sum'),
      own('Erased', 'Sum'),
      own('JobsFailed', 'Sum'),
      by('Skipped', 'reason'),
    ],
    [
      'What failed',
      by('FailedAttempts', 'reason'),
      own('FailedJobs', 'Maximum'),
      own('FailedEvents', 'Maximum'),
      own('LateEvents', 'Maximum'),
      own('OverdueEvents', 'Maximum'),
    ],
    [
      'Ages, seconds',
      own('ErasureAge', 'Maximum'),
      own('UnprovenErasureAge', 'Maximum'),
      own('ChangeAge', 'Maximum'),
      ofQueue('urgent', 'ApproximateAgeOfOldestMessage', 'Maximum'),
      ofQueue('work', 'ApproximateAgeOfOldestMessage', 'Maximum'),
    ],
    [
      'Erasures: seconds from the change to the listing without the face',
      own('ErasureSeconds', 'p50', 'half of them'),
      own('ErasureSeconds', 'p99', '99 of 100'),
    ],
    [
      'Consent read before a call, and the call, ms',
      own('DesiredStateAge', 'Maximum', 'oldest consent'),
      own('IndexFacesLatency', 'p50', 'half of the calls'),
      own('IndexFacesLatency', 'p99', '99 of 100 calls'),
    ],
    [
      'Differences that reconcile found',
      by('Drift', 'kind'),
      own('Rescued', 'Sum'),
      own('CollectionsMissing', 'Sum'),
      own('OrphanCollections', 'Maximum'),
    ],
    [
      'Functions: errors and throttles',
      ...FUNCTIONS.flatMap((fn) => [ofFunction(fn, 'Errors', 'Sum'), ofFunction(fn, 'Throttles', 'Sum')]),
      own('FailedSteps', 'Sum'),
      own('NudgesRefused', 'Sum'),
    ],
    [
      'Queues: messages',
      ...QUEUES.flatMap((queue) => [
        ofQueue(queue, 'ApproximateNumberOfMessagesVisible', 'Maximum'),
        ofQueue(queue, 'ApproximateNumberOfMessagesNotVisible', 'Maximum'),
      ]),
    ],
    [
      'Cost: calls and requests',
      own('IndexFacesCalls', 'Sum'),
      ...FUNCTIONS.map((fn) => ofFunction(fn, 'Invocations', 'Sum')),
      ...QUEUES.flatMap((queue) => [
        ofQueue(queue, 'NumberOfMessagesSent', 'Sum'),
        ofQueue(queue, 'NumberOfEmptyReceives', 'Sum'),
      ]),
    ],
    [
      'Cost: ms of functions, bytes of logs',
      ...FUNCTIONS.map((fn) => ofFunction(fn, 'Duration', 'Sum')),
      ...FUNCTIONS.map((fn) => [
        'AWS/Logs',
        'IncomingBytes',
        'LogGroupName',
        `/aws/lambda/${name(fn)}`,
        { stat: 'Sum', label: `${fn} log bytes`, yAxis: 'right' },
      ]),
    ],
  ]

  return JSON.stringify({
    widgets: widgets.map(([title, ...metrics], index) => ({
      type: 'metric',
      x: (index % COLUMNS) * WIDTH,
      y: Math.floor(index / COLUMNS) * HEIGHT,
      width: WIDTH,
      height: HEIGHT,
      properties: {
        title,
        region: `\${AWS::Region}`, // which CloudFormation fills in
        view: 'timeSeries',
        period: PERIOD_S,
        metrics,
      },
    })),
  })
}

const FUNCTIONS = ['scheduler', 'nudge', 'worker', 'converter', 'finalizer', 'photos']
const QUEUES = ['work', 'urgent', 'photo-events', 'dead-letters']
const PERIOD_S = 60

// Of CloudWatch's grid, which has 24 columns.
const COLUMNS = 2
const WIDTH = 12
const HEIGHT = 6
