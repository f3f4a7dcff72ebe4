import { readFileSync } from 'node:fs'
import { Argument, Command, InvalidArgumentError, Option } from 'commander'
import type { LocalCommands } from '../local/commands.ts'
import { JOB_STATES, type JobState } from '../src/core/contract.ts'
import type { AttendeeOptions } from './commands/attendee.ts'
import { EXIT, type ExitCode, OperatorError } from './exit.ts'
import {
  AFTER_HELP,
  ATTENDEE_JSON,
  AUDIT_HELP,
  CHECK_HELP,
  DASHBOARD_HELP,
  DEAD_LETTERS_JSON,
  DESCRIPTION,
  DOCTOR_HELP,
  ERASE_HELP,
  LOG_HELP,
  MIGRATE_HELP,
  PAUSE_HELP,
  PROVE_HELP,
  REDRIVE_HELP,
  REHEARSE_HELP,
  REPLAY_HELP,
  STATUS_JSON,
  UNINSTALL_HELP,
} from './help.ts'
import { isId } from './ids.ts'
import { REPLAYABLE } from './reasons.ts'
import type { Session } from './session.ts'
import { plainLines, type Terminal, terminalOf } from './terminal.ts'
import { PATIENCE_MS } from './words.ts'

/** Runs the command that the arguments name, and ends the process with its exit code. */
export async function main(argv: string[]): Promise<void> {
  // A reader may close the pipe early: event-indexer status | head
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT.done)
    throw error
  })
  await programOf(process.exit).parseAsync(argv)
}

function programOf(exit: (code: ExitCode) => void): Command {
  /** Loads a command when it is asked for, runs it in a session, and says its errors to the operator. */
  const run =
    <Options>(load: () => Promise<(session: Session, options: Options) => Promise<ExitCode>>) =>
    async (options: Options & { stage?: string }) => {
      const code = await answer(options.stage, async (session) => (await load())(session, options))
      process.stdout.write('', () => exit(code)) // when all is written
    }
  /** The same for a command that needs a direct connection to the database and nothing else. */
  const runDirectly =
    <Options>(load: () => Promise<(terminal: Terminal, options: Options) => Promise<ExitCode>>) =>
    async (options: Options & { databaseUrl?: string }) => {
      const code = await answerDirectly(options.databaseUrl, async (terminal) =>
        (await load())(terminal, options),
      )
      process.stdout.write('', () => exit(code))
    }
  const stage = () =>
    new Option('--stage <name>', 'a deployed stage, such as prod').argParser(
      matching(/^[a-zA-Z0-9-_]+$/, 'It is not the name of a stage.'),
    )

  const program = new Command('event-indexer')
    .description(DESCRIPTION)
    .addHelpText('after', AFTER_HELP)
    .showHelpAfterError('See --help.')
    .helpCommand('help [command]', 'the same as --help')
    .version(versionOf(), '--version', 'the release of this program')

  program
    .command('status')
    .description('how events stand: attendees by outcome, what is still open, when they will be ready')
    .option(
      '--event <id>',
      'one event, with who failed and why, and who was skipped and what to tell them',
      uuid,
    )
    .addOption(
      new Option(
        '--state <states>',
        `with --event, list its attendees in these states too: ${JOB_STATES.join(', ')}, or all`,
      ).argParser(states),
    )
    .option('--watch', 'look again every two seconds, until Ctrl-C')
    .option('--json', 'for scripts')
    .addOption(stage())
    .addHelpText('after', STATUS_JSON)
    .hook('preAction', (command) => {
      const { event, state } = command.opts()
      if (state && !event) command.error('error: --state goes with --event')
    })
    .action(run(async () => (await import('./commands/status.ts')).status))

  program
    .command('doctor')
    .description(
      'check settings, database, queues, bucket, permissions, alarms; for each problem, what to do',
    )
    .option('--json', 'for scripts')
    .addOption(stage())
    .addHelpText('after', DOCTOR_HELP)
    .action(run(async () => (await import('./commands/doctor.ts')).doctor))

  program
    .command('check')
    .description('whether an event is ready, in one line: GO or NO GO')
    .requiredOption('--event <id>', 'this event', uuid)
    .addOption(stage())
    .addHelpText('after', CHECK_HELP)
    .action(run(async () => (await import('./commands/check.ts')).check))

  program
    .command('attendee')
    .description('what happened to one attendee: state, reason, what to tell them, and the last attempts')
    .addArgument(new Argument('<user>', 'the id of the attendee').argParser(uuid))
    .option('--event <id>', 'at this event alone', uuid)
    .option('--json', 'for scripts')
    .addOption(stage())
    .addHelpText('after', ATTENDEE_JSON)
    .action((user: string, options: Omit<AttendeeOptions, 'user'> & { stage?: string }) =>
      run(async () => (await import('./commands/attendee.ts')).attendee)({ ...options, user }),
    )

  program
    .command('export')
    .description('every attendee of an event with their state and what to tell them')
    .requiredOption('--event <id>', 'this event', uuid)
    .requiredOption('--csv', 'as CSV')
    .addOption(stage())
    .action(run(async () => (await import('./commands/export.ts')).exportEvent))

  const replaying = program
    .command('replay')
    .description('try failed attendees again, and follow it until their events are settled')
    .option('--event <id>', 'of this event', uuid)
    .option('--user <id>', 'this attendee alone', uuid)
    .addOption(
      new Option('--reason <reason>', 'those alone who failed, or were skipped, for this reason').argParser(
        reason,
      ),
    )
    .option('--all-failed', 'of all events, after a look at what that would touch')
    .option('--yes', 'do not ask')
    .option('--no-wait', 'do not follow it')
    .addOption(stage())
    .addHelpText('after', REPLAY_HELP)
  replaying.action(run(async () => (await import('./commands/replay.ts')).replay))
  replaying.hook('preAction', (command) => {
    const { event, user, reason, allFailed } = command.opts()
    if (!event === !allFailed) command.error('error: say what to replay: either --event ID or --all-failed')
    if (allFailed && (user || reason)) command.error('error: --user and --reason go with --event')
  })

  program
    .command('rehearse')
    .description('days before an event: which attendees will not be recognised, and why; without Rekognition')
    .requiredOption('--event <id>', 'this event', uuid)
    .option(
      '--photos <folder>',
      'a copy of the photo bucket, such as aws s3 sync makes; the bucket itself unless given',
    )
    .option('--json', 'for scripts')
    .addOption(stage())
    .addHelpText('after', REHEARSE_HELP)
    .action(run(async () => (await import('./commands/rehearse.ts')).rehearse))

  program
    .command('dashboard')
    .description('the same in your browser, from this machine alone, refreshed all the time')
    .option('--read-only', 'show, and do nothing')
    .addOption(new Option('--port <port>', 'a free one unless given').argParser(port))
    .addOption(stage())
    .addHelpText('after', DASHBOARD_HELP)
    .action(run(async () => (await import('./commands/dashboard.ts')).dashboard))

  const auditing = program
    .command('audit')
    .description('compare collections with what they should be, and repair them')
    .option('--event <id>', 'of this event', uuid)
    .option('--all', 'of every event whose collection is there')
    .option('--repair', 'and repair each difference')
    .option('--delete-collection <id>', 'delete this collection, which belongs to no event')
    .option('--yes', 'do it: with --delete-collection')
    .option('--json', 'for scripts')
    .addOption(stage())
    .addHelpText('after', AUDIT_HELP)
  auditing.action(run(async () => (await import('./commands/audit.ts')).audit))
  auditing.hook('preAction', (command) => {
    const { all, deleteCollection, event, repair } = command.opts()
    if (event && all) command.error('error: either --event ID or --all')
    if (repair && !event && !all) command.error('error: say what to repair: either --event ID or --all')
    if (deleteCollection && (event || all))
      command.error('error: --delete-collection goes with neither --event nor --all')
  })

  const erasing = program
    .command('erase')
    .description('erase an attendee or an event at once, and wait for the proof')
    .option('--user <id>', 'this attendee, at every event or at the one of --event', uuid)
    .option('--event <id>', 'this event as a whole, or where --user is erased', uuid)
    .option('--yes', 'do it')
    .option('--no-wait', 'do not wait for the proof')
    .addOption(stage())
    .addHelpText('after', ERASE_HELP)
  erasing.action(run(async () => (await import('./commands/erase.ts')).erase))
  erasing.hook('preAction', (command) => {
    const { event, user } = command.opts()
    if (!event && !user) command.error('error: say what to erase: --user ID, --event ID, or both')
  })

  const proving = program
    .command('prove')
    .description('the receipts of erasures, and whether their chain is whole')
    .option('--user <id>', 'of this attendee', uuid)
    .option('--event <id>', 'of this event', uuid)
    .option('--json', 'for scripts')
    .addOption(stage())
    .addHelpText('after', PROVE_HELP)
  proving.action(run(async () => (await import('./commands/prove.ts')).prove))
  proving.hook('preAction', (command) => {
    const { event, user } = command.opts()
    if (!event && !user) command.error('error: say what to prove: --user ID, --event ID, or both')
  })
  const pausing = (name: 'pause' | 'resume', description: string) => {
    const command = program
      .command(name)
      .description(description)
      .option('--event <id>', 'this event', uuid)
      .option('--all', 'everything')
      .addOption(stage())
      .action(run(async () => (await import('./commands/pause.ts'))[name]))
    command.hook('preAction', () => {
      const { event, all } = command.opts()
      if (!event === !all) command.error('error: say what: either --event ID or --all')
    })
    return command
  }
  pausing('pause', 'send no jobs of an event, or of any event, to the workers').addHelpText(
    'after',
    PAUSE_HELP,
  )
  pausing('resume', 'end the pause of an event, or every pause')

  program
    .command('redrive')
    .description('move the messages of the dead-letter queue back to the work queue')
    .addOption(stage())
    .addHelpText('after', REDRIVE_HELP)
    .action(run(async () => (await import('./commands/redrive.ts')).redrive))

  program
    .command('dead-letters')
    .description(
      'dead letters that were not sent by this system, and how many messages are in the dead-letter queue now',
    )
    .option('--acknowledge [ids...]', 'list these messages no more, or none of those that are there now')
    .option('--json', 'for scripts')
    .addOption(stage())
    .addHelpText('after', DEAD_LETTERS_JSON)
    .action(run(async () => (await import('./commands/dead-letters.ts')).deadLetters))

  program
    .command('log')
    .description('what operators have done in the last 30 days, by commands or by the page')
    .option('--event <id>', 'about this event, or about everything', uuid)
    .option('--json', 'for scripts')
    .addOption(stage())
    .addHelpText('after', LOG_HELP)
    .action(run(async () => (await import('./commands/log.ts')).log))

  const database = () =>
    new Option('--database-url <url>', 'connection string of the database’s owner; DATABASE_URL unless given')
  program
    .command('migrate')
    .description('apply the migrations that the database does not have')
    .option('--dry-run', 'tell which, and whether the app’s tables fit; change nothing')
    .addOption(
      new Option(
        '--again',
        'write all functions and triggers anew, though every migration is applied',
      ).conflicts('dryRun'),
    )
    .option('--other-names', 'with --again: the app’s tables have other names than before')
    .option('--app-tables <file>', 'names of the app’s tables; app-tables.yml unless given')
    .addOption(database())
    .addHelpText('after', MIGRATE_HELP)
    .action(runDirectly(async () => (await import('./commands/migrate.ts')).migrate))

  program
    .command('uninstall')
    .description('list what this system has in the database, and remove it')
    .option('--yes', 'remove it')
    .addOption(database())
    .addHelpText('after', UNINSTALL_HELP)
    .action(runDirectly(async () => (await import('./commands/uninstall.ts')).uninstall))

  addLocal(program.command('local').description('act as the app does, in the system of npm run dev'), exit)
  return program
}

/** The commands of the local system, whose code is loaded when one is asked for. */
function addLocal(local: Command, exit: (code: ExitCode) => void): void {
  const run = async (act: (commands: LocalCommands) => Promise<string[]>) => {
    const code = await answerLocally(act)
    process.stdout.write('', () => exit(code))
  }
  const event = () => new Option('--event <id>', 'the next one unless given').argParser(uuid)

  local
    .command('event')
    .description('create an event')
    .argument('<name>')
    .option('--in <minutes>', 'minutes until it starts, such as 10m', minutes, 10)
    .action((name: string, options: { in: number }) => run((commands) => commands.event(name, options.in)))
  local
    .command('add')
    .description('bring somebody with a photo to an event')
    .argument('<name>')
    .argument('<photo>', 'a file')
    .addOption(event())
    .action((name: string, photo: string, options: { event?: string }) =>
      run((commands) => commands.add(name, photo, options.event)),
    )
  local
    .command('find')
    .description("who of an event's attendees are on a photo")
    .argument('<photo>', 'a file')
    .addOption(event())
    .action((photo: string, options: { event?: string }) =>
      run((commands) => commands.find(photo, options.event)),
    )
  local
    .command('sql')
    .description('run one SQL statement, as the database’s owner')
    .argument('<statement>')
    .action((statement: string) => run((commands) => commands.sql(statement)))
}

async function answerLocally(act: (commands: LocalCommands) => Promise<string[]>): Promise<ExitCode> {
  const { openLocal } = await import('../local/commands.ts')
  let commands: LocalCommands | undefined
  try {
    commands = await openLocal()
    for (const line of await act(commands)) process.stdout.write(`${line}\n`)
    return EXIT.done
  } catch (error) {
    return tell(error)
  } finally {
    await commands?.close()
  }
}

async function answer(
  stage: string | undefined,
  command: (session: Session) => Promise<ExitCode>,
): Promise<ExitCode> {
  const { openSession } = await import('./session.ts')
  let session: Session | undefined
  try {
    session = await openSession(stage)
    return await command(patient(session))
  } catch (error) {
    return tell(session ? (await import('./explain.ts')).explain(error, session.system) : error)
  }
}

async function answerDirectly(
  databaseUrl: string | undefined,
  command: (terminal: Terminal) => Promise<ExitCode>,
): Promise<ExitCode> {
  try {
    return await command(terminalOf(process.stdout, process.env))
  } catch (error) {
    if (error instanceof OperatorError) return tell(error)
    const { databaseUrlOf, explainConnection } = await import('./database-url.ts')
    return tell(explainConnection(error, databaseUrlOf(databaseUrl, process.env)))
  }
}

/** Tells the operator an error that is meant for people; throws any other. */
function tell(error: unknown): ExitCode {
  if (!(error instanceof OperatorError)) throw error
  process.stderr.write(`${plainLines(error.message)}\n`)
  return error.exitCode
}

const versionOf = (): string =>
  JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version

/** The session, saying after a while without any output that it waits. */
function patient({ terminal, ...session }: Session): Session {
  const waiting = setTimeout(
    () => process.stderr.write(`Waiting for an answer from ${plainLines(session.system.name)} …\n`),
    PATIENCE_MS,
  )
  waiting.unref()
  const write = terminal.write
  terminal.write = (text) => {
    clearTimeout(waiting)
    write(text)
  }
  return { ...session, terminal }
}

const matching = (pattern: RegExp, otherwise: string) => (text: string) => {
  if (pattern.test(text)) return text
  throw new InvalidArgumentError(otherwise)
}

function uuid(text: string): string {
  if (isId(text)) return text.toLowerCase()
  throw new InvalidArgumentError('It is not an id such as 8c1e7a52-5c0d-4c55-9d8e-6b1e6d1b9a11.')
}

function minutes(text: string): number {
  const value = Number(/^(\d+(?:\.\d+)?)m?$/.exec(text)?.[1])
  if (value <= 10_080) return value
  throw new InvalidArgumentError('It is not a number of minutes up to a week, such as 10m.')
}

function port(text: string): number {
  const value = Number(text)
  if (Number.isInteger(value) && value > 0 && value < 65_536) return value
  throw new InvalidArgumentError('It is not a port such as 8080.')
}

function states(text: string): JobState[] {
  if (text === 'all') return [...JOB_STATES]
  const wanted = text.split(',')
  const known = JOB_STATES.filter((state) => wanted.includes(state))
  if (known.length === wanted.length) return known
  throw new InvalidArgumentError(`Each must be one of: ${JOB_STATES.join(', ')}; or all.`)
}

function reason(text: string): string {
  if (REPLAYABLE.includes(text)) return text
  throw new InvalidArgumentError(`It is none of: ${REPLAYABLE.join(', ')}.`)
}
