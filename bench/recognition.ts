/**
 * How well the local face engine tells people apart, on photos that you have: `npm run bench:recognition -- FOLDER`, in which there is a folder
 * of photos for each person. Of every two photos it counts whether the engine takes them for one person at 80 %, the
 * threshold of Rekognition unless told otherwise. Only the largest face of a photo is looked at, as a search does.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import pMap from 'p-map'
import type { FaceTemplate } from '../local/rekognition/engine.ts'
import { startFacesEngine } from '../local/rekognition/faces-engine.ts'

const MATCH = 80
const THRESHOLDS = [70, 75, 80, 85, 90, 95]

const [folder] = process.argv.slice(2)
if (!folder) throw new Error('Name the folder in which there is a folder of photos for each person')

interface Photo {
  person: string
  file: string
  template: FaceTemplate
}

const files = readdirSync(folder, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .flatMap(({ name }) => readdirSync(join(folder, name)).map((file) => ({ person: name, file })))

const engine = await startFacesEngine()
const looked = await pMap(
  files,
  async ({ person, file }): Promise<Photo[]> => {
    const [largest] = await engine.detect(readFileSync(join(folder, person, file)))
    if (!largest) console.log(`no face: ${person}/${file}`)
    return largest ? [{ person, file, template: largest.template }] : []
  },
  { concurrency: 2 },
)
const photos = looked.flat()

const pairs = photos.flatMap((one, at) =>
  photos.slice(at + 1).map((other) => ({
    same: one.person === other.person,
    names: `${one.person}/${one.file} ${other.person}/${other.file}`,
    percent: engine.similarity(one.template, other.template),
  })),
)
await engine.close()
const same = pairs.filter((pair) => pair.same)
const different = pairs.filter((pair) => !pair.same)
const matching = (list: typeof pairs, threshold: number) =>
  list.filter(({ percent }) => percent >= threshold).length

console.log(
  `${photos.length} photos of ${new Set(photos.map(({ person }) => person)).size} people, of ${files.length} files`,
)
console.table(
  THRESHOLDS.map((threshold) => ({
    threshold,
    'of one person, found': `${matching(same, threshold)} of ${same.length}`,
    'of two people, taken for one': `${matching(different, threshold)} of ${different.length}`,
  })),
)
for (const { names, percent } of same.filter(({ percent }) => percent < MATCH))
  console.log(`missed ${percent.toFixed(1)} %: ${names}`)
for (const { names, percent } of different
  .filter(({ percent }) => percent >= 50)
  .sort((a, b) => b.percent - a.percent))
  console.log(`${percent >= MATCH ? 'wrong' : 'near '} ${percent.toFixed(1)} %: ${names}`)
