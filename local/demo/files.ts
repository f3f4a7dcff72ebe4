import { open, readdir, readFile, stat } from 'node:fs/promises'
import { basename, extname, join } from 'node:path'
import sharp from 'sharp'
import { reasonOf } from '../../cli/reasons.ts'
import { cut, plain } from '../../cli/terminal.ts'
import { convert } from '../../src/converter/convert.ts'
import { MAX_CONVERTED_BYTES } from '../../src/core/converter.ts'
import { formatOf } from '../../src/core/photo-format.ts'
import type { NewAttendee } from '../app.ts'
import type { GroupPhoto } from '../photos.ts'

/** Thrown for files that cannot be used; its message says which, why, and what to do. */
export class FilesError extends Error {
  override name = 'FilesError'
}

export interface Portraits {
  guests: NewAttendee[]
  /** A line for each file that is not used: its path in the folder, and why. */
  leftOut: string[]
}

// Rekognition's limits for a photo that is sent as bytes (Guidelines and quotas).
const LARGEST_BYTES = 5 * 1024 * 1024
const SMALLEST_SIDE = 80
const LARGEST_SIDE = 10_000

const MOST_FILES = 5000
const LONGEST_NAME = 60

/**
 * Finds the portraits in a folder and the folders in it: a file's name, without its extension, is the person's. Whether a photo is
 * good enough is not asked here: the system says it afterwards.
 * @throws {FilesError} when the folder cannot be read, holds more than 5,000 files, or has no usable photo
 */
export async function readPortraits(folder: string): Promise<Portraits> {
  const files = await filesIn(folder)
  const guests = new Map<string, NewAttendee>()
  const leftOut: string[] = []
  for (const file of files) {
    const name = cut(plain(basename(file, extname(file))), LONGEST_NAME)
    const found = isHidden(file) ? { problem: 'is hidden' } : await look(join(folder, file))
    if ('problem' in found) leftOut.push(`${plain(file)}: ${found.problem}`)
    else if (guests.has(name))
      leftOut.push(`${plain(file)}: there is a photo of “${name}” already; rename one`)
    else guests.set(name, { name, photoFile: join(folder, file) })
  }
  if (guests.size > 0) return { guests: [...guests.values()], leftOut }
  throw new FilesError(
    [
      `There is no usable photo in ${folder}. Put portraits there, such as JPEG, PNG or HEIC, each named for its person.`,
      ...leftOut.map((line) => `  left out ${line}`),
    ].join('\n'),
  )
}

/**
 * Reads photos to look for people in. Those that Rekognition does not take as they are, because of their format or their size
 * of more than 5 MB, are converted to a smaller JPEG.
 * @throws {FilesError} naming every file that cannot be read, and why
 */
export async function readSearchPhotos(files: string[]): Promise<GroupPhoto[]> {
  const problems: string[] = []
  const photos: GroupPhoto[] = []
  for (const file of files) {
    const photo = await readSearchPhoto(file)
    if ('problem' in photo) problems.push(`  ${plain(file)}: ${photo.problem}`)
    else photos.push({ name: basename(file), bytes: photo.bytes })
  }
  if (problems.length > 0) throw new FilesError(`Cannot search in\n${problems.join('\n')}`)
  return photos
}

async function readSearchPhoto(path: string): Promise<{ bytes: Buffer } | { problem: string }> {
  const found = await look(path)
  if ('problem' in found) return found
  const bytes = await readFile(path)
  if (bytes.length <= LARGEST_BYTES && (found.format === 'jpeg' || found.format === 'png')) {
    try {
      const { width, height } = await sharp(bytes).metadata()
      if (Math.min(width, height) < SMALLEST_SIDE)
        return { problem: `has ${width} × ${height} pixels; Rekognition needs 80 on each side` }
      await sharp(bytes, { failOn: 'truncated', limitInputPixels: false }).resize(32).raw().toBuffer() // reads all of it
      if (Math.max(width, height) <= LARGEST_SIDE) return { bytes }
    } catch (error) {
      return { problem: `is cut off or damaged (${messageOf(error)})` }
    }
  }
  const converted = await convert(bytes)
  if ('refused' in converted) return { problem: reasonOf(converted.refused).title }
  return { bytes: Buffer.from(converted.jpeg) }
}

const isHidden = (file: string) => file.split('/').some((part) => part.startsWith('.'))

/** The format of a photo, by its first bytes; or why the file cannot be one. */
async function look(path: string): Promise<{ format: string } | { problem: string }> {
  try {
    const file = await stat(path)
    if (file.isDirectory()) return { problem: 'is a folder' }
    if (!file.isFile()) return { problem: 'is no file' }
    if (file.size === 0) return { problem: 'is empty' }
    const handle = await open(path)
    try {
      const { buffer } = await handle.read(Buffer.alloc(16), 0, 16, 0)
      const format = formatOf(buffer)
      if (format === undefined || format === 'pdf') return { problem: 'is no photo' }
      if (file.size > MAX_CONVERTED_BYTES)
        return { problem: `has ${megabytes(file.size)}; photos of up to 64 MB are read` }
      return { format }
    } finally {
      await handle.close()
    }
  } catch (error) {
    return { problem: messageOf(error) }
  }
}

/** All files below a folder, by their paths in it, in the order of the alphabet. Folders that are hidden are not entered. */
async function filesIn(folder: string): Promise<string[]> {
  const files: string[] = []
  const enter = async (inside: string): Promise<void> => {
    const entries = await readdir(join(folder, inside), { withFileTypes: true }).catch((cause) => {
      throw new FilesError(`Cannot read the folder ${join(folder, inside)}: ${messageOf(cause)}`, { cause })
    })
    for (const entry of entries) {
      const path = inside ? `${inside}/${entry.name}` : entry.name
      if (entry.isDirectory() && !entry.name.startsWith('.')) await enter(path)
      else files.push(path)
      if (files.length > MOST_FILES)
        throw new FilesError(
          `${folder} holds more than ${MOST_FILES} files: name a folder of portraits alone`,
        )
    }
  }
  await enter('')
  return files.sort()
}

const megabytes = (size: number) => `${(size / 1024 / 1024).toFixed(1)} MB`

/** The first line of an error's message, in words where it is a usual one. */
export function messageOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  if (code === 'ENOENT') return 'there is no such file or folder'
  if (code === 'EACCES' || code === 'EPERM') return 'you may not read it'
  if (code === 'ENOTDIR') return 'it is no folder'
  return message.split('\n')[0] ?? ''
}
