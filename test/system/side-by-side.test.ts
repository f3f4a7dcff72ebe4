import { expect, it, vi } from 'vitest'
import { runSql } from '../../local/migrations.ts'
import { SCHEMA_VERSION } from '../../src/core/contract.ts'
import { freshSystem } from '../support/system.ts'

const NEXT = SCHEMA_VERSION + 1
const REFUSAL = `the database has schema version ${NEXT}, these functions need ${SCHEMA_VERSION}: deploy the functions of the release whose migrations were applied`

const schemaIs = (version: string) => `
  create or replace function public.indexing_schema_version() returns integer
  language sql volatile security definer set search_path = '' as $$ select ${version} $$`

it('functions of a release whose database was migrated to the next refuse and say what to deploy; nothing is lost until then', async () => {
  const logged: string[] = []
  const { app, database, functions, rekognition } = await freshSystem({
    tps: 1000,
    onLog: (_, line) => logged.push(line),
  })
  const event = await app.createEvent({ name: 'Opening night', startsAt: new Date(Date.now() + 600_000) })
  const people = ['One', 'Two', 'Three'].map((name) => ({ name, photo: `the face of ${name}` }))
  await app.addAttendees(event, people)

  // It is migrated at the moment when the first messages are on their way.
  const migrated = `case when exists (select from indexing.face_jobs) then ${NEXT} else ${SCHEMA_VERSION} end`
  await runSql(database.url, schemaIs(migrated))
  await functions.invoke('scheduler', {})
  await vi.waitFor(() => expect(logged.join('\n')).toContain('the worker could not do anything'), 30_000)
  expect(logged.filter((line) => line.includes('the worker could not do anything')).join('\n')).toContain(
    REFUSAL,
  )
  await expect(functions.invoke('scheduler', {})).rejects.toThrow(REFUSAL)
  expect(rekognition.calls().IndexFaces.calls).toBe(0)
  expect(await app.statusOf(event)).toBe('in_progress')

  // The deployment: new containers of functions that fit. Here the database becomes one that fits.
  await runSql(database.url, schemaIs(String(SCHEMA_VERSION)))
  for (const name of ['scheduler', 'worker'])
    for (const container of functions.containers(name)) container.terminate()
  await vi.waitFor(async () => expect(await app.statusOf(event)).toBe('completed'), { timeout: 100_000 })
  expect(rekognition.calls().IndexFaces.calls).toBe(people.length)
}, 180_000)
