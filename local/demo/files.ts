import { open, readdir, readFile, stat } from 'node:fs/promises'
import { basename, extname, join } from 'node:path'
import sharp from 'sharp'
import { cut, plain } from '../../cli/terminal.ts'
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

// Rekognition's limits (Guidelines and quotas).
const LARGEST_OBJECT = 15 * 1024 * 1024
const LARGEST_BYTES = 5 * 1024 * 1024
const SMALLEST_SIDE = 80

const MOST_FILES = 5000
const LONGEST_NAME = 60

/**
 * Reads portraits from a folder and the folders in it: a file's name, without its extension, is the person's.
 * @throws {FilesError} when the folder cannot be read, holds more than 5,000 files, or has no usable photo
 */
export async function readPortraits(folder: string): Promise<Portraits> {
  const files = await filesIn(folder)
  const guests = new Map<string, NewAttendee>()
  const leftOut: string[] = []
  for (const file of files) {
    const name = cut(plain(basename(file, extname(file))), LONGEST_NAME)
    const photo = await readPortrait(join(folder, file), file)
    if ('problem' in photo) leftOut.push(`${plain(file)}: ${photo.problem}`)
    else if (guests.has(name))
      leftOut.push(`${plain(file)}: there is a photo of “${name}” already; rename one`)
    else guests.set(name, { name, photo: photo.bytes })
  }
  if (guests.size > 0) return { guests: [...guests.values()], leftOut }
  throw new FilesError(
    [
      `There is no usable photo in ${folder}. Put portraits there, JPEG or PNG, each named for its person.`,
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

type Photo = { bytes: Buffer } | { problem: string }

async function readPortrait(path: string, file: string): Promise<Photo> {
  if (file.split('/').some((part) => part.startsWith('.'))) return { problem: 'is hidden' }
  const found = await look(path)
  if ('problem' in found) return found
  const { kind, size } = found
  if (kind === NO_PHOTO) return { problem: `is ${kind}` }
  if (kind !== 'JPEG' && kind !== 'PNG')
    return { problem: `is ${kind}; Rekognition takes JPEG and PNG. Export it as a JPEG` }
  if (size > LARGEST_OBJECT) return { problem: `has ${megabytes(size)}; Rekognition reads up to 15 MB` }
  try {
    const bytes = await readFile(path)
    const { width, height } = await sharp(bytes).metadata()
    if (Math.min(width, height) < SMALLEST_SIDE)
      return { problem: `has ${width} × ${height} pixels; Rekognition needs 80 on each side` }
    await sharp(bytes, { failOn: 'truncated' }).resize(32).raw().toBuffer() // reads all of it
    return { bytes }
  } catch (error) {
    return { problem: `is cut off or damaged (${reasonOf(error)})` }
  }
}

async function readSearchPhoto(path: string): Promise<Photo> {
  const found = await look(path)
  if ('problem' in found) return found
  const { kind, size } = found
  if (kind === NO_PHOTO) return { problem: `is ${kind}` }
  try {
    const bytes = await readFile(path)
    const photo = sharp(bytes, { failOn: 'truncated' })
    await photo.clone().resize(32).raw().toBuffer()
    if ((kind === 'JPEG' || kind === 'PNG') && size <= LARGEST_BYTES) return { bytes }
    const smaller = { width: 2560, height: 2560, fit: 'inside', withoutEnlargement: true } as const
    return { bytes: await photo.autoOrient().resize(smaller).jpeg({ quality: 90 }).toBuffer() }
  } catch (error) {
    if (kind === 'HEIC') return { problem: 'is HEIC, which cannot be read here. Export it as a JPEG' }
    return { problem: `is cut off or damaged (${reasonOf(error)})` }
  }
}

const NO_PHOTO = 'no photo'

/** The size of a file, and what its first bytes say that it is. */
async function look(path: string): Promise<{ kind: string; size: number } | { problem: string }> {
  try {
    const file = await stat(path)
    if (file.isDirectory()) return { problem: 'is a folder' }
    if (!file.isFile()) return { problem: 'is no file' }
    if (file.size === 0) return { problem: 'is empty' }
    const handle = await open(path)
    try {
      const { buffer } = await handle.read(Buffer.alloc(16), 0, 16, 0)
      return { kind: kindOf(buffer), size: file.size }
    } finally {
      await handle.close()
    }
  } catch (error) {
    return { problem: reasonOf(error) }
  }
}

function kindOf(start: Buffer): string {
  const text = start.toString('latin1')
  if (text.startsWith('\xff\xd8\xff')) return 'JPEG'
  if (text.startsWith('\x89PNG')) return 'PNG'
  if (text.startsWith('RIFF') && text.slice(8, 12) === 'WEBP') return 'WebP'
  if (text.startsWith('GIF8')) return 'GIF'
  if (text.startsWith('II*\0') || text.startsWith('MM\0*')) return 'TIFF'
  if (text.slice(4, 8) !== 'ftyp') return NO_PHOTO
  if (text.slice(8, 12) === 'avif') return 'AVIF'
  return /^(hei|hev|mif1|msf1)/.test(text.slice(8, 12)) ? 'HEIC' : NO_PHOTO
}

/** All files below a folder, by their paths in it, in the order of the alphabet. Folders that are hidden are not entered. */
async function filesIn(folder: string): Promise<string[]> {
  const files: string[] = []
  const enter = async (inside: string): Promise<void> => {
    const entries = await readdir(join(folder, inside), { withFileTypes: true }).catch((cause) => {
      throw new FilesError(`Cannot read the folder ${join(folder, inside)}: ${reasonOf(cause)}`, { cause })
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
export function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  if (code === 'ENOENT') return 'there is no such file or folder'
  if (code === 'EACCES' || code === 'EPERM') return 'you may not read it'
  if (code === 'ENOTDIR') return 'it is no folder'
  return message.split('\n')[0] ?? ''
}
