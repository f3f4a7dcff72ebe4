import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { RekognitionClient } from '@aws-sdk/client-rekognition'
import { expect, it, onTestFinished } from 'vitest'
import { connectPhotoStore } from '../../src/core/photo-store.ts'

/** A bucket in which there is every object, for the length of a test. */
async function openStore() {
  const server = createServer((_, response) => {
    response.writeHead(200, { etag: '"an etag"', 'content-length': '100000' }).end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const rekognition = new RekognitionClient({
    region: 'eu-central-1',
    credentials: { accessKeyId: 'local', secretAccessKey: 'local' },
  })
  const { port } = server.address() as AddressInfo
  return connectPhotoStore('photos', 'eu-central-1', rekognition, `http://127.0.0.1:${port}`)
}

it('looks at more objects than there are connections, at once and one after the other', async () => {
  const store = await openStore()
  const found = { etag: 'an etag', versionId: undefined, size: 100_000 }
  const looks = await Promise.all(Array.from({ length: 200 }, (_, index) => store.look(`photo ${index}`)))
  expect(looks).toEqual(looks.map(() => found))
  for (let index = 0; index < 100; index++) expect(await store.look(`photo ${index}`)).toEqual(found)
}, 8_000)
