import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import sharp from 'sharp'
import type { BoundingBox, FaceEngine } from './rekognition/engine.ts'

export interface GroupPhoto {
  /** Like `sample1.jpg`. */
  name: string
  bytes: Buffer
}

/** A person of a group photo, on a photo of their own. */
export interface Portrait {
  /** The name of the group photo. */
  photo: string
  /** Where on it the face is. */
  box: BoundingBox
  /** A JPEG. */
  portrait: Buffer
}

/** The six photos with 22 people that the package of face-api carries. */
export async function groupPhotos(): Promise<GroupPhoto[]> {
  const folder = dirname(createRequire(import.meta.url).resolve('@vladmandic/face-api/package.json'))
  const names = [1, 2, 3, 4, 5, 6].map((number) => `sample${number}.jpg`)
  return Promise.all(names.map(async (name) => ({ name, bytes: await readFile(join(folder, 'demo', name)) })))
}

/** A portrait of each person in the group photos: photo by photo, on each from left to right. */
export async function portraitsFromGroupPhotos(engine: FaceEngine): Promise<Portrait[]> {
  const photos = await groupPhotos()
  const portraits = await Promise.all(photos.map((photo) => portraitsFrom(photo, engine)))
  return portraits.flat()
}

async function portraitsFrom({ name, bytes }: GroupPhoto, engine: FaceEngine): Promise<Portrait[]> {
  const faces = await engine.detect(bytes)
  const boxes = faces.map((face) => face.detail.BoundingBox).sort((one, other) => one.Left - other.Left)
  return Promise.all(
    boxes.map(async (box) => ({ photo: name, box, portrait: await cropPortrait(bytes, box) })),
  )
}

/** How much is shown around a face, in widths and heights of its box on each side. */
const margin = 0.5

/** Large enough for Rekognition, whatever the size of the face on the photo. */
const portraitWidth = 360

/** Cuts a face with some of its surroundings out of a photo. Returns a JPEG of 360 pixels in width. */
export async function cropPortrait(photo: Uint8Array, box: BoundingBox): Promise<Buffer> {
  const { width, height } = (await sharp(photo).metadata()).autoOrient
  const left = Math.max(0, Math.floor((box.Left - margin * box.Width) * width))
  const top = Math.max(0, Math.floor((box.Top - margin * box.Height) * height))
  const right = Math.min(width, Math.ceil((box.Left + (1 + margin) * box.Width) * width))
  const bottom = Math.min(height, Math.ceil((box.Top + (1 + margin) * box.Height) * height))
  return sharp(photo)
    .autoOrient()
    .extract({ left, top, width: right - left, height: bottom - top })
    .resize({ width: portraitWidth })
    .jpeg({ quality: 90 })
    .toBuffer()
}
