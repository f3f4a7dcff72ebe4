import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** Files that take the longest, much of it waiting: begun first, so that the others run meanwhile. */
const LONGEST = [
  'test/system/event.test.ts',
  'test/system/changes.test.ts',
  'test/worker/races.test.ts',
  'test/emulators/rekognition-engine.test.ts',
]

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification) => {
      const found = LONGEST.findIndex((file) => moduleId.endsWith(file))
      return found < 0 ? LONGEST.length : found
    }
    return (await super.sort(files)).toSorted((one, other) => place(one) - place(other))
  }
}

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    testTimeout: 180_000,
    hookTimeout: 180_000,
    // Tests wait for servers and leases for half of their time: three files at once keep two cores busy. All share one
    // Postgres, whose connections more of them would use up.
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
    env: {
      // What the functions log and count is not what a test says. A test that reads it sets these otherwise.
      POWERTOOLS_LOG_LEVEL: 'SILENT',
      POWERTOOLS_METRICS_DISABLED: 'true',
      AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true',
    },
  },
})
