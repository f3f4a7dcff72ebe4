import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { HttpServer } from '../fauxqs.ts'
import type { Objects } from './objects.ts'
import type { ObjectChange } from './photo-events.ts'

interface Label {
  bucket: string
  key: string
  contentType: string
}

/**
 * Keeps a copy of every object in a folder, since fauxqs keeps them in memory, and puts those that are there already back.
 * An object is two files named by the hash of its key, which may be longer than a file name.
 * @returns what waits until all copies are written
 */
export async function keepObjects(
  server: HttpServer,
  objects: Objects,
  folder: string,
): Promise<() => Promise<void>> {
  await mkdir(folder, { recursive: true })
  const pathOf = ({ bucket, key }: { bucket: string; key: string }) =>
    join(folder, createHash('sha256').update(`${bucket}/${key}`).digest('hex'))
  const urlOf = ({ bucket, key }: { bucket: string; key: string }) =>
    `/${bucket}/${key.split('/').map(encodeURIComponent).join('/')}`

  for (const file of await readdir(folder)) {
    if (!file.endsWith('.json')) continue
    const label = JSON.parse(await readFile(join(folder, file), 'utf8')) as Label
    await server.inject({
      method: 'PUT',
      url: urlOf(label),
      headers: { 'content-type': label.contentType },
      payload: await readFile(pathOf(label)),
    })
  }

  const keep = async (change: ObjectChange): Promise<void> => {
    const path = pathOf(change)
    const stored = await server.inject({ method: 'GET', url: urlOf(change), headers: objects.ourselves })
    if (stored.statusCode !== 200) {
      await Promise.all([rm(`${path}.json`, { force: true }), rm(path, { force: true })])
      return
    }
    const { bucket, key } = change
    const contentType = String(stored.headers['content-type'])
    await writeFile(path, stored.rawPayload, { mode: 0o600 })
    await writeFile(`${path}.json`, JSON.stringify({ bucket, key, contentType } satisfies Label), {
      mode: 0o600,
    })
  }
  let writing = Promise.resolve()
  objects.onChange((change) => {
    writing = writing
      .then(() => keep(change))
      .catch((error) => console.error(`cannot keep ${change.key}:`, error))
  })
  return () => writing
}
