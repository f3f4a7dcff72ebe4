import { ownAppTables, readAppTables } from '../../supabase/app-tables.ts'
import { migrate as apply, pendingMigrations, renew } from '../../supabase/migrate.ts'
import { databaseUrlOf, placeOf } from '../database-url.ts'
import { EXIT, type ExitCode } from '../exit.ts'
import { plain, type Terminal } from '../terminal.ts'
import { amount } from '../words.ts'

export interface MigrateOptions {
  databaseUrl?: string
  appTables?: string
  dryRun?: boolean
  /** All functions and triggers anew, though every migration is applied. */
  again?: boolean
  /** Whether the names of the app's tables may be others than before, with `again`. */
  otherNames?: boolean
}

/** Applies the migrations that the database does not have. */
export async function migrate(
  terminal: Terminal,
  { databaseUrl, appTables, dryRun = false, again = false, otherNames = false }: MigrateOptions,
): Promise<ExitCode> {
  const url = databaseUrlOf(databaseUrl, process.env)
  const tables = appTables === undefined ? ownAppTables() : readAppTables(appTables)
  terminal.write(`${terminal.paint('dim', plain(placeOf(url)))}\n\n`)
  if (again) {
    await renew(url, { tables, otherNames })
    terminal.write(
      'All functions and triggers are written anew. For what was not noted meanwhile: npx event-indexer audit --all --repair.\n',
    )
    return EXIT.done
  }
  if (dryRun) {
    const pending = await pendingMigrations(url, { tables })
    for (const name of pending) terminal.write(`would apply ${name}\n`)
    terminal.write(
      pending.length === 0
        ? 'Nothing to apply: the database has every migration.\n'
        : 'Nothing was changed. The app’s tables fit.\n',
    )
    return EXIT.done
  }
  const applied = await apply(url, {
    tables,
    onApplied: (name) => terminal.write(`${terminal.paint('green', 'applied')} ${name}\n`),
  })
  terminal.write(
    applied.length === 0
      ? 'Nothing to apply: the database has every migration.\n'
      : `${amount(applied.length, 'migration')} applied. Next: npx serverless deploy, then npx event-indexer doctor.\n`,
  )
  return EXIT.done
}
