import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, it, onTestFinished } from 'vitest'
import { connectDatabase, DatabaseError } from '../../src/core/database.ts'

/** A project's API that answers every call so. */
async function databaseThatAnswers(status: number, body: string) {
  const server = createServer((_request, response) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(body)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return connectDatabase(`http://127.0.0.1:${port}`, async () => 'the-key')
}

it.each([
  [200, ''],
  [200, 'null'],
  [200, '{}'],
  [200, '{"jobs": "many"}'],
  [204, ''],
  [404, ''],
  [404, '<html>no such page</html>'],
  [502, ''],
])(
  'an answer of status %i with the body %j is an error, and no success',
  async (status, body) => {
    const database = await databaseThatAnswers(status, body)
    const calls = [
      database.fail_dead_letters({ letters: [] }),
      database.process_changes({ erasing: true }),
      database.lease({ messages: [], token: 'a', lease_seconds: 1 }),
      database.complete({ token: 'a', results: [], throttled: false, quiet_seconds: 1, grace_seconds: 1 }),
      database.note_photos({ photo_keys: [] }),
    ]
    for (const call of await Promise.allSettled(calls)) {
      expect(call.status).toBe('rejected')
      expect(call.status === 'rejected' && call.reason).toBeInstanceOf(DatabaseError)
    }
  },
  30_000,
)
