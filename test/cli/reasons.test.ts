import { readdir, readFile } from 'node:fs/promises'
import { expect, it } from 'vitest'
import { REASONS, reasonOf } from '../../cli/reasons.ts'

const ROOT = new URL('../../', import.meta.url)

async function textOf(folder: string): Promise<string> {
  const names = await readdir(new URL(folder, ROOT))
  return (await Promise.all(names.map((name) => readFile(new URL(folder + name, ROOT), 'utf8')))).join('\n')
}

/** The reasons that the ledger and the worker give, read from where they give them. */
async function reasonsGiven(): Promise<string[]> {
  const sql = await textOf('supabase/migrations/')
  const worker = await textOf('src/worker/')
  const found = [
    ...(/select case(.*?)as reason\n\) against/s.exec(sql)?.[1] ?? '').matchAll(/then '(\w+)'/g),
    ...sql.matchAll(/(?:'(\w+)' as reason|reason = '(\w+)'(?!\)))/g),
    ...sql.matchAll(/coalesce\(j\.reason, '(\w+)'\)/g),
    ...(/PHOTO_REASONS[^{]*\{(.*?)\n\}/s.exec(worker)?.[1] ?? '').matchAll(/: '(\w+)'/g),
    ...(/export type FailureKind =(.*?)\n\n/s.exec(worker)?.[1] ?? '').matchAll(/'(\w+)'/g),
    ...(await textOf('src/core/')).matchAll(/'(no_face|face_quality)'/g),
  ]
  return [...new Set(found.map(([, first, second]) => first ?? second ?? ''))]
}

it('there are words for every reason that is given', async () => {
  // What is unusable about a photo has reasons of its own.
  const given = (await reasonsGiven()).filter((reason) => reason !== 'photo_unusable')
  expect(given).toEqual(
    expect.arrayContaining(['no_face', 'photo_format', 'denied', 'worker_lost', 'no_word', 'no_consent']),
  )
  expect(given.filter((reason) => !REASONS[reason])).toEqual([])
})

it('every reason can be told to the attendee, or says what the operator does', () => {
  const silent = Object.entries(REASONS).filter(([, { toAttendee, remedy }]) => !toAttendee && !remedy)
  expect(silent).toEqual([])
})

it('what is said to an attendee names no part of the system', () => {
  const words = Object.values(REASONS).flatMap(({ toAttendee = [] }) => toAttendee)
  expect(words.join('\n')).not.toMatch(/rekognition|s3|bucket|collection|quota|index|worker|AWS/i)
})

it('a reason of a newer ledger is shown as it is', () => {
  expect(reasonOf('something_new')).toEqual({ title: 'something_new' })
})
