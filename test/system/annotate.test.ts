import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { expect, it } from 'vitest'
import { annotate } from '../../local/annotate.ts'
import { letter } from '../../local/lettering.ts'

const photo = await sharp({ create: { width: 800, height: 600, channels: 3, background: '#202020' } })
  .jpeg()
  .toBuffer()

const box = { Left: 0.4, Top: 0.4, Width: 0.2, Height: 0.3 }

/** How many pixels of an area (in pixels) fulfil a condition. */
async function count(
  image: Buffer,
  area: { left: number; top: number; width: number; height: number },
  condition: (red: number, green: number, blue: number) => boolean,
): Promise<number> {
  const pixels = await sharp(image).extract(area).raw().toBuffer()
  let matching = 0
  for (let at = 0; at < pixels.length; at += 3) {
    if (condition(pixels[at] ?? 0, pixels[at + 1] ?? 0, pixels[at + 2] ?? 0)) matching++
  }
  return matching
}

const isWhite = (red: number, green: number, blue: number) => Math.min(red, green, blue) > 200
const isGreen = (red: number, green: number, blue: number) => green > red + 60 && green > blue + 30

const aboveTheBox = { left: 300, top: 200, width: 200, height: 38 }

it('returns a JPEG of the size of the photo', async () => {
  const { format, width, height } = await sharp(await annotate(photo, [])).metadata()
  expect({ format, width, height }).toEqual({ format: 'jpeg', width: 800, height: 600 })
})

it('draws a found face in green, with white letters on green above it', async () => {
  const image = await annotate(photo, [{ box, label: 'person-07', found: true }])
  expect(await count(image, { left: 310, top: 230, width: 180, height: 20 }, isGreen)).toBeGreaterThan(300)
  expect(await count(image, aboveTheBox, isGreen)).toBeGreaterThan(500)
  expect(await count(image, aboveTheBox, isWhite)).toBeGreaterThan(50)
})

it('draws a face that was not found without green', async () => {
  const image = await annotate(photo, [{ box, label: 'nobody', found: false }])
  const everywhere = { left: 0, top: 0, width: 800, height: 600 }
  expect(await count(image, everywhere, isGreen)).toBe(0)
  expect(await count(image, aboveTheBox, isWhite)).toBeGreaterThan(50)
})

it('puts the label below a face at the upper edge, and keeps it on the photo at the right edge', async () => {
  const edge = { Left: 0.9, Top: 0, Width: 0.1, Height: 0.2 }
  const image = await annotate(photo, [{ box: edge, label: 'person-07', found: true }])
  expect(await count(image, { left: 600, top: 124, width: 200, height: 40 }, isWhite)).toBeGreaterThan(50)
})

it('letters the scripts that the font has, each character with an outline', () => {
  for (const text of ['person-07', 'Zoë', 'Łukasz', 'Ελένη', 'Юрий']) {
    const { path, width } = letter(text, 20)
    expect(path).not.toContain('NaN')
    expect(path.match(/M/g)?.length).toBeGreaterThanOrEqual([...text].length)
    expect(width).toBeGreaterThan(20)
  }
})

it('shows the same on a machine without any fonts', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'annotate-'))
  try {
    const here = await annotate(photo, [{ box, label: 'person-07', found: true }])
    writeFileSync(join(folder, 'photo.jpg'), photo)
    writeFileSync(join(folder, 'fonts.conf'), '<?xml version="1.0"?><fontconfig></fontconfig>')
    const script = `
      import { readFileSync, writeFileSync } from 'node:fs'
      import { annotate } from ${JSON.stringify(new URL('../../local/annotate.ts', import.meta.url).href)}
      const marks = [{ box: ${JSON.stringify(box)}, label: 'person-07', found: true }]
      annotate(readFileSync('photo.jpg'), marks).then((image) => writeFileSync('there.jpg', image))`
    writeFileSync(join(folder, 'draw.mts'), script)
    execFileSync(process.execPath, ['--import', import.meta.resolve('tsx'), 'draw.mts'], {
      cwd: folder,
      env: { ...process.env, FONTCONFIG_FILE: join(folder, 'fonts.conf') },
    })
    expect(readFileSync(join(folder, 'there.jpg')).equals(here)).toBe(true)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
