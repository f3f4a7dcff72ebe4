import { readFileSync } from 'node:fs'
import { Argument, Command, InvalidArgumentError, Option } from 'commander'
import type { LocalCommands } from '../local/commands.ts'
import { JOB_STATES, type JobState } from '../src/core/contract.ts'
import type { AttendeeOptions } from './commands/attendee.ts'
import { EXIT, EXIT_CODES, type ExitCode, OperatorError } from './exit.ts'
import { isId } from './ids.ts'
import { REPLAYABLE, reasonOf } from './reasons.ts'
import type { Session } from './session.ts'
import { plainLines, type Terminal, terminalOf, wrap } from './terminal.ts'
import { PATIENCE_MS } from './words.ts'

const DESCRIPTION =
  'Shows the state of events and why attendees are not indexed; tries failed attendees again; audits, erases, and proves erasures.'

const AFTER_HELP = `
Which system:
  --stage NAME      a deployed stage, with SUPABASE_URL and the AWS credentials
                    and region in the environment. The key comes from its SSM
                    parameter, unless SUPABASE_SERVICE_ROLE_KEY or
                    SUPABASE_SERVICE_ROLE_KEY_PARAMETER is set.
  SUPABASE_URL      otherwise, if it is set: what the environment names, with
                    SUPABASE_SERVICE_ROLE_KEY, WORK_QUEUE_URL and
                    URGENT_QUEUE_URL
  npm run dev       otherwise, while it runs: the local system, by itself

  ATTENDEE_NAME_COLUMN  the column of profiles that holds names: they are shown
                    by status --state, attendee and export, and in no log
  NO_COLOR          no colours
  TZ                the time zone of all times, such as Europe/Berlin; otherwise
                    this machine's

Exit codes:
${exitCodes()}

Examples:
  npx event-indexer status --stage prod --watch
  npx event-indexer status --event 8c1e7a52-5c0d-4c55-9d8e-6b1e6d1b9a11
  npx event-indexer replay --event 8c1e7a52-5c0d-4c55-9d8e-6b1e6d1b9a11
  npx event-indexer replay --all-failed --yes --no-wait
`

const STATUS_JSON = `
--json prints one object; with --watch one a line, every two seconds. Fields may
be added, never changed. Times are ISO 8601.
  at, system, url
  index_faces_tps       IndexFaces calls a second that the account allows, as
                        the scheduler goes by
  index_faces_rate      those of this moment, fewer for a while after Rekognition
                        has throttled: what ready_at and late assume
  dead_letters          messages that are not ours and that nobody has
                        acknowledged; null with --event
  events[]              the soonest start first
    event_id, name, starts_at
    status              the app's indexing_status; null: the event was deleted
    state               in_progress, completed, failed; or unclaimed

    if it is claimed:
    attendees           { indexed, skipped, failed, erased, queued, in_flight }
    skipped, failed     { REASON: how many }
    open                { ERROR: how many }: those without an outcome by the
                        error of their last attempt, "" where there was none
    ahead               attendees of other events whose turn comes first
    index_calls         IndexFaces calls spent
    oldest_open         since when the oldest without an outcome waits, or null
    last_ended          when an attendee last had an outcome, or null
    ended_lately        how many had one in the last two minutes
    ready_at            when the last one is expected to be done, or null
    late                whether that is after the start
    missing_at_start    how many will then have no outcome
    paused              what an operator has paused: event, everything, or null
    ends_at, claimed_at, settled_at
    reconciled_at       when the collection was last compared with the ledger
    reason              why it was settled so, where its attendees do not say it
    collection          missing, ready, closing, deleted
    collection_error    why it could not be made, or null

    if it is unclaimed:
    active, paused
    attendees           how many consent

    with --event, if it is claimed:
    failures[]          { user_id, reason, error, attempts }
    skips[]             { user_id, reason, photo_key, to_attendee }, the last in
                        words that can be passed on, or null
    drift[]             what reconciles have found and put right, the latest
                        first: { at, extra, missing, doubled, unnoticed,
                        stale_photos, recreated }; see audit --help
    attendee_list[]     with --state: { user_id, name, state, reason, error,
                        to_attendee, photo_key, face_id, attempts, index_calls }
`

const CHECK_HELP = `
GO, exit code 0: the app recognises the attendees of the event, and no change
has waited for more than two minutes. NO GO, exit code 2: the line says why.
Failed attendees of a completed event do not make it NO GO; the line counts them.
`

const ATTENDEE_JSON = `
--json prints one object. Fields may be added, never changed. Times are ISO 8601.
  at, system, url, user_id
  attendee_name         null unless ATTENDEE_NAME_COLUMN is set
  events[]              the latest start first
    event_id, name, starts_at, version
    state               queued, sent, running, indexed, erased, skipped, failed
    reason, error       why, and of the last attempt that went wrong, or null
    to_attendee         the reason in words that can be passed on, or null
    desired_reason      why the app wants no face of them; null: it wants one
    photo_key, face_id  what was looked at last, and its face, or null
    attempts            at this version
    index_calls         IndexFaces calls spent
    queued_at, ended_at, look_again_at
    history[]           { at, outcome, reason, error }, the last ten attempts
`

const REPLAY_HELP = `
What is queued is sent at once, with your own rights to the queues; without them
the scheduler sends it within a minute. Ctrl-C leaves it running.

Reasons:
${REPLAYABLE.map((code) => `  ${code.padEnd(22)}${reasonOf(code).title}`).join('\n')}
`

const DASHBOARD_HELP = `
Prints a link that opens the page once, in one browser. The page works with your
own rights, which stay in this program; nothing is deployed, and the browser
keeps nothing but a cookie. Every button says first how many it touches. Ctrl-C
ends it.
`

const AUDIT_HELP = `
Lists each collection, with your own rights to Rekognition and the photo bucket,
and compares it with the ledger, the app's tables and the photos. Without
--repair nothing is changed. With it a job is queued for each difference, as the
scheduler does by itself, and followed until it has ended; then the collection
is compared once more. Exit code 0: nothing differs.

  extra          attendees with a face in the collection who should have none
  missing        attendees whose face is not in the collection
  doubled        attendees with several faces, or with another face than the
                 ledger has
  unnoticed      attendees whose consent or photo has changed since, and the
                 ledger does not know it yet
  stale_photos   attendees whose photo was replaced after it was indexed
  foreign        faces whose ExternalImageId is no user id: never touched

Without --event it looks for collections with our prefix that belong to no event
of ours. They are deleted one by one, by their id: stages may share an account.

After a restored backup: audit --all --repair

--json prints one object. Fields may be added, never changed.
  at, system, url
  events[]    { event_id, differences: { KIND: attendees }, foreign, faces,
              recreated, who: [{ user_id, difference }] }
  left        with --repair: those that still differed afterwards, or null
  orphans     ids of collections, or null with --event
`

const REHEARSE_HELP = `
Does what the worker would do with each photo, on this machine, with the face
engine of the local system in place of Rekognition: no photo is sent anywhere,
and nothing is written. Photos are read with your own rights to the bucket. Half
a second to a second a photo on two cores. The engine is another one than
Rekognition's, so a face at the limit may be judged otherwise there. It goes by
the settings SEVERAL_FACES and CONVERT_PHOTOS that are deployed.

Exit code 0: everybody who consents will be recognised; 2: somebody will not be,
or nobody could look.

--json prints one object. Fields may be added, never changed. Times are ISO 8601.
  at, system, url, event_id, name, starts_at
  consenting, recognised, share   share is 0 to 1, or null where nobody consents
  several_faces     skip or largest: the setting that it went by
  convert_photos    true or false: likewise
  not_recognised[]  { user_id, name, photo_key, outcome: skipped or failed,
                    reason, error, to_attendee }, the last in words that can be
                    passed on, or null; name needs ATTENDEE_NAME_COLUMN
  alike[]           { user_ids: [ID, ID], similarity }: faces so similar that
                    each may be taken for the other
`

const ERASE_HELP = `
For a request by law. Without --yes it lists what it would delete, exit code 1.

An attendee: every face of theirs is deleted, those that the ledger does not
know included, through the urgent queue. Refused as long as the app still wants
a face of theirs, for it would be indexed again at once: take the consent back
in the app first.

An event: its collection is deleted with all faces; cleanup_status is moved to
in_progress and, when the collection is gone for good, to completed.

Then it waits for the proof, two to four minutes: exit code 0 when a later
listing has shown that the faces are gone, 2 when it has failed.
`

const PROVE_HELP = `
Each revocation has a receipt: when the app's change was noted, when DeleteFaces
had answered, when a later listing was seen without a face of theirs. Receipts
are a chain: each has the hash of the one before, so that none can be changed or
removed without a trace. Exit code 0: all is proven; 2: an erasure is still open,
or the chain is broken; 1: no erasure is known.

--json prints one object. Fields may be added, never changed. Times are ISO 8601.
  at, system, url
  proven      whether the exit code is 0 or 1
  chain       { through, hash, broken_at }
  open[]      { event_id, user_id, reason, noted_at, faces, deleted_at,
              verified_at, wanted_again_at, state, error }
  receipts[]  the same without the last two, and { position, sealed_at, text,
              previous, hash }: sha256 of the bytes of previous and of the text
  standing[]  events with a face of theirs at this moment
user_id is null where the whole collection of an event was deleted.
`

const PAUSE_HELP = `
Erasures go on, and the ledger is kept up to date. Messages that are in the
queues already, up to a minute or two of work, are still handled. status lists
what is paused.
`

const REDRIVE_HELP = `
The finalizer moves dead letters into the ledger, where replay finds them. A
message that stays in the queue could not be moved, most likely because the
database did not answer: redrive has it tried again. It needs no database.
`

const DEAD_LETTERS_JSON = `
--json prints one object. Fields may be added, never changed. Times are ISO 8601.
  at, system, url
  queue     { waiting, in_flight }, at this moment in the dead-letter queue
  kept[]    { message_id, received_at, problem, body, attributes }, the last
            being SQS's own, the latest message first
`

const LOG_HELP = `
The latest first, at most 200. The name is that of the user and the machine which
ran the program.

--json prints one object. Fields may be added, never changed. Times are ISO 8601.
  at, system, url
  actions[]   { id, at, actor, action, event_id, user_id, note, touched }
`

const DOCTOR_HELP = `
Asks the database, the queues, the photo bucket and Rekognition, with your own
rights; with --stage also the deployed functions, rules, alarms and quotas. It
changes nothing, and sends one request without a secret to the nudge's URL.

  ok        as it should be
  problem   the system does not work as it should, or will not: exit code 2
  note      it works, and could do better
  unknown   you may not look at it; the line names the right that you need

--json prints one object. Fields may be added, never changed.
  at, system, url
  healthy     whether there is no problem
  checks[]    { check, verdict, found, todo }, the last null where there is
              nothing to do
`

const MIGRATE_HELP = `
Each migration is applied once, in one transaction together with its entry in
supabase_migrations.schema_migrations, as the Supabase CLI records it. The first
one that fails ends it, exit code 2; those before it stay. Before anything is
changed it looks whether the app's tables have the columns and types that are
read. Several may run at once. The database first, then the functions.

--again brings back functions and triggers that were dropped, replaced or
disabled by hand, and applies an app-tables.yml that has changed, then with
--other-names.
`

const UNINSTALL_HELP = `
Removes triggers, functions, the schema indexing with its tables, and their
entries in the history of migrations. The app's tables stay, with the status of
their events. Without --yes it only lists what it would remove, exit code 1.
Before it: npx serverless remove. Afterwards migrate installs anew.
`

function exitCodes(): string {
  return Object.entries(EXIT)
    .map(([name, code]) => {
      const lines = wrap(EXIT_CODES[name as keyof typeof EXIT], 80, 7)
      return `  ${String(code).padEnd(5)}${lines.trimStart()}`
    })
    .join('\n')
}

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
