import { readdir, readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { REASONS, reasonOf } from '../../cli/reasons.ts'

const ROOT = new URL('../../', import.meta.url)

async function textOf(folder: string): Promise<string> {
  const names = (await readdir(new URL(folder, ROOT))).filter((name) => /\.(ts|sql)$/.test(name))
  return (await Promise.all(names.map((name) => readFile(new URL(folder + name, ROOT), 'utf8')))).join('\n')
}

const wordsIn = (text: string, pattern: RegExp): string[] =>
  [...text.matchAll(pattern)].map(([, ...groups]) => groups.find((group) => group !== undefined) ?? '')

/** A part of a source, which this test rests on. */
function part(text: string, pattern: RegExp): string {
  const found = pattern.exec(text)?.[1]
  if (found === undefined) throw new Error(`the sources have nothing like ${pattern}`)
  return found
}

/** The reasons that the ledger and the worker give, read from where they give them. */
async function reasonsGiven(): Promise<string[]> {
  const sql = await textOf('supabase/source/')
  const worker = await textOf('src/worker/')
  const converter = await textOf('src/converter/')
  const core = await textOf('src/core/')
  const formats = wordsIn(part(core, /const FORMATS[^=]*= \[(.*?)\n\]/s), /\['(\w+)'/g)
  return [
    ...wordsIn(part(sql, /select case\n((?:(?!select case).)*?)end as reason\n/s), /then '(\w+)'/g),
    ...wordsIn(sql, /'(\w+)' as reason|\breason :?= '(\w+)'|coalesce\(\w+\.reason, '(\w+)'\)/g),
    ...wordsIn(part(worker, /export type FailureKind =(.*?)\n\n/s), /'(\w+)'/g),
    ...wordsIn(worker + converter, /'(photo_\w+)'/g),
    ...formats.map((format) => `photo_${format}`),
    ...wordsIn(part(core, /QUALITY_REASONS[^{]*\{(.*?)\n\}/s), /: '(\w+)'/g),
    ...wordsIn(core, /'((?:no_face|face_\w+|several_faces))'/g),
  ].filter((reason) => !NO_REASONS.has(reason))
}

/** An unusable photo has reasons of its own; these two formats are taken. */
const NO_REASONS = new Set(['photo_unusable', 'photo_jpeg', 'photo_png'])

describe('there are words for every reason that is given', () => {
  it('and no others', async () => {
    const given = [...new Set(await reasonsGiven())].sort()
    expect(given).toEqual(
      expect.arrayContaining([
        ...['no_consent', 'event_inactive', 'no_photo', 'photo_missing', 'photo_heic', 'several_faces'],
        ...['face_blurred', 'denied', 'worker_lost', 'message_lost', 'no_word', 'collection_failed'],
      ]),
    )
    expect(Object.keys(REASONS).sort()).toEqual(given)
  })

  it('for the operator, and for the attendee wherever it is about them', () => {
    const silent = Object.entries(REASONS).filter(([, { toAttendee, remedy }]) => !toAttendee && !remedy)
    expect(silent).toEqual([])
    const untold = Object.keys(REASONS).filter(
      (reason) => /^(no_p|photo_|face_|several_)/.test(reason) && !REASONS[reason]?.toAttendee,
    )
    expect(untold).toEqual(['photo_unreadable']) // it is ours to mend
  })
})

it.each(['heic', 'avif', 'webp', 'gif', 'bmp', 'tiff', 'pdf'])(
  'an attendee who uploaded a %s file is told how to turn it into an accepted photo',
  (format) => {
    expect(reasonOf(`photo_${format}`).toAttendee).toMatch(/JPEG|Most Compatible/)
    expect(reasonOf(`photo_${format}`).toAttendee).toContain('screenshot')
  },
)

it('what is said to an attendee names no part of the system', () => {
  const words = Object.values(REASONS).flatMap(({ toAttendee = [] }) => toAttendee)
  expect(words.join('\n')).not.toMatch(/rekognition|s3|bucket|collection|quota|index|worker|\baws/i)
})

it('a reason of a newer ledger is shown as it is', () => {
  expect(reasonOf('something_new')).toEqual({ title: 'something_new' })
})
