import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { FilesError, readPortraits, readSearchPhotos } from '../../local/demo/files.ts'
import { temporaryDirectory } from '../support/child.ts'
import { heicOf } from '../support/heic.ts'

const drawing = (width: number, height = width) =>
  sharp({
    create: {
      width,
      height,
      channels: 3,
      background: '#7c9a7e',
      noise: { type: 'gaussian', mean: 128, sigma: 30 },
    },
  })
const jpeg = await drawing(200).jpeg().toBuffer()
const png = await drawing(200).png().toBuffer()
const webp = await drawing(200).webp().toBuffer()
const flat = await drawing(200, 79).jpeg().toBuffer()
const heic = Buffer.concat([Buffer.from('\0\0\0\x18ftypheic\0\0\0\0mif1heic', 'latin1'), Buffer.alloc(500)])

/** A folder with these files, by their paths in it. */
async function folderOf(files: Record<string, Uint8Array | string>): Promise<string> {
  const folder = await temporaryDirectory()
  for (const [path, content] of Object.entries(files)) {
    await mkdir(join(folder, path, '..'), { recursive: true })
    await writeFile(join(folder, path), content)
  }
  return folder
}

describe('portraits', () => {
  it('are photos of any format, also in folders, each named for its person', async () => {
    const folder = await folderOf({
      'Ada.jpg': jpeg,
      'IMG_0001.HEIC': heic,
      'team/Zoë B..JPEG': webp,
      'team/more/Łukasz.png': png,
    })
    const { guests, leftOut } = await readPortraits(folder)
    expect(guests).toEqual([
      { name: 'Ada', photoFile: join(folder, 'Ada.jpg') },
      { name: 'IMG_0001', photoFile: join(folder, 'IMG_0001.HEIC') },
      { name: 'Zoë B.', photoFile: join(folder, 'team/Zoë B..JPEG') },
      { name: 'Łukasz', photoFile: join(folder, 'team/more/Łukasz.png') },
    ])
    expect(leftOut).toEqual([])
  })

  it.each([
    ['empty.jpg', '', 'is empty'],
    ['.hidden.jpg', jpeg, 'is hidden'],
    ['notes.txt', 'some words about the photos', 'is no photo'],
    ['form.pdf', '%PDF-1.7 a form', 'is no photo'],
    [
      'large.jpg',
      Buffer.concat([jpeg, Buffer.alloc(64 * 1024 * 1024)]),
      'has 64.0 MB; photos of up to 64 MB are read',
    ],
    ['Ada.png', png, 'there is a photo of “Ada” already'],
  ])('%s is left out, with the reason', async (file, content, reason) => {
    const { guests, leftOut } = await readPortraits(await folderOf({ 'Ada.jpg': jpeg, [file]: content }))
    expect(guests.map(({ name }) => name)).toEqual(['Ada'])
    expect(leftOut).toEqual([expect.stringContaining(`${file}: ${reason}`)])
  })

  it('are not looked for in hidden folders, which are named once', async () => {
    const folder = await folderOf({ 'Ada.jpg': jpeg, '.git/one.jpg': jpeg, '.git/two.jpg': jpeg })
    expect((await readPortraits(folder)).leftOut).toEqual(['.git: is hidden'])
  })

  it('are missing in a folder without a usable photo: the error names every file', async () => {
    const reading = readPortraits(await folderOf({ 'a.pdf': '%PDF-1.7', 'b.txt': 'text' }))
    await expect(reading).rejects.toThrow(FilesError)
    await expect(reading).rejects.toThrow(
      /There is no usable photo in .*\n {2}left out a.pdf: .*\n {2}left out b.txt: /,
    )
  })

  it('are asked for where the folder is missing, or no folder', async () => {
    const folder = await folderOf({ 'Ada.jpg': jpeg })
    await expect(readPortraits(join(folder, 'nowhere'))).rejects.toThrow('there is no such file or folder')
    await expect(readPortraits(join(folder, 'Ada.jpg'))).rejects.toThrow('it is no folder')
  })
})

describe('photos to search in', () => {
  it('are taken as they are, or as a smaller JPEG where Rekognition would refuse them', async () => {
    const large = await drawing(3000).jpeg({ quality: 100 }).toBuffer()
    expect(large.length).toBeGreaterThan(5 * 1024 * 1024)
    const wide = await sharp({ create: { width: 10_001, height: 100, channels: 3, background: 'teal' } })
      .png()
      .toBuffer()
    const files = {
      'a.jpg': jpeg,
      'b.webp': webp,
      'c.jpg': large,
      'd.heic': await heicOf(png),
      'e.png': wide,
    }
    const folder = await folderOf(files)
    const photos = await readSearchPhotos(Object.keys(files).map((file) => join(folder, file)))
    expect(photos.map(({ name }) => name)).toEqual(Object.keys(files))
    expect(photos[0]?.bytes).toEqual(jpeg)
    for (const { bytes } of photos.slice(1)) {
      expect((await sharp(bytes).metadata()).format).toBe('jpeg')
      expect(bytes.length).toBeLessThan(5 * 1024 * 1024)
    }
  })

  it('are all named with the reason if they cannot be read', async () => {
    const folder = await folderOf({
      'a.heic': heic,
      'b.jpg': jpeg.subarray(0, 1000),
      'c.txt': 'just some text',
      'e.jpg': flat,
    })
    const files = ['a.heic', 'b.jpg', 'c.txt', 'd.jpg', 'e.jpg', '.'].map((file) => join(folder, file))
    const error = (await readSearchPhotos(files).catch((error) => error)) as FilesError
    expect(error).toBeInstanceOf(FilesError)
    expect(error.message.split('\n').map((line) => line.replace(`${folder}/`, ''))).toEqual([
      'Cannot search in',
      '  a.heic: the file of the photo is damaged',
      expect.stringContaining('  b.jpg: is cut off or damaged'),
      '  c.txt: is no photo',
      '  d.jpg: there is no such file or folder',
      '  e.jpg: has 200 × 79 pixels; Rekognition needs 80 on each side',
      `  ${folder}: is a folder`,
    ])
  })
})
