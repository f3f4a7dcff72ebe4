import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { Font, PathCommand } from 'opentype.js'

/** Text as outlines: SVG path data, and how wide it came out. */
export interface Lettering {
  path: string
  width: number
}

/** The font comes in one file a script; a character is taken from the first that has it. */
const scripts = ['latin', 'latin-ext', 'greek', 'greek-ext', 'cyrillic', 'cyrillic-ext']

const require = createRequire(import.meta.url)
// Not by import: the package hides its names from ES modules.
const { parse }: typeof import('opentype.js') = require('opentype.js')

let fonts: Font[] | undefined

/**
 * Text as outlines, beginning at (0, 0) on the baseline, `size` pixels high. SVG's own text would need fonts installed
 * on the machine; without any, it shows boxes for letters. A character that the font has not shows as a box.
 */
export function letter(text: string, size: number): Lettering {
  let width = 0
  let path = ''
  for (const character of text) {
    const font = fontWith(character)
    path += font.getPath(character, width, 0, size).commands.map(pathData).join('')
    width += font.getAdvanceWidth(character, size)
  }
  return { path, width }
}

/** Not `Path.toPathData`, which writes NaN for numbers close to none. */
function pathData(command: PathCommand): string {
  switch (command.type) {
    case 'M':
    case 'L':
      return `${command.type}${numbers(command.x, command.y)}`
    case 'Q':
      return `Q${numbers(command.x1, command.y1, command.x, command.y)}`
    case 'C':
      return `C${numbers(command.x1, command.y1, command.x2, command.y2, command.x, command.y)}`
    case 'Z':
      return 'Z'
  }
}

function numbers(...values: number[]): string {
  return values.map((value) => value.toFixed(1)).join(' ')
}

function fontWith(character: string): Font {
  fonts ??= scripts.map(loadFont)
  const font = fonts.find((candidate) => candidate.charToGlyphIndex(character) > 0) ?? fonts[0]
  if (!font) throw new Error('There is no font to letter with')
  return font
}

function loadFont(script: string): Font {
  const name = '@fontsource/ubuntu-condensed'
  const file = readFileSync(require.resolve(`${name}/files/ubuntu-condensed-${script}-400-normal.woff`))
  return parse(file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength))
}
