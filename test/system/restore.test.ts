import { expect, it, onTestFinished } from 'vitest'
import { type AuditDocument, audit } from '../../cli/commands/audit.ts'
import { runCommand } from '../support/operator.ts'
import { openStage, type Stage } from '../support/stage.ts'

/** All tables of the app and of ours, in an order in which they can be filled. */
async function tablesOf({ sql }: Stage): Promise<string[]> {
  const [{ ours = [] } = {}] = await sql<{ ours: string[] }>(
    `select array_agg(oid::regclass::text) as ours from pg_class where relkind = 'r' and relnamespace = 'indexing'::regnamespace`,
  )
  return ['auth.users', 'public.events', 'public.profiles', 'public.event_consents', ...ours]
}

async function backUp(stage: Stage): Promise<void> {
  const copies = (await tablesOf(stage)).map((table) => `create table backup."${table}" as table ${table}`)
  await stage.sql(`create schema backup; ${copies.join('; ')}`)
}

/** Puts the copies back, as a restore does: no trigger fires. */
async function restore(stage: Stage): Promise<void> {
  const tables = await tablesOf(stage)
  const triggers = (what: string) =>
    tables
      .filter((table) => table.startsWith('public.'))
      .map((table) => `alter table ${table} ${what} trigger user`)
  await stage.sql(
    [
      ...triggers('disable'),
      `truncate ${tables.join(', ')}`,
      ...tables.map((table) => `insert into ${table} overriding system value table backup."${table}"`),
      ...triggers('enable'),
    ].join('; '),
  )
}

it('after a restored backup, audit --all --repair brings every collection to the restored consents, and reports the orphan', async () => {
  const stage = await openStage()
  onTestFinished(stage.close)
  const { comeToRest, createAttendee, createEvent, facesOf, sql, upload, whileLiving } = stage
  const event = await createEvent()
  const over = await createEvent()
  const revoking = await createAttendee(event)
  const changing = await createAttendee(event)
  const leaving = await createAttendee(over)
  await comeToRest()
  await sql(
    "update events set starts_at = now() - interval '3 h', ends_at = now() - interval '1 h' where event_id = $1",
    [over],
  )
  await comeToRest()
  await backUp(stage)

  await createAttendee(event)
  await sql('update event_consents set allow_recognition = false where user_id = any ($1)', [
    [revoking, leaving],
  ])
  await sql('update profiles set photo_path = $2 where user_id = $1', [changing, await upload()])
  const orphan = await createEvent()
  await createAttendee(orphan)
  await comeToRest()
  expect(facesOf(event)).toHaveLength(2)
  expect(facesOf(over)).toHaveLength(0)
  expect(facesOf(orphan)).toHaveLength(1)

  await restore(stage)
  await stage.timePasses()
  const ask = async (options: object) => {
    const { code, out } = await runCommand(audit, { ...options, json: true }, stage.environment)
    return { code, document: JSON.parse(out) as AuditDocument }
  }
  const { code, document } = await whileLiving(() => ask({ all: true, repair: true }))
  expect(document.orphans).toEqual([`memento_event_${orphan}`])
  expect(document.left).toEqual([])
  expect(code).toBe(2) // for the orphan
  const found = Object.fromEntries(
    document.events.map(({ event_id, differences }) => [event_id, differences]),
  )
  expect(found[event]).toMatchObject({ extra: 1, missing: 2 })
  expect(found[over]).toMatchObject({ missing: 1 })

  for (const each of [event, over]) {
    const faces = (facesOf(each) ?? []).toSorted((a, b) => (a.user ?? '').localeCompare(b.user ?? ''))
    expect(faces).toEqual(await stage.wantedFacesOf(each))
  }
  expect(facesOf(event)).toHaveLength(2)
  expect(facesOf(over)).toHaveLength(1)

  await runCommand(audit, { deleteCollection: `memento_event_${orphan}`, yes: true }, stage.environment)
  expect(await ask({ all: true })).toMatchObject({ code: 0, document: { orphans: [] } })
})
