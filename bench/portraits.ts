/**
 * How long `npm start -- --photos` takes, and how much memory: `npx tsx bench/portraits.ts [COUNT]`, on one core after
 * `taskset -c 0`. The portraits are made of the faces on the photos that face-api's package carries, each in another size,
 * light and pose, in a folder that is deleted afterwards. Memory is what Linux counts as the process's own (PSS), looked at
 * every two seconds: of the process with the engine, the functions, SQS and S3; and with Postgres and whatever else it started.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { portraitsFromGroupPhotos } from '../local/photos.ts'
import { startFacesEngine } from '../local/rekognition/faces-engine.ts'

const LOOK_EVERY_MS = 2000
const MEGABYTE = 2 ** 20
const TICKS_A_SECOND = 100 // of Linux, in /proc

const count = Number(process.argv[2] ?? 300)
const folder = await mkdtemp(join(tmpdir(), 'portraits-'))
try {
  await makePortraits(count, folder)
  const cores = availableParallelism()
  console.log(`${count} portraits, ${cores === 1 ? 'one core' : `${cores} cores`}`)
  const { code, seconds, cpuSeconds, engineMb, treeMb } = await run(folder)
  console.log(
    `exit code ${code} after ${seconds} s, of which its process had a core for ${cpuSeconds} s; at most ${engineMb} MB in its process, ${treeMb} MB with all it started`,
  )
  process.exitCode = code ?? 1
} finally {
  await rm(folder, { recursive: true })
}

/** Portraits from 200 to 1,500 pixels wide: mirrored or not, rolled by up to 15°, darker or brighter. */
async function makePortraits(wanted: number, into: string): Promise<void> {
  const engine = await startFacesEngine()
  const faces = await portraitsFromGroupPhotos(engine).finally(() => engine.close())
  for (let at = 0; at < wanted; at++) {
    const photo = sharp(faces[at % faces.length]?.portrait)
    if (at % 2 === 1) photo.flop()
    const jpeg = await photo
      .rotate(((at * 7) % 31) - 15, { background: 'grey' })
      .modulate({ brightness: 0.7 + ((at * 11) % 60) / 100 })
      .resize({ width: 200 + ((at * 131) % 1300) })
      .jpeg({ quality: 85 })
      .toBuffer()
    await writeFile(join(into, `guest ${String(at + 1).padStart(3, '0')}.jpg`), jpeg)
  }
}

async function run(photos: string) {
  const began = performance.now()
  const child = spawn(process.execPath, ['--import', 'tsx', 'local/start.ts', '--photos', photos], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  let engineMb = 0
  let treeMb = 0
  let cpuSeconds = 0
  const looking = setInterval(async () => {
    const { pid } = child
    if (pid === undefined) return
    cpuSeconds = Math.max(cpuSeconds, await cpuSecondsOf(pid))
    const own = await memoryOf(pid)
    const all = await Promise.all((await descendantsOf(pid)).map(memoryOf))
    engineMb = Math.max(engineMb, own)
    treeMb = Math.max(
      treeMb,
      all.reduce((sum, one) => sum + one, own),
    )
  }, LOOK_EVERY_MS)
  const [code] = (await once(child, 'exit')) as [number | null]
  clearInterval(looking)
  return { code, seconds: Math.round((performance.now() - began) / 1000), cpuSeconds, engineMb, treeMb }
}

/** In MB; 0 of a process that has ended. */
async function memoryOf(pid: number): Promise<number> {
  const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '')
  const kilobytes = Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0)
  return Math.round((kilobytes * 1024) / MEGABYTE)
}

/** What it has computed, its threads included. A busy machine gives it less of a core than there is time. */
async function cpuSecondsOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  const [user = 0, system = 0] = stat
    .replace(/^.*\) /s, '')
    .split(' ')
    .slice(11, 13)
    .map(Number)
  return Math.round((user + system) / TICKS_A_SECOND)
}

async function descendantsOf(pid: number): Promise<number[]> {
  const children = new Map<number, number[]>()
  for (const entry of await readdir('/proc')) {
    const stat = /^\d+$/.test(entry) ? await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => '') : ''
    const parent = Number(/^\d+ \(.*\) \S (\d+)/s.exec(stat)?.[1] ?? 0)
    children.set(parent, [...(children.get(parent) ?? []), Number(entry)])
  }
  const of = (parent: number): number[] =>
    (children.get(parent) ?? []).flatMap((child) => [child, ...of(child)])
  return of(pid)
}
