import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { renew } from '../../supabase/migrate.ts'
import { migrationNames } from '../../supabase/migrations.ts'
import { checksum } from '../../supabase/sources.ts'
import { changedSources, releasedFiles } from '../../supabase/write-migration.ts'
import { atOnce, one, openLedger, sentEvent } from '../support/ledger.ts'

const MIGRATIONS = new URL('../../supabase/migrations/', import.meta.url)
const textOf = (file: string) => readFileSync(new URL(file, MIGRATIONS), 'utf8')

describe('the migrations', () => {
  it('have every source as it is now', () => {
    expect(changedSources(migrationNames())).toEqual([])
  })

  it('are not edited once they are released', () => {
    for (const [file, sum] of Object.entries(releasedFiles()))
      expect([file, migrationNames().includes(file), checksum(textOf(file))]).toEqual([file, true, sum])
  })

  it('replace the functions of a ledger at work without touching what is in it', async () => {
    const ledger = await sentEvent(6, { ofItsOwn: true })
    const { app, database, event, inside, lease, messages, owner } = ledger
    const { prepare, processChanges, rescue, sendAll, takeSendBatch, work } = ledger
    await work(messages.slice(0, 2))
    await lease(messages.slice(2, 4))
    await app.leave(
      event,
      messages.slice(0, 1).map(({ user_id }) => user_id),
    )
    await processChanges()
    await takeSendBatch({ page: 1 })
    await owner.query("select indexing.configure_nudge('https://scheduler.example/', 'a secret of length')")
    await app.consent(event, await app.users(3)) // noted, not processed
    const tables = ['event_runs', 'face_jobs', 'changes', 'dead_letters', 'pace', 'nudging', 'settings']
    const content = () =>
      Promise.all(
        tables.map(
          async (table) => (await owner.query(`select * from indexing.${table} order by 1, 2`)).rows,
        ),
      )
    const before = await content()

    for (let time = 0; time < 2; time++) await renew(database.url)
    expect(await content()).toEqual(before)

    const { rows } = await owner.query(`
      select tgrelid::regclass::text as "table", count(*)::int as triggers from pg_trigger
      where tgname like 'indexing%' group by 1 order by 1`)
    expect(rows).toEqual([
      { table: 'event_consents', triggers: 4 },
      { table: 'events', triggers: 3 },
      { table: 'profiles', triggers: 5 },
    ])

    await work(messages.slice(4))
    await prepare()
    await work(await sendAll())
    await inside.expireLeases()
    await inside.expireSendBatches()
    await rescue()
    await work(await sendAll())
    expect(await inside.states(event)).toEqual({ indexed: 8, erased: 1 })
    expect(await app.status(event)).toBe('completed')
  })

  it('run over the app while it writes', async () => {
    const { app, database, owner } = await openLedger({ ofItsOwn: true })
    const event = await app.event({ active: false })
    const users = await app.users(60)
    await Promise.all([
      renew(database.url),
      atOnce(60, (index) => app.consent(event, users.slice(index, index + 1))),
    ])
    expect(await one(owner, 'select count(*)::int from indexing.changes where event_id = $1', [event])).toBe(
      60,
    )
  })
})
