import { installedOn, uninstall as remove } from '../../supabase/migrate.ts'
import { databaseUrlOf, placeOf } from '../database-url.ts'
import { EXIT, type ExitCode } from '../exit.ts'
import { plain, type Terminal } from '../terminal.ts'
import { amount, figure } from '../words.ts'

export interface UninstallOptions {
  databaseUrl?: string
  yes?: boolean
}

/** Shows what of ours is in the database, and with `yes` removes it. */
export async function uninstall(
  terminal: Terminal,
  { databaseUrl, yes = false }: UninstallOptions,
): Promise<ExitCode> {
  const url = databaseUrlOf(databaseUrl, process.env)
  const installed = await installedOn(url)
  terminal.write(`${terminal.paint('dim', plain(placeOf(url)))}\n\n`)
  if (installed === null) {
    terminal.write('Nothing of the event indexer is in this database.\n')
    return EXIT.notDone
  }
  const { triggers, functions, tables, migrations, collections } = installed
  const lines = [
    yes ? 'Removed:' : 'What would be removed:',
    ...triggers.map(({ app_table, count }) => `  ${amount(count, 'trigger')} of ${plain(app_table)}`),
    `  ${amount(functions, 'function')}`,
    ...tables.map(({ name, rows }) => `  indexing.${name}, ${amount(rows, 'row')}`),
    ...migrations.map((name) => `  the entry ${name} of supabase_migrations.schema_migrations`),
    '',
    'The app’s tables stay as they are, with the status of their events.',
  ]
  if (collections.length > 0) {
    const some = collections.slice(0, 20).map((id) => `  ${id}`)
    const more =
      collections.length > some.length ? [`  … and ${figure(collections.length - some.length)} more`] : []
    lines.push(
      '',
      `${amount(collections.length, 'collection')} of events may hold faces. ${terminal.paint('yellow', 'Nobody deletes them afterwards')}: have them deleted before, or delete them with aws rekognition delete-collection.`,
      ...some,
      ...more,
    )
  }
  if (yes) await remove(url)
  else
    lines.push(
      '',
      'Nothing was removed. First: npx serverless remove, so that no function runs on; then npx event-indexer uninstall --yes',
    )
  terminal.write(`${lines.join('\n')}\n`)
  return yes ? EXIT.done : EXIT.notDone
}
