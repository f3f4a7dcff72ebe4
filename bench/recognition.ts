/**
 * How well the local face engine tells people apart: `npx tsx bench/recognition.ts FOLDER`, on photos that you have, a folder for
 * each person. Of every two photos it counts whether the engine takes them for one person at 80 %, the threshold of
 * Rekognition unless told otherwise. Only the largest face of a photo is looked at, as a search does.
 *
 * Without FOLDER: how many of the 22 portraits from the photos of face-api's package are recognised when they lie on their
 * side or stand on their head, without Exif saying so.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import pMap from 'p-map'
import sharp from 'sharp'
import { portraitsFromGroupPhotos } from '../local/photos.ts'
import type { FaceTemplate } from '../local/rekognition/engine.ts'
import { startFacesEngine } from '../local/rekognition/faces-engine.ts'

const MATCH = 80
const THRESHOLDS = [70, 75, 80, 85, 90, 95]

interface Photo {
  person: string
  file: string
  template: FaceTemplate
}

/** Two photos, and how surely they show one person, in percent. */
interface Pair {
  same: boolean
  names: string
  percent: number
}

const [folder] = process.argv.slice(2)
const engine = await startFacesEngine()
try {
  report(folder === undefined ? await turnedPortraits() : await photosIn(folder))
} finally {
  await engine.close()
}

async function look(person: string, file: string, bytes: Uint8Array): Promise<Photo[]> {
  const [largest] = await engine.detect(bytes)
  if (!largest) console.log(`no face: ${person}/${file}`)
  return largest ? [{ person, file, template: largest.template }] : []
}

/** Every two photos of the folders in a folder. */
async function photosIn(parent: string): Promise<Pair[]> {
  const files = readdirSync(parent, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) => readdirSync(join(parent, name)).map((file) => ({ person: name, file })))
  const looked = await pMap(
    files,
    ({ person, file }) => look(person, file, readFileSync(join(parent, person, file))),
    { concurrency: 2 },
  )
  const photos = looked.flat()
  console.log(
    `${photos.length} photos of ${new Set(photos.map(({ person }) => person)).size} people, of ${files.length} files`,
  )
  return photos.flatMap((one, at) => photos.slice(at + 1).map((other) => pairOf(one, other)))
}

/** Each portrait as it is, and each of them turned. */
async function turnedPortraits(): Promise<Pair[]> {
  const portraits = await portraitsFromGroupPhotos(engine)
  const all = portraits.flatMap(({ portrait }, person) =>
    [0, 90, 180, 270].map((degrees) => ({ portrait, person: `person ${person}`, degrees })),
  )
  const looked = await pMap(
    all,
    async ({ portrait, person, degrees }) => {
      const bytes =
        degrees === 0 ? portrait : await sharp(portrait).rotate(degrees).jpeg({ quality: 90 }).toBuffer()
      return look(person, `${degrees}°`, bytes)
    },
    { concurrency: 2 },
  )
  const photos = looked.flat()
  const upright = photos.filter(({ file }) => file === '0°')
  const turned = photos.filter(({ file }) => file !== '0°')
  return upright.flatMap((one) => turned.map((other) => pairOf(one, other))).filter(isKnown)
}

/** Persons 2 and 7 may be one: the photos come without names, and the engine cannot tell them apart. */
function isKnown({ names }: Pair): boolean {
  return !/^person (2\/.* person 7|7\/.* person 2)\//.test(names)
}

function pairOf(one: Photo, other: Photo): Pair {
  return {
    same: one.person === other.person,
    names: `${one.person}/${one.file} ${other.person}/${other.file}`,
    percent: engine.similarity(one.template, other.template),
  }
}

function report(pairs: Pair[]): void {
  const same = pairs.filter((pair) => pair.same)
  const different = pairs.filter((pair) => !pair.same)
  const matching = (list: Pair[], threshold: number) =>
    `${list.filter(({ percent }) => percent >= threshold).length} of ${list.length}`
  console.table(
    THRESHOLDS.map((threshold) => ({
      threshold,
      'of one person, found': matching(same, threshold),
      'of two people, taken for one': matching(different, threshold),
    })),
  )
  for (const { names, percent } of same.filter(({ percent }) => percent < MATCH))
    console.log(`missed ${percent.toFixed(1)} %: ${names}`)
  for (const { names, percent } of different
    .filter(({ percent }) => percent >= 50)
    .sort((a, b) => b.percent - a.percent))
    console.log(`${percent >= MATCH ? 'wrong' : 'near '} ${percent.toFixed(1)} %: ${names}`)
}
