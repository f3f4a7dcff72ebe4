import { readdir, readFile } from 'node:fs/promises'
import { basename, extname, join } from 'node:path'
import sharp from 'sharp'
import type { NewAttendee } from '../app.ts'

/** Thrown when there is nobody to show; its message says what to do. */
export class CastError extends Error {
  override name = 'CastError'
}

/** The people of the group photos, each by a portrait cut out of one. */
export const guestsFromPortraits = (portraits: Buffer[]): NewAttendee[] =>
  portraits.map((photo, index) => ({ name: `guest ${String(index + 1).padStart(2, '0')}`, photo }))

/** The cases that life brings beside people with a good photo. */
export async function guestsAsLifeBringsThem(somebodysPhoto: Buffer): Promise<NewAttendee[]> {
  const wall = await sharp({ create: { width: 640, height: 480, channels: 3, background: '#7c9a7e' } })
    .jpeg()
    .toBuffer()
  return [
    { name: 'does not consent', consents: false, photo: somebodysPhoto },
    { name: 'has no photo' },
    { name: 'shows a wall', photo: wall },
    { name: 'sent a text file', photo: 'This is my photo. Is it not nice?\n' },
    { name: 'has an old URL', photoPath: 'https://old-bucket.example/avatars/7.jpg' },
    { name: 'lost the photo', photoPath: 'photos/deleted-by-somebody.jpg' },
  ]
}

const PHOTO_KINDS = new Set(['.jpg', '.jpeg', '.png'])

/**
 * The people of a folder of portraits: the file's name is the person.
 * @returns them, and a line for each file that had to be left out
 * @throws {CastError} when the folder cannot be read or has no photo
 */
export async function guestsFromFolder(
  folder: string,
): Promise<{ guests: NewAttendee[]; leftOut: string[] }> {
  const files = await readdir(folder).catch((cause) => {
    throw new CastError(`cannot read the folder ${folder}: ${(cause as Error).message}`, { cause })
  })
  const guests = new Map<string, NewAttendee>()
  const leftOut: string[] = []
  for (const file of files.sort()) {
    if (!PHOTO_KINDS.has(extname(file).toLowerCase())) continue
    const name = basename(file, extname(file))
    if (guests.has(name)) {
      leftOut.push(`${file}: there is a photo of “${name}” already; rename one of them`)
      continue
    }
    try {
      const photo = await readFile(join(folder, file))
      await sharp(photo).metadata()
      guests.set(name, { name, photo })
    } catch (error) {
      leftOut.push(`${file}: cannot be read as a photo: ${(error as Error).message}`)
    }
  }
  if (guests.size === 0) {
    const why = leftOut.map((line) => `\n  ${line}`).join('')
    throw new CastError(
      `there is no photo in ${folder}: put portraits there, .jpg or .png, each named for its person${why}`,
    )
  }
  return { guests: [...guests.values()], leftOut }
}
