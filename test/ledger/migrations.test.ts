import { describe, expect, it } from 'vitest'
import { applyMigrations } from '../../local/migrations.ts'
import { atOnce, one, openLedger, sentEvent } from '../support/ledger.ts'

describe('the migrations', () => {
  it('run again over a ledger at work without touching what is in it', async () => {
    const ledger = await sentEvent(6, { ofItsOwn: true })
    const { absorb, app, begin, database, event, inside, messages, nextPage } = ledger
    const { owner, prepare, sendAll, sweep, work } = ledger
    await work(messages.slice(0, 2))
    await begin(messages.slice(2, 4))
    await app.leave(
      event,
      messages.slice(0, 1).map(({ user_id }) => user_id),
    )
    await absorb()
    await nextPage(1)
    await owner.query("select indexing.configure_nudge('https://scheduler.example/', 'a secret of length')")
    await app.consent(event, await app.users(3)) // noted, not absorbed
    const tables = ['event_runs', 'face_jobs', 'changes', 'dead_letters', 'pace', 'nudging']
    const content = () =>
      Promise.all(
        tables.map(
          async (table) => (await owner.query(`select * from indexing.${table} order by 1, 2`)).rows,
        ),
      )
    const before = await content()

    await applyMigrations(database.url)
    await applyMigrations(database.url)
    expect(await content()).toEqual(before)

    const { rows } = await owner.query(`
      select tgrelid::regclass::text as "table", count(*)::int as triggers from pg_trigger
      where tgname like 'indexing%' group by 1 order by 1`)
    expect(rows).toEqual([
      { table: 'event_consents', triggers: 3 },
      { table: 'events', triggers: 2 },
      { table: 'profiles', triggers: 3 },
    ])

    await work(messages.slice(4))
    await prepare()
    await work(await sendAll())
    await inside.expireLeases()
    await inside.expirePages()
    await sweep()
    await work(await sendAll())
    expect(await inside.states(event)).toEqual({ indexed: 8, erased: 1 })
    expect(await app.status(event)).toBe('completed')
  })

  it('run over the app while it writes', async () => {
    const { app, database, owner } = await openLedger({ ofItsOwn: true })
    const event = await app.event({ active: false })
    const users = await app.users(60)
    await Promise.all([
      applyMigrations(database.url),
      atOnce(60, (index) => app.consent(event, users.slice(index, index + 1))),
    ])
    expect(await one(owner, 'select count(*)::int from indexing.changes where event_id = $1', [event])).toBe(
      60,
    )
  })
})
