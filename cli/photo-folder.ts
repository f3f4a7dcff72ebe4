import { createHash } from 'node:crypto'
import { open, readFile, realpath, stat } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import type { PhotoStore } from '../src/core/photo-store.ts'
import { EXIT, OperatorError } from './exit.ts'

/**
 * A copy of the photo bucket in a folder, each file at the path that is its key, as `aws s3 sync` writes it. Keys are other people's
 * text: what lies outside the folder is not there.
 * @throws {OperatorError} when there is no such folder
 */
export async function openPhotoFolder(folder: string): Promise<PhotoStore> {
  if (!(await stat(folder).catch(orNoFile))?.isDirectory())
    throw new OperatorError(EXIT.notDone, `There is no folder ${folder}.`)
  const find = async (key: string): Promise<string | undefined> => {
    if (key.includes('\0')) return undefined
    const [root, file] = await Promise.all([realpath(folder), realpath(join(folder, key))]).catch(orMissing)
    if (root === undefined || file === undefined) return undefined
    const path = relative(root, file)
    return path === '..' || path.startsWith(`..${sep}`) ? undefined : file
  }
  return {
    bucket: 'photo-folder', // a name as Rekognition takes it

    async look(key) {
      const file = await find(key)
      const content = file === undefined ? undefined : await readFile(file).catch(orNoFile)
      if (!content) return undefined
      const etag = createHash('md5').update(content).digest('hex')
      return { etag, versionId: undefined, size: content.length, contentType: undefined }
    },

    async read(key) {
      const file = await find(key)
      const bytes = file === undefined ? undefined : await readFile(file).catch(orNoFile)
      return bytes && { etag: createHash('md5').update(bytes).digest('hex'), bytes }
    },

    async readStart(key, bytes) {
      const file = await open((await find(key)) ?? join(folder, key))
      try {
        const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, 0)
        return buffer.subarray(0, bytesRead)
      } finally {
        await file.close()
      }
    },
  }
}

const isMissing = ({ code = '' }: NodeJS.ErrnoException) => /^(ENOENT|ENOTDIR|ENAMETOOLONG)$/.test(code)

function orMissing(error: NodeJS.ErrnoException): [] {
  if (isMissing(error)) return []
  throw error
}

function orNoFile(error: NodeJS.ErrnoException): undefined {
  if (isMissing(error) || error.code === 'EISDIR') return undefined
  throw error
}
